"""Selective distillation of stereo knowledge: a stereo method teaches where it is better (METHOD.md section 5).

**[paper]** (Song & Yoon, arXiv 2205.08668) proxy depth of a stereo network, a mask decoder whose two binary masks take,
pixel by pixel, the proxy or the network's own depth, a depth decoder that learns from the proxy inside its mask alone,
and a student that copies the stereo network's features (methods.transfer); **[ours]** the equations. With z the mask
decoder's logits, pe the photometric error of the target rebuilt from the stereo view, o the proxy's left/right
failures, D own depth, sg the stop-gradient:

    e_p = sg pe(I_t, I_s<D_proxy>),  e_m = sg pe(I_t, I_s<D>),  m = straight-through argmax of (z + gumbel) / tau
    pi = softmax(z / tau)
    mask = mean(m_p e_p + m_m e_m) + 0.1 mean(o m_p) + 0.01 edge-aware smoothness of pi_p + 0.001 mean(z^2)
    proxy = sum sg(m_p) log(1 + |D - D_proxy|) / sum sg(m_p)

The mask loss trains the mask decoder and the encoder below it. The proxy loss trains depth alone. So the masks cannot
lower the proxy loss by refusing proxies, and depth cannot lower the mask loss by becoming easy to choose.

Where no proxy is known, e_p is raised by 1000, so that argmin takes own depth. The mask loss leaves these pixels out
**[ours]**: there is nothing to choose, and means in the thousands would take up the whole clipped gradient. Smoothness
looks at pi without the noise **[ours]**, because the noise differs from pixel to pixel. The term mean(z^2) is ours: at
the start the proxy is better nearly everywhere. Without this term the logits reach thousands within 150 steps; then the
noise changes no choice, every gradient is zero, and the masks take all proxies from there on.

Both "independent" masks may be off **[ours]**. A mask that is off costs the smaller of two errors: that of the other
source, and that of the unwarped stereo view, as in auto-masking (1.3). Without this cost both would always be off.
"""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict

from robustdepth.errors import UserError, nearest
from robustdepth.geometry.depth import DepthRange, stereo_disparity
from robustdepth.geometry.se3 import stereo_motion
from robustdepth.geometry.warp import synthesise
from robustdepth.imaging.resize import resize_image
from robustdepth.imaging.ssim import moments
from robustdepth.losses.consistency import masked_mean
from robustdepth.losses.photometric import photometric_error
from robustdepth.losses.smoothness import edge_aware
from robustdepth.methods.method import METHODS, Method, Terms
from robustdepth.models.depth_net import DepthOutput
from robustdepth.models.mask_decoder import OWN, PROXY, hard_masks
from robustdepth.numerics import safe_div
from robustdepth.types import STEREO, Array, Batch, Term

MODES = OFF, ARGMIN, LEARNED, INDEPENDENT = "off", "argmin", "learned", "independent"
LEARNING = (LEARNED, INDEPENDENT)  # those that need a mask decoder
UNKNOWN = 1000.0  # added to the error of a proxy that is not there
FAILED, SMOOTH, HOLD = 0.1, 0.01, 0.001  # weights within the mask loss
Plane = Float[Array, "batch height width"]
Known = Bool[Array, "batch height width"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """config.selective, and what of the other sections counts here."""

    depths: DepthRange
    ssim_share: float  # of the photometric error
    mode: str  # one of MODES
    temperature: tuple[float, float]  # of the straight-through masks, at the start and at the end of the training
    steps: int  # of the training
    argmin_steps: float  # of the training in which depth learns by argmin masks

    @classmethod
    def of(cls, config: ConfigDict, learnt: nn.Module | None = None) -> "Settings":
        own, steps = config.selective, config.optimizer.steps
        ssim_share, argmin_steps = config.reprojection.ssim_share, own.argmin_share * steps
        return cls(DepthRange.of(config), ssim_share, own.mask, tuple(own.temperature), steps, argmin_steps)


class Errors(NamedTuple):
    """Photometric errors of the target rebuilt from the stereo view, at full size; no gradient passes."""

    proxy: Plane  # by the proxy; UNKNOWN more where there is none
    own: Plane  # by the network's own depth
    still: Plane  # of the stereo view as it stands
    known: Known  # where there is a proxy


class Masks(NamedTuple):
    """Which source is taken: 0 or 1, with the gradient of the soft choice where a mask decoder makes it."""

    soft: Float[Array, "batch height width 2"]  # pi, without noise: channels PROXY and OWN
    proxy: Plane  # m_p; 0 where no proxy is known
    own: Plane  # m_m
    strength: Plane  # mean of z^2; 0 where no mask decoder chooses


def stereo_there(batch: Batch) -> Bool[Array, "batch"]:
    """Which samples have a stereo view. Raises `UserError` where no sample can have one."""
    if STEREO not in batch.source_names:
        raise UserError(
            f"selective distillation needs the stereo view, and config.data.views is {batch.source_names}: "
            'add "stereo" to it, or set config.loss.proxy=0.'
        )
    return batch.source_valid[:, batch.source_names.index(STEREO)]


def proxy_depth(batch: Batch, depths: DepthRange) -> tuple[Plane, Known]:
    """The proxy's depth fx |baseline| / disparity in metres, clamped to the depth range, and where it is known.

    It is known where a sample has a stereo view, a baseline and a positive disparity; elsewhere depth means nothing.

    Raises:
      UserError: the batch holds no disparities, or disparities of another size than its images.
    """
    if batch.disparity is None:
        raise UserError(
            "selective distillation found no proxies with its images: set config.selective.proxy, and with "
            '"stereo_net" config.selective.teacher, with "files" config.selective.folder.'
        )
    if batch.disparity.shape[1:3] != batch.camera.size:
        raise UserError(
            f"proxies of {batch.disparity.shape[1:3]} do not fit images of {batch.camera.size} (height, width): "
            "make them for this image size."
        )
    known = (batch.disparity > 0) & jnp.isfinite(batch.disparity)
    known &= (stereo_there(batch) & (batch.baseline != 0))[:, None, None]
    depth = stereo_disparity(jnp.where(known, batch.disparity, 1.0), batch.camera.focal[:, 0], batch.baseline)
    return lax.stop_gradient(jnp.clip(depth, *depths)), known


def source_errors(batch: Batch, proxy: Plane, known: Known, own: Plane, ssim_share: float) -> Errors:
    """Photometric errors of either depth (metres, full size) (5.3).

    No gradient passes: masks follow the errors, and depth must not change to make a mask cheaper.
    """
    stereo_there(batch)
    source = batch.sources[:, batch.source_names.index(STEREO)]
    target, motion = moments(batch.target), stereo_motion(batch.baseline)

    def error(depth: Plane) -> Plane:
        view, _ = synthesise(source, lax.stop_gradient(depth), batch.camera, motion)
        return photometric_error(target, view, ssim_share)

    unknown = jnp.where(known, 0.0, UNKNOWN)
    errors = Errors(error(proxy) + unknown, error(own), photometric_error(target, source, ssim_share), known)
    return lax.stop_gradient(errors)


def binary_masks(
    logits: Float[Array, "batch height width 2"] | None,
    errors: Errors,
    mode: str,
    temperature: Float[Array, ""] | float = 1.0,
    key: Array | None = None,
) -> Masks:
    """Hard masks with straight-through gradients (5.3; Jang et al., ICLR 2017).

    Args:
      logits: the mask decoder's, at full size; None for the modes that have none.
      errors: of both sources.
      mode: "off" (the proxy wherever it is known), "argmin" (the source with the smaller error), "learned" (one of
        both), "independent" (each on its own).
      temperature: tau; small ones make the choice harder, and its gradient larger and rarer.
      key: draws the noise that explores; None (evaluation): none, and the same masks every time.
    """
    known = errors.known.astype(jnp.float32)
    if mode not in LEARNING:
        if mode not in MODES:
            raise UserError(f'config.selective.mask="{mode}": {nearest(mode, MODES)}')
        proxy = known if mode == OFF else (errors.proxy < errors.own).astype(jnp.float32)
        return Masks(jnp.stack([proxy, 1.0 - proxy], axis=-1), proxy, 1.0 - proxy, jnp.zeros_like(proxy))
    if logits is None:
        raise UserError(f'config.selective.mask="{mode}" needs the logits of a mask decoder, and there are none.')
    independent = mode == INDEPENDENT
    soften = nn.sigmoid if independent else nn.softmax
    draw = jax.random.logistic if independent else jax.random.gumbel
    noisy = logits if key is None else logits + draw(key, logits.shape)
    drawn = soften(noisy / temperature)
    # Forwards 0 or 1, exactly; backwards the soft choice.
    straight = hard_masks(noisy, independent) + (drawn - lax.stop_gradient(drawn))
    proxy = known * straight[..., PROXY]
    own = straight[..., OWN] if independent else known * straight[..., OWN] + (1.0 - known)
    return Masks(soften(logits / temperature), proxy, own, jnp.mean(jnp.square(logits), axis=-1))


def mask_loss(
    masks: Masks, errors: Errors, failed: Known, there: Bool[Array, "batch"], guide: Array, mode: str
) -> dict[str, Term]:
    """What the mask decoder learns by (5.4), to be summed: "mask" is a mean over the pixels whose proxy is known.

    "mask/smooth" and "mask/hold" are means over the samples that have a stereo view, and over their pixels.

    Args:
      masks, errors: of one mode that learns.
      failed: o, where the proxy fails its left/right check.
      there: which samples have a stereo view; the others add nothing to the smoothness either.
      guide: the target, whose edges may carry edges of the masks.
      mode: "learned" or "independent".
    """
    cost = masks.proxy * errors.proxy + masks.own * errors.own + FAILED * failed.astype(jnp.float32) * masks.proxy
    if mode == INDEPENDENT:
        cost += (1.0 - masks.proxy) * jnp.minimum(errors.own, errors.still)
        cost += (1.0 - masks.own) * jnp.minimum(errors.proxy, errors.still)
    chosen = masked_mean(cost, errors.known)
    counts = there.astype(jnp.float32)
    rough = safe_div(edge_aware(counts[:, None, None] * masks.soft[..., PROXY], guide), jnp.mean(counts))
    strength = masked_mean(masks.strength, jnp.broadcast_to(there[:, None, None], failed.shape))
    return {
        "mask": chosen,
        "mask/smooth": Term(SMOOTH * rough, jnp.sum(counts)),
        "mask/hold": Term(HOLD * strength.value, strength.count),
    }


def proxy_loss(depth: Plane, proxy: Plane, taken: Known) -> Term:
    """mean log(1 + |D - D_proxy|) over the pixels where the proxy is taken (5.5); depths in metres."""
    return masked_mean(jnp.log1p(jnp.abs(depth - proxy)), taken)


def temperature_at(settings: Settings, step: Int[Array, ""]) -> Float[Array, ""]:
    """tau at a step: linear over the training between the two of config.selective.temperature (5.3)."""
    start, end = settings.temperature
    return start + (end - start) * jnp.clip(step.astype(jnp.float32) / settings.steps, 0.0, 1.0)


def masks_settle(settings: Settings, step: Int[Array, ""]) -> Bool[Array, ""]:
    """Whether depth still learns by argmin masks, while the mask decoder learns to choose (5.7)."""
    return step.astype(jnp.float32) < settings.argmin_steps


def mask_logits(output: DepthOutput, mode: str, size: tuple[int, int]) -> Array | None:
    """The mask decoder's logits at full size; None where `mode` (config.selective.mask) has none.

    Raises:
      UserError: the mode needs a mask decoder and the network has none.
    """
    if mode not in LEARNING:
        return None
    if output.mask is None:
        raise UserError(
            f'config.selective.mask="{mode}" needs a mask decoder, and the depth network has none: '
            'set config.model.mask_decoder="loss", or choose the mask "argmin" or "off".'
        )
    return resize_image(output.mask, size)


def terms(settings: Settings, output: DepthOutput, batch: Batch, key: Array, step: Int[Array, ""]) -> Terms:
    """The losses of section 5.2 to 5.5 and 5.7 for one depth prediction, unweighted.

    Samples without a stereo view or without proxies count nothing.

    Args:
      output: of the depth network.
      batch: float images, not jittered, with `disparity` and perhaps `disparity_failed`.
      key: for the masks' noise.
      step: of the training.

    Returns:
      losses ("proxy", and "mask" where masks are learned), quantities to watch ("mask_proxy", the share of known
      proxies that depth learns from, where it is a choice, and "proxy_known", the share of pixels that have one), and
      images to show.

    Raises:
      UserError: no stereo view, no proxies or proxies of another size, no mask decoder where one is needed.
    """
    size, mode = batch.camera.size, settings.mode
    there = stereo_there(batch)
    proxy, known = proxy_depth(batch, settings.depths)
    depths = [settings.depths.full_depth(d, size) for d in output.disparities]
    errors = source_errors(batch, proxy, known, depths[0], settings.ssim_share)
    masks = binary_masks(mask_logits(output, mode, size), errors, mode, temperature_at(settings, step), key)
    losses: dict[str, Term] = {}
    chosen = masks.proxy
    if mode in LEARNING:
        failed = jnp.zeros_like(known) if batch.disparity_failed is None else batch.disparity_failed
        losses |= mask_loss(masks, errors, failed, there, batch.target, mode)
        chosen = jnp.where(masks_settle(settings, step), binary_masks(None, errors, ARGMIN).proxy, chosen)
    taken = lax.stop_gradient(chosen) > 0.5  # sg(m_p): a mask that could shrink this loss would never take a proxy
    proxy_losses = [proxy_loss(depth, proxy, taken) for depth in depths]
    losses["proxy"] = Term(jnp.mean(jnp.stack([term.value for term in proxy_losses])), proxy_losses[0].count)
    there_everywhere = jnp.broadcast_to(there[:, None, None], known.shape)
    watched = {"proxy_known": masked_mean(known.astype(jnp.float32), there_everywhere)}
    if mode != OFF:
        watched["mask_proxy"] = masked_mean(taken.astype(jnp.float32), known)
    images = {"proxy": jnp.where(known, 1.0 / proxy, 0.0), "mask": taken.astype(jnp.float32)}
    return Terms(losses, watched, images)


METHODS.add(
    "selective",
    Method(
        ("proxy",),
        Settings.of,
        lambda settings, seen, key: terms(settings, seen.output, seen.clean, key, seen.step),
    ),
)

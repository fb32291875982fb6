"""Training the stereo teacher: on the procedural world's true disparity, or on real pairs without it (METHOD.md 5.1).

The network answers for the left of two views. Samples whose target is the right camera are mirrored, so that they too
have the target left; with targets of both cameras, each view is thereby rebuilt from the other at no further cost.
Random mirroring would be undone the same way: config.data.flip changes nothing here. Every head of the network learns
by the same terms.

**[paper]** a stereo network trained without LiDAR and then frozen; **[ours]** the terms, after the sources named there.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from robustdepth.data.source import FILES, SGM
from robustdepth.errors import UserError
from robustdepth.geometry.stereo import in_right_image, matched, mirrored, occluded
from robustdepth.imaging.color import jitter
from robustdepth.imaging.ssim import moments
from robustdepth.losses.consistency import masked_mean
from robustdepth.losses.photometric import photometric_error
from robustdepth.losses.smoothness import smoothness
from robustdepth.methods.augment import augment, mirror
from robustdepth.methods.forward import apply, mode_of
from robustdepth.methods.method import Aux, LossFn, Terms, weighted_sum
from robustdepth.numerics import safe_div
from robustdepth.streams import stream
from robustdepth.switches import uses
from robustdepth.types import STEREO, Array, Batch, PyTree, Term

# Of a network's heads, the best last, as Guo et al. (CVPR 2019) weigh GwcNet's four; fewer heads take the last ones.
HEAD_WEIGHTS = (0.5, 0.5, 0.7, 1.0)
TERMS = ("disparity", "photometric", "hints", "smoothness")


class Pair(NamedTuple):
    """Clean views with the left camera as target, and what is known of their disparity."""

    left: Float[Array, "batch height width 3"]
    right: Float[Array, "batch height width 3"]
    known: Float[Array, "batch height width"]  # truth or hint in pixels, 0 where there is none
    there: Bool[Array, "batch height width"]  # pixels of samples that have a stereo view


class Settings(NamedTuple):
    """What the terms of a head depend on."""

    terms: tuple[str, ...]  # those that have a weight
    limit: float  # the largest disparity that the network can answer, pixels
    ssim_share: float  # of the photometric error


def make_stereo_loss(config: ConfigDict, network: nn.Module) -> LossFn:
    """The stereo network's objective, a loss_fn as `objective.make_loss_fn` makes them, on params["stereo"].

    Terms, each where config.loss gives it a weight: "disparity" (`batch.disparity` is the truth), "photometric",
    "hints" (`batch.disparity` is a hint) and "smoothness". Samples without a stereo view count in none of them.

    Args:
      network: (left, right, train) -> StereoOutput, see models.stereo_net.

    Raises:
      UserError: where the config leaves the network nothing to learn from.
    """
    check_stereo(config)
    weighted = tuple(name for name in TERMS if uses(config, name))
    settings = Settings(weighted, float(network.max_disparity), config.reprojection.ssim_share)
    data, stereo, mode = config.data, config.stereo, mode_of(config)

    def loss_fn(params: PyTree, stats: PyTree, batch: Batch, key: Array, step: Array) -> tuple[Array, Aux]:
        turned = batch.baseline < 0
        views = augment(
            mirror(batch, turned), stream(key, "augment"), flip=False, strength=tuple(data.jitter), grey=data.grey
        )
        view = batch.source_names.index(STEREO)
        seen = views.seen_target, views.seen_sources[:, view]
        if stereo.exposure or stereo.noise:
            seen = unlike_cameras(*seen, stream(key, "cameras"), stereo.exposure, stereo.noise)
        output, new_stats = apply(network, "stereo", params, stats, *seen, **mode)
        pair = pair_of(views.clean, view)
        heads = [head_terms(settings, disparity, pair) for disparity in output.disparities]
        losses = over_heads([head.losses for head in heads])
        images = {"target": pair.left, "disparity": output.disparities[-1] / settings.limit}
        shown = {name: mirrored(image, turned) for name, image in images.items()}
        return weighted_sum(config.loss, losses, step), Aux(new_stats, losses, heads[-1].watched, shown)

    return loss_fn


def unlike_cameras(
    left: Float[Array, "batch height width 3"],
    right: Float[Array, "batch height width 3"],
    key: Array,
    exposure: float,
    noise: float,
) -> tuple[Float[Array, "batch height width 3"], Float[Array, "batch height width 3"]]:
    """Makes the two views differ as those of two real cameras do, in [0, 1] **[ours]**: rendered views are too alike.

    Every view draws brightness and contrast of its own, factors of 1 +- `exposure` for half of them, and then normal
    noise of a deviation between 0 and `noise`.
    """
    jitter_key, spread_key, noise_key = jax.random.split(key, 3)
    pair = jnp.stack([left, right], axis=1)  # not after each other: no image shall leave the device of its sample
    views = pair.reshape(-1, 1, *left.shape[1:])
    views = jitter(views, jitter_key, (exposure, exposure, 0.0, 0.0))[:, 0]
    spread = jax.random.uniform(spread_key, (views.shape[0], 1, 1, 1), maxval=noise)
    views = jnp.clip(views + spread * jax.random.normal(noise_key, views.shape), 0.0, 1.0)
    views = views.reshape(pair.shape)
    return views[:, 0], views[:, 1]


def check_stereo(config: ConfigDict) -> None:
    """Refuses a config of task "stereo" that lacks a stereo view or a loss that its data can serve.

    Raises:
      UserError: one sentence that names the key and what would be right.
    """
    loss = config.loss
    if STEREO not in config.data.views:
        raise UserError(f'config.task="stereo" needs pairs: add "stereo" to config.data.views={config.data.views}.')
    if not uses(config, "disparity", "photometric", "hints"):
        raise UserError(
            'config.task="stereo" has nothing to learn from: give config.loss.disparity a weight (procedural world), '
            "or config.loss.photometric and config.loss.hints (recordings)."
        )
    if loss.disparity and (config.data.name != "none" or config.data.world_share != 1.0):
        raise UserError(
            f'config.loss.disparity needs the true disparity, which config.data.name="{config.data.name}" has none '
            'of: set config.data.name="none" and config.data.world_share=1.0, or config.loss.disparity=0 with '
            "config.loss.photometric and config.loss.hints."
        )
    if loss.disparity and loss.hints:
        raise UserError(
            "config.loss.disparity and config.loss.hints both have a weight, but a batch holds either the truth or "
            "hints: set one of them to 0."
        )
    if loss.hints and config.selective.proxy not in (SGM, FILES):
        raise UserError(
            f'config.loss.hints needs config.selective.proxy="{SGM}" or "{FILES}" to say where hints come from, not '
            f'"{config.selective.proxy}".'
        )


def pair_of(clean: Batch, view: int) -> Pair:
    """The stereo pair of a batch of float images whose targets are left cameras; `view` is the stereo source.

    A hint counts as unknown where it fails the left/right check of the method that made it.
    """
    shape = clean.target.shape[:3]
    known = jnp.zeros(shape, jnp.float32) if clean.disparity is None else clean.disparity
    known = known if clean.disparity_failed is None else jnp.where(clean.disparity_failed, 0.0, known)
    there = jnp.broadcast_to(clean.source_valid[:, view, None, None], shape)
    return Pair(clean.target, clean.sources[:, view], known, there)


def head_terms(settings: Settings, disparity: Float[Array, "batch height width"], pair: Pair) -> Terms:
    """Losses (unweighted) and quantities to watch of one head's disparity of the left image, in pixels."""
    limit, share, wanted = settings.limit, settings.ssim_share, settings.terms
    losses, watched = {}, {"disparity_mean": masked_mean(disparity, pair.there)}
    if "disparity" in wanted:
        losses["disparity"] = supervised(disparity, pair, limit)
        watched |= errors_to_truth(disparity, pair)
    if "photometric" in wanted or "hints" in wanted:
        target = moments(pair.left)
        error = photometric_error(target, matched(disparity, pair.right), share)
    if "photometric" in wanted:
        # Pixels that the right camera does not see count nothing: no disparity rebuilds them.
        visible = lax.stop_gradient(in_right_image(disparity) & ~occluded(disparity)) & pair.there
        losses["photometric"] = masked_mean(error, visible)
        watched["visible"] = masked_mean(visible.astype(jnp.float32), pair.there)
    if "hints" in wanted:
        of_hint = photometric_error(target, matched(pair.known, pair.right), share)
        usable = (pair.known > 0) & (pair.known < limit) & in_right_image(pair.known) & pair.there
        wins = usable & (of_hint < lax.stop_gradient(error))
        losses["hints"] = towards_hints(disparity, pair, wins)
        watched["hints_used"] = masked_mean(wins.astype(jnp.float32), pair.there)
    if "smoothness" in wanted:
        losses["smoothness"] = smooth(disparity, pair)
    return Terms(losses, watched)


def supervised(disparity: Float[Array, "batch height width"], pair: Pair, limit: float) -> Term:
    """Smooth L1 in pixels, where the truth is known and in the network's range (Chang & Chen, CVPR 2018).

    0.5 e^2 for errors e below one pixel, |e| - 0.5 beyond.
    """
    counts = (pair.known > 0) & (pair.known < limit) & pair.there
    return masked_mean(optax.losses.huber_loss(disparity, pair.known, delta=1.0), counts)


def towards_hints(
    disparity: Float[Array, "batch height width"], pair: Pair, wins: Bool[Array, "batch height width"]
) -> Term:
    """log(1 + |d - d_hint|) where the hint wins and 0 elsewhere, mean over all pixels (Watson et al., ICCV 2019).

    A hint wins where it explains the left view better than the network's own disparity. As the mean is over all pixels,
    hints fade out while the network learns to do better.
    """
    return masked_mean(jnp.where(wins, jnp.log1p(jnp.abs(disparity - pair.known)), 0.0), pair.there)


def smooth(disparity: Float[Array, "batch height width"], pair: Pair) -> Term:
    """Edge-aware smoothness, mean over the samples that have a stereo view; its unit cancels, see `smoothness`."""
    flat = jnp.where(pair.there, disparity, 1.0)  # constant: 0 in the mean over the batch
    count = jnp.sum(pair.there[:, 0, 0].astype(jnp.float32))
    return Term(safe_div(smoothness(flat, pair.left) * disparity.shape[0], count, floor=1.0), count)


def errors_to_truth(disparity: Float[Array, "batch height width"], pair: Pair) -> dict[str, Term]:
    """Mean error in pixels, and the share of pixels that are more than three pixels off, where the truth is known."""
    known, error = (pair.known > 0) & pair.there, jnp.abs(disparity - pair.known)
    return {
        "end_point_error": masked_mean(error, known),
        "bad3": masked_mean((error > 3.0).astype(jnp.float32), known),
    }


def over_heads(heads: list[dict[str, Term]]) -> dict[str, Term]:
    """The terms of all heads with `HEAD_WEIGHTS`, to be summed: "NAME" of the best one, "NAME/head_1" of the first."""
    weights = HEAD_WEIGHTS[-len(heads) :]
    return {
        name if number == len(heads) else f"{name}/head_{number}": Term(weight * term.value, term.count)
        for number, (weight, terms) in enumerate(zip(weights, heads, strict=True), start=1)
        for name, term in terms.items()
    }

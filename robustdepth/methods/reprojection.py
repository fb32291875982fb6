"""Depth structure consistency: the self-supervised base of both papers (METHOD.md section 1).

A depth is right when the neighbouring views, warped by it, rebuild the target. With I the images, s a source, t the
target, D the depth, d* = d / mean(d) the disparity over its mean, k the scales, n unit normal noise:

    I_{s->t}    = I_s<proj(D_t, T_{t->s}, K)>
    pe(a, b)    = 0.85 clip((1 - SSIM(a, b)) / 2, 0, 1) + 0.15 |a - b|, mean over channels
    photometric = mean_k mean min(min_s pe(I_t, I_{s->t}), min_s pe(I_t, I_s) + 1e-5 n)
    smoothness  = mean_k (mean |dx d*| exp(-|dx I_t|) + mean |dy d*| exp(-|dy I_t|)) / 2^k
    geometric   = mean |D_{t->s} - D_s<.>| / (D_{t->s} + D_s<.>)
    velocity    = mean | |T_{t->s}| - distance travelled |

**[paper]** view synthesis and a photometric loss on it; **[ours]** the form of the error, the minimum over sources,
auto-masking and smoothness, which follow Godard et al., ICCV 2019, geometric consistency and velocity.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.geometry import se3
from robustdepth.geometry.depth import DepthRange
from robustdepth.geometry.warp import bilinear_sample, inside, reproject, synthesise
from robustdepth.imaging.resize import resize_image
from robustdepth.imaging.retinex import decompose
from robustdepth.imaging.ssim import moments
from robustdepth.losses.consistency import geometric_consistency, masked_mean, velocity_error
from robustdepth.losses.photometric import identity_error, photometric_error, select
from robustdepth.losses.smoothness import smoothness
from robustdepth.methods.augment import Views
from robustdepth.methods.method import Terms
from robustdepth.numerics import safe_norm
from robustdepth.types import PREVIOUS, STEREO, TEMPORAL, Array, Batch, Term

Motions = list[Array]  # per source, T_{target -> source} as Float [batch, 4, 4]


@dataclasses.dataclass(frozen=True)
class Settings:
    """config.reprojection, and what of the other sections counts here."""

    depths: DepthRange
    ssim_share: float  # of the photometric error; the rest is absolute difference
    auto_mask: bool  # whether pixels that no motion explains better than standing still count nothing
    min_reprojection: bool  # per pixel the best source; False: their mean
    edges: str  # Retinex estimate whose illumination may carry depth edges; "": the image itself may

    @classmethod
    def of(cls, config: ConfigDict) -> "Settings":
        own = config.reprojection
        edges = config.texture.illumination if own.smooth_edges == "illumination" else ""
        return cls(DepthRange.of(config), own.ssim_share, own.auto_mask, own.min_reprojection, edges)


def temporal_pairs(views: Views) -> tuple[Array, Array]:
    """Image pairs (first, second) in the order of time, all pairs of a sample after each other, as one larger batch.

    So no image leaves the device that holds its sample. The pose network always sees motion run forward; `motions_of`
    turns its answer round where the source came first.
    """
    firsts, seconds = [], []
    for s, name in enumerate(views.clean.source_names):
        if name in TEMPORAL:
            source = views.seen_sources[:, s]
            firsts.append(source if name == PREVIOUS else views.seen_target)
            seconds.append(views.seen_target if name == PREVIOUS else source)
    first, second = (jnp.stack(images, axis=1) for images in (firsts, seconds))
    return first.reshape(-1, *first.shape[2:]), second.reshape(-1, *second.shape[2:])


def motions_of(batch: Batch, forward: Float[Array, "pairs 6"] | None) -> Motions:
    """T_{target -> source} of every source: the pose network's answer, or the rig's baseline for the stereo view.

    Args:
      forward: axis-angle and translation first -> second of `temporal_pairs`; None where no source is temporal.
    """
    motions, pair = [], 0
    by_sample = None if forward is None else forward.reshape(batch.target.shape[0], -1, 6)
    for name in batch.source_names:
        if name == STEREO:
            motions.append(se3.stereo_motion(batch.baseline))
            continue
        if by_sample is None:
            raise UserError(f'the source view "{name}" needs a pose network, and none has looked at the batch.')
        vector = by_sample[:, pair]
        motion = se3.matrix_from_vector(vector[:, :3], vector[:, 3:])
        motions.append(se3.inverse(motion) if name == PREVIOUS else motion)
        pair += 1
    return motions


def terms(settings: Settings, disparities: Sequence[Array], motions: Motions, batch: Batch, key: Array) -> Terms:
    """The losses of section 1 for the scales of one depth prediction: "photometric" and "smoothness", unweighted.

    Args:
      disparities: sigmoid disparities, scale k of size [batch, height / 2^k, width / 2^k].
      motions: T_{target -> source} per source.
      batch: float images, not jittered.
      key: for the tie-breaking noise of the auto-mask.

    Returns:
      also quantities to watch, and images: "error" is the photometric error of the finest depth, 0 where none counts.
    """
    share, minimum = settings.ssim_share, settings.min_reprojection
    target = moments(batch.target)
    sources = [batch.sources[:, s] for s in range(len(batch.source_names))]
    still = None
    if settings.auto_mask:
        unwarped = [photometric_error(target, source, share) for source in sources]
        still = identity_error(unwarped, batch.source_valid, key, minimum=minimum)
    edges = depth_edges(batch.target, settings.edges)
    photometric, smooth, selections = [], [], []
    for scale, disparity in enumerate(disparities):
        depth = settings.depths.full_depth(disparity, batch.camera.size)
        rebuilt = [synthesise(s, depth, batch.camera, motion)[0] for s, motion in zip(sources, motions, strict=True)]
        errors = [photometric_error(target, view, share) for view in rebuilt]
        selection = select(errors, still, batch.source_valid, minimum=minimum)
        photometric.append(masked_mean(selection.error, selection.counts))
        smooth.append(smoothness(disparity, resize_image(edges, disparity.shape[1:3])) / 2**scale)
        selections.append((selection, depth, rebuilt))
    selection, depth, rebuilt = selections[0]
    losses = {
        "photometric": Term(jnp.mean(jnp.stack([t.value for t in photometric])), photometric[0].count),
        "smoothness": Term(jnp.mean(jnp.stack(smooth)), jnp.float32(batch.target.shape[0])),
    }
    images = {"target": batch.target, "rebuilt": rebuilt[-1], "disparity": disparities[0], "error": selection.error}
    return Terms(losses, watched(depth, settings.depths, selection, motions, batch), images)


def depth_edges(image: Float[Array, "batch height width 3"], illumination: str) -> Array:
    """The image whose edges may carry depth edges (1.4): the target, or **[ours]** three times its illumination.

    Illumination is what Retinex holds for structure: smooth where only texture changes. The factor makes up for its
    blur. `illumination` names the Retinex estimate, "" the target itself.
    """
    return 3.0 * decompose(image, illumination).illumination if illumination else image


def watched(depth: Array, depths: DepthRange, selection, motions: Motions, batch: Batch) -> dict[str, Term]:
    """Quantities that differ between a healthy and a collapsed training, see `training.health`."""
    samples = jnp.float32(depth.shape[0])
    quantities = watched_depth(depth, depths)
    quantities["constant_frames"] = Term(jnp.mean(constant(batch.target).astype(jnp.float32)), samples)
    quantities["auto_mask"] = masked_mean(selection.automasked.astype(jnp.float32), selection.counts)
    lengths = [safe_norm(m[:, :3, 3]) for m, n in zip(motions, batch.source_names, strict=True) if n in TEMPORAL]
    if lengths:
        quantities["translation"] = Term(jnp.mean(jnp.stack(lengths)), samples * len(lengths))
    return quantities


def watched_depth(depth: Array, depths: DepthRange | None = None) -> dict[str, Term]:
    """Mean depth, its spread, which falls to 0 where depth collapses, and the shares at the limits of `depths`."""
    samples, mean = jnp.float32(depth.shape[0]), jnp.mean(depth, axis=(1, 2))
    quantities = {
        "depth_spread": Term(jnp.mean(jnp.std(depth, axis=(1, 2)) / mean), samples),
        "depth_mean": Term(jnp.mean(mean), samples),
    }
    if depths is not None:
        for name, there in (("min", depth < 1.05 * depths.min_depth), ("max", depth > 0.95 * depths.max_depth)):
            quantities[f"at_{name}_depth"] = Term(jnp.mean(there.astype(jnp.float32)), samples)
    return quantities


def constant(images: Float[Array, "batch height width 3"]) -> Bool[Array, "batch"]:
    """Which images are black, or of one colour, but for two grey levels of noise."""
    low, high = (of(images, axis=(1, 2)) for of in (jnp.min, jnp.max))
    return jnp.all(high - low < 2.5 / 255.0, axis=-1)


def velocity_term(motions: Motions, batch: Batch) -> Term:
    """The term "velocity": how far motions are from the distance travelled, where speed is known (1.7)."""
    errors = [
        velocity_error(motion[:, :3, 3], batch.speed[:, s])
        for s, (motion, name) in enumerate(zip(motions, batch.source_names, strict=True))
        if name in TEMPORAL
    ]
    return merge(errors)


def geometric_term(
    settings: Settings, disparity: Array, of_sources: Sequence[Array], motions: Motions, batch: Batch
) -> Term:
    """The term "geometric": depth carried into each source against the depth predicted there (1.5) **[ours]**.

    No gradient reaches the sampled depth: it is sampled as an image, and every view is a target in its turn.
    `disparity` is the target's finest, `of_sources` has that of each source; their stride may be more than one.
    """
    found = []
    size = batch.camera.size
    depth = settings.depths.full_depth(disparity, size)
    for s, (there, motion) in enumerate(zip(of_sources, motions, strict=True)):
        coordinates, carried = reproject(depth, batch.camera, motion)
        sampled = bilinear_sample(settings.depths.full_depth(there, size)[..., None], coordinates)[..., 0]
        valid = inside(coordinates, carried, size) & batch.source_valid[:, s, None, None]
        found.append(geometric_consistency(carried, sampled, valid))
    return merge(found)


def merge(terms: Sequence[Term]) -> Term:
    """One mean of several, weighted by their counts."""
    count = sum(t.count for t in terms)
    return Term(sum(t.value * t.count for t in terms) / jnp.maximum(count, 1.0), count)

"""True depth as the teacher, where images are rendered (METHOD.md 6).

**[ours]**, after the recipe of Depth Anything V2 (Yang et al., NeurIPS 2024): precise synthetic labels teach sharp
outlines. With e = log D - log D*, the error of the depth D against the truth D*, over the surfaces of the images,

    truth          = mean |e|
    truth_shape    = mean |e - mean e|, the inner mean over one image: what is left if the scale does not count
    truth_gradient = sum over k < SCALES of mean |dx e_k| + mean |dy e_k|, e_k: every 2^k-th row and column of e

Sky has no depth. It counts in `truth` alone, with max(0, log SKY_NEAREST - log D). The pose network learns from the
true motion T* = (R*, t*) of each temporal source,

    truth_motion   = mean |t - t*| + TURNED |R - R*| / sqrt 2, in metres, |.| the Euclidean or Frobenius norm
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Bool, Float

from robustdepth.errors import UserError
from robustdepth.geometry.depth import DepthRange
from robustdepth.losses.consistency import masked_mean
from robustdepth.methods.method import METHODS, Method, Seen, Terms
from robustdepth.methods.reprojection import watched_depth
from robustdepth.numerics import safe_div, safe_norm
from robustdepth.switches import TRUTH_TERMS
from robustdepth.types import TEMPORAL, Array, Term

SKY_NEAREST = 70.0  # metres of the canonical camera
SCALES = 3
TURNED = 10.0  # metres: a turn counts by how far it moves a point at this distance


def terms(depth: Float[Array, "batch height width"], truth: Float[Array, "batch height width"]) -> Terms:
    """The three losses, unweighted, and the spread of depth to watch.

    Args:
      depth: the network's, positive.
      truth: in the same unit; 0 where it is unknown, inf where it is sky.
    """
    sky = jnp.isinf(truth)
    surface = (truth > 0) & ~sky
    error = jnp.log(depth) - jnp.log(jnp.where(surface, truth, SKY_NEAREST))
    count = jnp.sum(surface.astype(jnp.float32), axis=(1, 2), keepdims=True)
    mean = safe_div(jnp.sum(jnp.where(surface, error, 0.0), axis=(1, 2), keepdims=True), count, floor=1.0)
    losses = {
        "truth": masked_mean(jnp.where(sky, jnp.maximum(-error, 0.0), jnp.abs(error)), surface | sky),
        "truth_shape": masked_mean(jnp.abs(error - mean), surface),
        "truth_gradient": _gradient_term(error, surface),
    }
    return Terms(losses, watched_depth(depth))


def _gradient_term(error: Float[Array, "batch height width"], surface: Bool[Array, "batch height width"]) -> Term:
    found = []
    for step in (2**k for k in range(SCALES)):
        e, s = error[:, ::step, ::step], surface[:, ::step, ::step]
        found.append(masked_mean(jnp.abs(e[:, :, 1:] - e[:, :, :-1]), s[:, :, 1:] & s[:, :, :-1]))
        found.append(masked_mean(jnp.abs(e[:, 1:] - e[:, :-1]), s[:, 1:] & s[:, :-1]))
    return Term(sum(term.value for term in found), found[0].count)


def motion_term(
    motions: Sequence[Float[Array, "batch 4 4"]], truth: Float[Array, "batch source 4 4"], names: Sequence[str]
) -> Term:
    """The loss of the predicted motions T_{target -> source} of temporal sources against true ones (all 0: unknown)."""
    errors, known = [], []
    for s, (motion, name) in enumerate(zip(motions, names, strict=True)):
        if name in TEMPORAL:
            moved, turned = motion[:, :3, 3] - truth[:, s, :3, 3], motion[:, :3, :3] - truth[:, s, :3, :3]
            errors.append(safe_norm(moved) + TURNED / math.sqrt(2) * safe_norm(turned.reshape(-1, 9)))
            known.append(truth[:, s, 3, 3] > 0)
    return masked_mean(jnp.stack(errors), jnp.stack(known))


def _of_step(depths: DepthRange, seen: Seen, key: Array) -> Terms:
    clean = seen.clean
    if clean.depth is None:
        raise UserError("true depth teaches, and the batch has none: set config.data.world_share=1.0.")
    found = terms(depths.full_depth(seen.output.disparities[0], clean.camera.size), clean.depth)
    if clean.motion is None or not set(clean.source_names) & set(TEMPORAL):
        return found
    return found | Terms({"truth_motion": motion_term(seen.motions, clean.motion, clean.source_names)})


METHODS.add("truth", Method(TRUTH_TERMS, lambda config, learnt: DepthRange.of(config), _of_step))

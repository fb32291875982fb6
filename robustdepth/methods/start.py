"""Depth near that of the network that training starts from (METHOD.md 6).

**[ours]**, after Learning without Forgetting (Li and Hoiem, ECCV 2016): photometric error says nothing about the scale
of a single camera's depth, and it errs about what moves with the camera. There the starting network knows better. With
the depth D and the starting network's D0 of the same image,

    start = mean |log D - log D0|   over the samples that have no true depth
"""

import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.errors import UserError
from robustdepth.geometry.depth import DepthRange
from robustdepth.losses.consistency import masked_mean
from robustdepth.methods.method import METHODS, Method, Seen, Terms
from robustdepth.switches import START_TERMS
from robustdepth.types import Array, Term


def start_term(
    depth: Float[Array, "batch height width"],
    start: Float[Array, "batch height width"],
    truth: Float[Array, "batch height width"] | None,
) -> Term:
    """The loss, unweighted. `truth` is 0 where true depth is unknown; it teaches the samples that have any."""
    error = jnp.abs(jnp.log(depth) - jnp.log(start))
    untaught = jnp.ones(error.shape[:1], bool) if truth is None else jnp.all(truth == 0, axis=(1, 2))
    return masked_mean(error, jnp.broadcast_to(untaught[:, None, None], error.shape))


def _of_step(depths: DepthRange, seen: Seen, key: Array) -> Terms:
    clean = seen.clean
    if clean.start is None:
        raise UserError("config.loss.start has a weight, and no starting network has looked at the batch.")
    depth = depths.full_depth(seen.output.disparities[0], clean.camera.size)
    return Terms({"start": start_term(depth, clean.start, clean.depth)})


METHODS.add("start", Method(START_TERMS, lambda config, learnt: DepthRange.of(config), _of_step))

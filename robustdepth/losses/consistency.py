"""Agreement of depth between views (METHOD.md 1.5) and of motion with the vehicle's speed (1.7)."""

import jax.numpy as jnp
from jaxtyping import Bool, Float

from robustdepth.numerics import safe_div, safe_norm
from robustdepth.types import Array, Term


def masked_mean(values: Float[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Term:
    """Mean over the masked elements (0 where there are none) and how many they are."""
    count = jnp.sum(mask.astype(jnp.float32))
    return Term(safe_div(jnp.sum(jnp.where(mask, values, 0.0)), count, floor=1.0), count)


def geometric_consistency(
    depth_in_source: Float[Array, "batch height width"],
    sampled_depth: Float[Array, "batch height width"],
    valid: Bool[Array, "batch height width"],
) -> Term:
    """mean |D_{t->s} - D_s<.>| / (D_{t->s} + D_s<.>) over valid pixels, in [0, 1].

    [ours], after Bian et al., NeurIPS 2019.
    """
    ratio = safe_div(jnp.abs(depth_in_source - sampled_depth), depth_in_source + sampled_depth)
    return masked_mean(ratio, valid)


def velocity_error(translation: Float[Array, "batch 3"], travelled: Float[Array, "batch"]) -> Term:
    """mean | |t| - distance travelled | in metres, over samples whose speed is known (Guizilini et al., CVPR 2020)."""
    return masked_mean(jnp.abs(safe_norm(translation) - travelled), travelled > 0)

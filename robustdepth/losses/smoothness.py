"""Edge-aware smoothness (METHOD.md 1.4)."""

import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.imaging.planes import sum_planes, to_planes
from robustdepth.numerics import safe_div
from robustdepth.types import Array


def smoothness(
    disparity: Float[Array, "batch height width"], guide: Float[Array, "batch height width channel"]
) -> Float[Array, ""]:
    """mean |dx d*| exp(-|dx I|) + mean |dy d*| exp(-|dy I|), with d* = d / mean(d).

    Source: Godard et al., CVPR 2017; mean normalisation after Wang et al., CVPR 2018. `guide` is the image whose edges
    may carry depth edges; its gradients are averaged over channels.
    """
    return edge_aware(safe_div(disparity, jnp.mean(disparity, axis=(1, 2), keepdims=True)), guide)


def edge_aware(
    values: Float[Array, "batch height width"], guide: Float[Array, "batch height width channel"]
) -> Float[Array, ""]:
    """mean |dx v| exp(-|dx I|) + mean |dy v| exp(-|dy I|): changes cost least where the guide has edges."""
    planes = to_planes(guide)

    def along(axis: int) -> Array:
        edges = sum_planes(jnp.abs(jnp.diff(planes, axis=axis))) / planes.shape[1]
        return jnp.mean(jnp.abs(jnp.diff(values, axis=axis)) * jnp.exp(-edges))

    return along(-1) + along(-2)

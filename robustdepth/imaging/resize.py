"""Resizing on the accelerator, with half-pixel centres."""

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from robustdepth.imaging.planes import from_planes, to_planes
from robustdepth.types import Array


def resize_image(
    image: Float[Array, "*batch height width channel"], size: tuple[int, int]
) -> Float[Array, "*batch new_height new_width channel"]:
    """Bilinear resize to `size` (height, width); antialiased where it shrinks."""
    return from_planes(resize_map(to_planes(image), size))


def resize_map(
    values: Float[Array, "*batch height width"], size: tuple[int, int]
) -> Float[Array, "*batch new_height new_width"]:
    """`resize_image` for maps without a channel axis: two products with sparse matrices, which accelerators like.

    Columns come last where the map grows and first where it shrinks: the product that holds the larger array then runs
    along its contiguous axis, forwards and backwards.
    """
    height, width = values.shape[-2:]
    if size == (height, width):
        return values
    down = jnp.asarray(_weights(height, size[0]), values.dtype)
    along = jnp.asarray(_weights(width, size[1]).T, values.dtype)
    if size[0] > height:
        return _product(_product(down, values), along)
    return _product(down, _product(values, along))


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


@lru_cache
def _weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Rows of a triangle filter round each new pixel's centre, as wide as the coarser of both grids, normalised."""
    scale = new / old
    centres = (np.arange(new) + 0.5) / scale - 0.5
    distance = np.abs(np.arange(old)[None] - centres[:, None]) * min(scale, 1.0)
    weights = np.maximum(1.0 - distance, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)

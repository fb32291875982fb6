"""Resampling by a linear map of the rows and one of the columns: PyTorch's align_corners and adaptive pooling."""

from collections.abc import Callable
from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from robustdepth.types import Array


def resample(x: Float[Array, "batch height width channels"], size: list[int], weights: Callable) -> Array:
    """Another size by a linear map of the rows and one of the columns: `weights(old, new)`."""
    down = jnp.asarray(weights(x.shape[1], size[0]), x.dtype)
    along = jnp.asarray(weights(x.shape[2], size[1]), x.dtype)
    x = jnp.einsum("ih,bhwc->biwc", down, x, precision=lax.Precision.HIGHEST)
    return jnp.einsum("jw,biwc->bijc", along, x, precision=lax.Precision.HIGHEST)


@lru_cache
def align_corners(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Linear interpolation that maps the first and last pixel's centres onto each other (PyTorch: align_corners)."""
    positions = np.linspace(0, old - 1, new)
    return np.maximum(1 - np.abs(np.arange(old)[None] - positions[:, None]), 0)


@lru_cache
def adaptive_pool(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Means over `new` intervals of pixels that cover all, and overlap where need be (adaptive average pooling)."""
    place, index = np.arange(old)[None], np.arange(new)[:, None]
    inside = (place >= index * old // new) & (place < -(-(index + 1) * old // new))
    return inside / inside.sum(axis=1, keepdims=True)

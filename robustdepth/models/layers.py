"""Building blocks that the networks share."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.errors import UserError
from robustdepth.types import Array

STRIDES = (2, 4, 8, 16, 32)  # of the features that every encoder returns


def fan_in_uniform(scale: float) -> Callable[..., Array]:
    """Initialiser: uniform numbers of variance `scale / fan_in`.

    The numbers are a hash (lowbias32 by C. Wellons) of the key and each element's index: the same on every backend and
    under every sharding. `jax.random` here would take XLA half a minute to compile for CPUs, once per parameter shape.
    """

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        bits = jnp.arange(math.prod(shape), dtype=jnp.uint32)
        for word in jax.random.key_data(key).ravel():
            bits = bits ^ word
            bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
            bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
            bits = bits ^ (bits >> 16)
        centred = (bits >> 8).astype(jnp.float32) * 2.0**-23 - 1.0  # in [-1, 1)
        limit = math.sqrt(3 * scale / math.prod(shape[:-1]))
        return (limit * centred).reshape(shape).astype(dtype)

    return init


# Fan-in variance everywhere: fan-out variance on heads with one or six channels saturates them, and training collapses
# to a constant depth. Heads start small, near the initial depth and near no motion.
HE_FAN_IN = fan_in_uniform(2.0)
HEAD_FAN_IN = fan_in_uniform(0.02**2)


def check_image_size(height: int, width: int) -> None:
    """Refuses images that four halvings do not divide evenly (the fifth may round up; the decoder crops its result)."""
    if height % 16 or width % 16 or not height or not width:
        raise UserError(
            f"the networks need image sizes that are multiples of 32 (or at least of 16), got {height}x{width} "
            "(height x width): set image_size accordingly, the loaders then resize the images."
        )


def normalise(
    image: Float[Array, "batch height width channels"], mean: tuple[float, ...], std: tuple[float, ...], dtype: Any
) -> Float[Array, "batch height width channels"]:
    """Subtracts the mean colour and divides by its deviation; stacked images repeat the three channels."""
    views = image.shape[-1] // 3
    shift = jnp.tile(jnp.asarray(mean, image.dtype), views)[None, None, None]
    scale = jnp.tile(jnp.asarray(std, image.dtype), views)[None, None, None]
    return ((image - shift) / scale).astype(dtype)


def batch_norm(
    x: Float[Array, "batch *space channels"],
    train: bool,
    dtype: Any,
    name: str,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
) -> Float[Array, "batch *space channels"]:
    """Batch normalisation as a submodule `name` of the calling module; with sharded batches its statistics are global.

    The defaults are PyTorch's, whose momentum is one minus this one.
    """
    # Flax mixes its float32 statistics with x, which strict promotion forbids where x is of another type.
    with jax.numpy_dtype_promotion("standard"):
        return nn.BatchNorm(not train, momentum=momentum, epsilon=epsilon, dtype=dtype, name=name)(x)


def reflect_pad(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height+2 width+2 channels"]:
    """Pads height and width by one pixel, mirrored at the border pixel's centre."""
    for axis in (1, 2):
        last = x.shape[axis] - 1
        inner = min(1, last)  # a single pixel is its own mirror image
        before = jax.lax.slice_in_dim(x, inner, inner + 1, axis=axis)
        after = jax.lax.slice_in_dim(x, last - inner, last - inner + 1, axis=axis)
        x = jnp.concatenate([before, x, after], axis=axis)
    return x


def upsample(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch 2*height 2*width channels"]:
    """Doubles height and width by repeating every pixel (nearest neighbour)."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)

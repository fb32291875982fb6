"""Building blocks that the networks share."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from robustdepth.errors import UserError
from robustdepth.models.normalisation import BatchNorm
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


def check_image_size(height: int, width: int, multiple: int = 16) -> None:
    """Refuses images that four halvings do not divide evenly (the fifth may round up; the decoder crops its result).

    `multiple` is another number for networks that see the image in patches of that size.
    """
    if height % multiple or width % multiple or not height or not width:
        wanted = "32 (or at least of 16)" if multiple == 16 else str(multiple)
        raise UserError(
            f"the networks need image sizes that are multiples of {wanted}, got {height}x{width} "
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
    return BatchNorm(train, dtype, momentum, epsilon, name=name)(x)


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


@jax.custom_vjp
def max_pool(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch half_height half_width channels"]:
    """The maximum over 3x3 pixels round every second one, as torchvision's stem; gradients go to a window's first."""
    return _max_pool(x)


def _max_pool(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))


def _max_pool_forward(x: Array) -> tuple[Array, Array]:
    return _max_pool(x), x


def _max_pool_backward(x: Array, cotangent: Array) -> tuple[Array]:
    return lax.platform_dependent(
        x, cotangent, cpu=lambda x, c: jax.vjp(_max_pool, x)[1](c), default=lambda x, c: (_route(x, c),)
    )


def _route(x: Array, cotangent: Array) -> Array:
    """What XLA's select-and-scatter gives, without its index arrays and atomic additions on GPUs."""
    low, size = jnp.array(-jnp.inf, x.dtype), cotangent.shape[1:3]
    wide = lax.pad(x, low, [(0, 0, 0), (1, 2, 0), (1, 2, 0), (0, 0, 0)])
    taps = [(row, column) for row in range(3) for column in range(3)]
    best, first = jnp.full_like(cotangent, -jnp.inf), jnp.zeros(cotangent.shape, jnp.uint8)
    for index, (row, column) in enumerate(taps):
        ends = (x.shape[0], row + 2 * size[0], column + 2 * size[1], x.shape[3])
        tap = lax.slice(wide, (0, row, column, 0), ends, (1, 2, 2, 1))
        larger = tap > best
        best, first = jnp.where(larger, tap, best), jnp.where(larger, jnp.uint8(index), first)
    first, cotangent = lax.optimization_barrier((first, cotangent))  # found once, not for each of the nine
    total = jnp.zeros_like(wide)
    for index, (row, column) in enumerate(taps):
        part = jnp.where(first == index, cotangent, 0)
        rows, columns = (
            (start, wide.shape[axis] - start - 2 * size[axis - 1] + 1, 1) for axis, start in ((1, row), (2, column))
        )
        total += lax.pad(part, jnp.zeros((), part.dtype), [(0, 0, 0), rows, columns, (0, 0, 0)])
    return total[:, 1 : 1 + x.shape[1], 1 : 1 + x.shape[2]]


max_pool.defvjp(_max_pool_forward, _max_pool_backward)

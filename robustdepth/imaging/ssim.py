"""Structural similarity on 3x3 windows (Wang et al., 2004), with a target measured once for many views."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from robustdepth.imaging.planes import to_planes
from robustdepth.types import Array

C1 = 0.01**2
C2 = 0.03**2


class Moments(NamedTuple):
    """An image's planes with their local mean and variance over 3x3 windows."""

    image: Float[Array, "batch channel height width"]
    mean: Float[Array, "batch channel height width"]
    variance: Float[Array, "batch channel height width"]


def box_mean(planes: Float[Array, "batch channel height width"]) -> Float[Array, "batch channel height width"]:
    """Mean over the 3x3 window round every pixel, the border mirrored (the edge pixel itself is not repeated)."""
    return lax.platform_dependent(planes, cpu=_box_mean_on_cpu, default=_box_mean)


def _box_mean(planes: Array) -> Array:
    """Pads and selections: XLA fuses them with what comes before and after, where a window or a copy is a kernel."""
    for axis in (2, 3):
        before, after, position = _neighbours(planes, axis)
        first, last = position == 0, position == planes.shape[axis] - 1
        planes = jnp.where(first, after, before) + planes + jnp.where(last, before, after)
    return planes / 9.0


def _neighbours(planes: Array, axis: int) -> tuple[Array, Array, Array]:
    """The plane shifted by one either way along an axis, zeros coming in, and every pixel's position there."""
    none = [(0, 0, 0)] * 4
    zero = jnp.zeros((), planes.dtype)
    before = lax.pad(planes, zero, [(1, -1, 0) if i == axis else n for i, n in enumerate(none)])
    after = lax.pad(planes, zero, [(-1, 1, 0) if i == axis else n for i, n in enumerate(none)])
    return before, after, lax.broadcasted_iota(jnp.int32, planes.shape, axis)


def _box_mean_on_cpu(planes: Array) -> Array:
    return _sum_of_three(_sum_of_three(planes, 2), 3) / 9.0


def _sum_of_three(planes: Array, axis: int) -> Array:
    size = planes.shape[axis]
    before, after = (lax.slice_in_dim(planes, i, i + 1, axis=axis) for i in (1, size - 2))
    window = tuple(3 if i == axis else 1 for i in range(4))
    padded = jnp.concatenate([before, planes, after], axis)
    return lax.reduce_window(padded, 0.0, lax.add, window, (1, 1, 1, 1), "VALID")


def box_mean_transpose(
    cotangent: Float[Array, "batch channel height width"],
) -> Float[Array, "batch channel height width"]:
    """The transpose of the linear map `box_mean`: what its gradient is made of."""
    on_cpu = jax.linear_transpose(_box_mean_on_cpu, cotangent)
    return lax.platform_dependent(cotangent, cpu=lambda c: on_cpu(c)[0], default=_box_mean_transpose)


def _box_mean_transpose(cotangent: Array) -> Array:
    for axis in (3, 2):
        before, after, position = _neighbours(cotangent, axis)
        second, last_but_one = position == 1, position == cotangent.shape[axis] - 2
        cotangent = before + cotangent + after + jnp.where(second, before, 0.0) + jnp.where(last_but_one, after, 0.0)
    return cotangent / 9.0


def moments(image: Float[Array, "batch height width channel"]) -> Moments:
    """Local mean and variance of an image."""
    planes = to_planes(image)
    mean = box_mean(planes)
    return Moments(planes, mean, box_mean(jnp.square(planes)) - jnp.square(mean))


class Similarity(NamedTuple):
    """SSIM per pixel and channel, with its derivatives by the view's local means of b, b^2 and a b (a: the target)."""

    value: Float[Array, "batch channel height width"]  # in [-1, 1]; 1 where both images are alike
    by_mean: Float[Array, "batch channel height width"]
    by_square: Float[Array, "batch channel height width"]
    by_product: Float[Array, "batch channel height width"]


def ssim(
    target: Moments,
    mean: Float[Array, "batch channel height width"],
    square: Float[Array, "batch channel height width"],
    product: Float[Array, "batch channel height width"],
) -> Similarity:
    """SSIM of a target with a view given by the local means of b, b^2 and a b.

    S = n1 n2 / (d1 d2) with n1 = 2 m_a m_b + C1, n2 = 2 cov(a, b) + C2, d1 = m_a^2 + m_b^2 + C1, d2 = v_a + v_b + C2.
    """
    n1 = 2.0 * target.mean * mean + C1
    n2 = 2.0 * (product - target.mean * mean) + C2
    d1 = jnp.square(target.mean) + jnp.square(mean) + C1
    d2 = target.variance + square - jnp.square(mean) + C2
    scale = 1.0 / (d1 * d2)
    value = n1 * n2 * scale
    by_mean = 2.0 * scale * (target.mean * (n2 - n1) - mean * value * (d2 - d1))
    return Similarity(value, by_mean, -value * d1 * scale, 2.0 * n1 * scale)

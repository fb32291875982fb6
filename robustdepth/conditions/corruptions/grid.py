"""What several corruptions share: parameters by severity, filters along an axis, and enlarging the image's middle."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Int

from robustdepth.types import Array


def pick(table: Sequence | np.ndarray, level: Int[Array, ""]) -> Array:
    """The row of a table with one row for each severity, as float32."""
    return jnp.asarray(np.asarray(table, np.float32))[level]


def gaussian_taps(sigmas: Sequence[float], truncate: float) -> Float[np.ndarray, "sigma taps"]:
    """Normalised Gaussians cut off at `truncate` sigmas, centred in rows of the longest one's length."""
    radii = [int(truncate * sigma + 0.5) for sigma in sigmas]
    rows = []
    for sigma, radius in zip(sigmas, radii, strict=True):
        taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        rows.append(np.pad(taps / taps.sum(), max(radii) - radius))
    return np.stack(rows)


def filter_axis(
    image: Float[Array, "height width *channel"], taps: Float[Array, "taps"], axis: int, mode: str
) -> Float[Array, "height width *channel"]:
    """Correlation with an odd number of taps along rows (axis 0) or columns (1); `mode` is that of `jnp.pad`."""
    radius, size = taps.shape[0] // 2, image.shape[axis]
    padded = jnp.pad(image, [(radius, radius) if i == axis else (0, 0) for i in range(image.ndim)], mode=mode)

    def add(i: Array, total: Array) -> Array:
        return total + taps[i] * lax.dynamic_slice_in_dim(padded, i, size, axis)

    return lax.fori_loop(0, taps.shape[0], add, jnp.zeros_like(image))


class Stretch(NamedTuple):
    """Linear interpolation along one axis: out[i] = near_weight[i] x[near[i]] + far_weight[i] x[near[i] + 1]."""

    near: Int[Array, "*rows new"]
    near_weight: Float[Array, "*rows new"]
    far_weight: Float[Array, "*rows new"]
    size: Int[Array, "*rows"]  # entries that are meant; the others repeat the last one


def stretch_middle(size: int, factor: float) -> Stretch:
    """The middle 1 / factor of an axis enlarged to its whole length or a little more, first and last samples kept.

    As `scipy.ndimage.zoom` at order 1, for which a last sample that rounding moves outside is 0.
    """
    crop = math.ceil(size / factor)
    new = round(crop * factor)
    place = np.arange(new) * ((crop - 1) / max(new - 1, 1))
    near = np.minimum(np.floor(place), crop - 2).astype(np.int32)
    inside = place <= crop - 1
    far_weight = np.where(inside, place - near, 0).astype(np.float32)
    near_weight = np.where(inside, 1 - (place - near), 0).astype(np.float32)
    return Stretch(near + (size - crop) // 2, near_weight, far_weight, np.asarray(new, np.int32))


def stack_stretches(stretches: Sequence[Stretch]) -> Stretch:
    """One row each, all of the longest one's length."""
    longest = max(len(stretch.near) for stretch in stretches)
    rows = [[np.pad(part, (0, longest - len(part)), "edge") for part in stretch[:3]] for stretch in stretches]
    near, near_weight, far_weight = (np.stack(parts) for parts in zip(*rows, strict=True))
    return Stretch(near, near_weight, far_weight, np.stack([stretch.size for stretch in stretches]))


def row_of(stretch: Stretch, index: Int[Array, ""]) -> Stretch:
    """One row of a stack, with a traced index."""
    return Stretch(*(jnp.asarray(part)[index] for part in stretch))


def stretch_axis(
    image: Float[Array, "height width *channel"], stretch: Stretch, axis: int
) -> Float[Array, "new_height new_width *channel"]:
    """The image with rows (axis 0) or columns (1) interpolated."""
    shape = [-1 if i == axis else 1 for i in range(image.ndim)]
    near, far = (jnp.take(image, stretch.near + i, axis=axis, mode="clip") for i in (0, 1))
    return near * jnp.reshape(stretch.near_weight, shape) + far * jnp.reshape(stretch.far_weight, shape)


def smear(
    image: Float[Array, "full_height full_width *channel"],
    taps: Float[Array, "taps"],
    angle: Float[Array, ""],
    size: tuple[Array | int, Array | int],
    new_size: tuple[int, int],
) -> Float[Array, "height width *channel"]:
    """Motion blur in one direction: the weighted mean of copies moved 0, 1, 2 ... pixels, the border repeated.

    Args:
      taps: the copies' weights.
      angle: of the motion, degrees.
      size: rows and columns of `image` that are meant (it may be padded at the end). Copies moved by more are left out.
      new_size: rows and columns of the result, from the first.
    """
    height, width = size
    down, along = jnp.sin(jnp.deg2rad(angle)), jnp.cos(jnp.deg2rad(angle))

    def add(i: Array, total: Array) -> Array:
        dy, dx = (-jnp.ceil(i.astype(jnp.float32) * step - 0.5).astype(jnp.int32) for step in (down, along))
        weight = jnp.where((jnp.abs(dy) < height) & (jnp.abs(dx) < width), taps[i], 0.0)
        rows = jnp.clip(jnp.arange(new_size[0]) - dy, 0, height - 1)
        columns = jnp.clip(jnp.arange(new_size[1]) - dx, 0, width - 1)
        return total + weight * jnp.take(jnp.take(image, rows, axis=0), columns, axis=1)

    return lax.fori_loop(0, taps.shape[0], add, jnp.zeros((*new_size, *image.shape[2:]), image.dtype))


def smear_taps(widths: Sequence[int], sigmas: Sequence[float]) -> Float[np.ndarray, "severity taps"]:
    """Weights of `smear`: one half of a Gaussian, normalised over 2 width + 1 copies, padded with zeros."""
    rows = []
    for width, sigma in zip(widths, sigmas, strict=True):
        taps = np.exp(-0.5 * (np.arange(2 * width + 1) / sigma) ** 2)
        rows.append(np.pad(taps / taps.sum(), (0, 2 * (max(widths) - width))))
    return np.stack(rows)

"""Brightness, contrast, elastic transform, colour quantisation and pixelation of the robustness benchmark.

All of ImageNet-C but `color_quant`. Every function takes one image in [0, 1] that holds multiples of 1/255,
severity - 1, and a key.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Key

from robustdepth.conditions.corruptions.corruption import CORRUPTIONS
from robustdepth.conditions.corruptions.grid import filter_axis, gaussian_taps, pick
from robustdepth.numerics import safe_div
from robustdepth.types import Array

BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
ELASTIC = (12.5, 16.25, 21.25, 25.0, 30.0)
ELASTIC_SIGMA, ELASTIC_REACH = 0.01, 0.005  # fractions of the image's sides; of its height
PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)


@CORRUPTIONS.listed("brightness")
def brightness(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """The value of hue, saturation, value raised: colours are scaled, black becomes grey."""
    value = jnp.max(image, axis=-1, keepdims=True)
    raised = jnp.minimum(value + pick(BRIGHTNESS, level), 1.0)
    return jnp.where(value > 0.0, safe_div(image * raised, value), raised)


@CORRUPTIONS.listed("contrast")
def contrast(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """Each channel drawn towards its mean over the image."""
    # Rows first: one long sum in single precision would be off by a level.
    mean = jnp.mean(jnp.mean(image, axis=1), axis=0)[None, None]
    return (image - mean) * pick(CONTRAST, level) + mean


@CORRUPTIONS.listed("color_quant")
def color_quant(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """Posterised to 6 - severity bits: 5, 4, 3, 2, 1 (RoboDepth)."""
    step = 2.0 ** (level + 3).astype(jnp.float32)
    return jnp.floor(jnp.round(image * 255.0) / step) * step / 255.0


@CORRUPTIONS.listed("elastic")
def elastic(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """The image sampled at points moved by smooth random offsets."""
    return elastic_of(image, level, jax.random.uniform(key, (2, *image.shape[:2]), minval=-1.0, maxval=1.0))


def elastic_of(
    image: Float[Array, "height width 3"], level: Int[Array, ""], draws: Float[Array, "2 height width"]
) -> Float[Array, "height width 3"]:
    """`elastic` with its draws in [-1, 1] given, first those for columns; beyond the border the image is mirrored."""
    height, width = image.shape[:2]
    offsets = jnp.moveaxis(draws, 0, -1) * (ELASTIC_REACH * height)
    for axis, size in enumerate((height, width)):
        taps = jnp.asarray(gaussian_taps((ELASTIC_SIGMA * size,), 3.0)[0], jnp.float32)
        offsets = filter_axis(offsets, taps, axis, "symmetric")
    dx, dy = jnp.moveaxis(offsets * pick(ELASTIC, level), -1, 0)
    # Whole and broken parts apart: a sum with the pixel's own position would lose digits.
    top, left = jnp.floor(dy), jnp.floor(dx)
    fy, fx = (dy - top)[..., None], (dx - left)[..., None]
    rows = jnp.arange(height)[:, None] + top.astype(jnp.int32)
    columns = jnp.arange(width)[None] + left.astype(jnp.int32)

    def at(row: Array, column: Array) -> Array:
        return image[_mirror(row, height), _mirror(column, width)]

    upper = at(rows, columns) * (1.0 - fx) + at(rows, columns + 1) * fx
    lower = at(rows + 1, columns) * (1.0 - fx) + at(rows + 1, columns + 1) * fx
    return upper * (1.0 - fy) + lower * fy


def _mirror(index: Array, size: int) -> Array:
    """Indices beyond the border reflected about it, the edge pixel repeated."""
    index = index % (2 * size)
    return jnp.minimum(index, 2 * size - 1 - index)


@CORRUPTIONS.listed("pixelate")
def pixelate(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """Shrunk with a box filter, enlarged with the nearest pixel; columns first, 8 bits between, as Pillow does."""
    for axis in (1, 0):
        firsts, windows = _boxes(image.shape[axis])
        first, weights = jnp.asarray(firsts)[level], jnp.asarray(windows)[level]
        shape = [-1 if i == axis else 1 for i in range(3)]
        total = sum(
            jnp.take(image, first + i, axis=axis, mode="clip") * weights[i].reshape(shape) for i in range(len(weights))
        )
        image = jnp.floor(total * 255.0 + 0.5 + 1e-3) / 255.0
    return image


def _boxes(size: int) -> tuple[Int[np.ndarray, "severity size"], Float[np.ndarray, "severity taps size"]]:
    """First pixel and weights of the box that each pixel of an axis shows, by severity."""
    firsts, windows = [], []
    taps = math.ceil(size / int(size * min(PIXELATE))) + 1
    for share in PIXELATE:
        small = int(size * share)
        scale = size / small
        # Pillow adds step to step, and rounding on the way decides where a centre falls between two boxes.
        shown = np.cumsum([0.5 * (small / size)] + [small / size] * (size - 1)).astype(np.int64)
        middle = (shown + 0.5) * scale
        first, end = (np.clip((middle + half + 0.5).astype(np.int64), 0, size) for half in (-scale / 2, scale / 2))
        pixel = first + np.arange(taps)[:, None]
        place = (pixel - middle + 0.5) * (1 / scale)
        inside = (pixel < end) & (place > -0.5) & (place <= 0.5)
        firsts.append(first)
        windows.append((inside / inside.sum(axis=0)).astype(np.float32))
    return np.stack(firsts), np.stack(windows)

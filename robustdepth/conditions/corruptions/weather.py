"""Fog and snow of the robustness benchmark (ImageNet-C): painted over the image without regard to depth.

Every function takes one image in [0, 1] that holds multiples of 1/255, severity - 1, and a key.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Int, Key

from robustdepth.conditions.corruptions.corruption import CORRUPTIONS
from robustdepth.conditions.corruptions.grid import (
    pick,
    row_of,
    smear,
    smear_taps,
    stack_stretches,
    stretch_axis,
    stretch_middle,
)
from robustdepth.imaging.color import luminance
from robustdepth.types import Array

FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))  # thickness, decay of the detail
# mean and deviation of the flakes' noise, its enlargement, threshold, radius and sigma of their motion, share of image
SNOW = (
    (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
    (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
    (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
)


@CORRUPTIONS.listed("fog")
def fog(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """A fractal height map laid over the image, brightness kept."""
    side = 2 ** math.ceil(math.log2(max(image.shape[:2])))
    return fog_of(image, level, jax.random.uniform(key, (side * side - 1,), minval=-1.0, maxval=1.0))


def fog_of(
    image: Float[Array, "height width 3"], level: Int[Array, ""], draws: Float[Array, "points"]
) -> Float[Array, "height width 3"]:
    """`fog` with the draws of `plasma` given, for a map at least as large as the image."""
    height, width = image.shape[:2]
    thickness, decay = pick(FOG, level)
    brightest = jnp.max(image)
    fogged = image + thickness * plasma(draws, decay)[:height, :width, None]
    return fogged * brightest / (brightest + thickness)


def plasma(draws: Float[Array, "points"], decay: Float[Array, ""]) -> Float[Array, "side side"]:
    """A height map in [0, 1] that tiles the plane, by the diamond-square algorithm.

    Args:
      draws: in [-1, 1], side^2 - 1 of them for a side that is a power of two; in turn those of the 1st, 2nd, ...
        doubling of the grid, each for the points in the middle of squares, of their horizontal and vertical sides.
      decay: by which the roughness' root falls with each doubling.
    """
    grid, used, rough = jnp.zeros((1, 1)), 0, jnp.asarray(100.0)
    while used < draws.shape[0]:
        side = grid.shape[0]
        middle, top, left = jnp.square(rough) * draws[used : used + 3 * side**2].reshape(3, side, side)
        used, rough = used + 3 * side**2, rough / decay
        pairs = grid + jnp.roll(grid, -1, 0)
        squares = (pairs + jnp.roll(pairs, -1, 1)) / 4.0 + middle
        tops = (squares + jnp.roll(squares, 1, 0) + grid + jnp.roll(grid, -1, 1)) / 4.0 + top
        lefts = (squares + jnp.roll(squares, 1, 1) + grid + jnp.roll(grid, -1, 0)) / 4.0 + left
        even, odd = jnp.stack([grid, tops], -1), jnp.stack([lefts, squares], -1)
        grid = jnp.stack([even.reshape(side, 2 * side), odd.reshape(side, 2 * side)], 1).reshape(2 * side, 2 * side)
        grid = lax.optimization_barrier(grid)  # fused into one another, the doublings take minutes to compile
    grid = grid - jnp.min(grid)
    return grid / jnp.max(grid)


@CORRUPTIONS.listed("snow")
def snow(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """Flakes with a random direction of fall, twice (the second turned by 180 degrees), over a whitened image."""
    flakes, fall = jax.random.split(key)
    draws = jax.random.normal(flakes, image.shape[:2])
    return snow_of(image, level, draws, jax.random.uniform(fall, minval=-135.0, maxval=-45.0))


def snow_of(
    image: Float[Array, "height width 3"],
    level: Int[Array, ""],
    draws: Float[Array, "height width"],
    angle: Float[Array, ""],
) -> Float[Array, "height width 3"]:
    """`snow` with standard normal draws and the direction of fall (degrees) given."""
    height, width = image.shape[:2]
    mean, deviation, _, threshold, _, _, kept = pick(SNOW, level)
    rows, columns = (
        row_of(stack_stretches([stretch_middle(size, row[2]) for row in SNOW]), level) for size in (height, width)
    )
    layer = stretch_axis(stretch_axis(mean + deviation * draws, rows, 0), columns, 1)
    layer = jnp.clip(jnp.where(layer < threshold, 0.0, layer), 0.0, 1.0)
    taps = pick(smear_taps([int(row[4]) for row in SNOW], [row[5] for row in SNOW]), level)
    layer = smear(layer, taps, angle, (rows.size, columns.size), (height, width))
    layer = jnp.round(layer * 255.0) / 255.0
    whitened = kept * image + (1.0 - kept) * jnp.maximum(image, luminance(image) * 1.5 + 0.5)
    return whitened + (layer + layer[::-1, ::-1])[..., None]

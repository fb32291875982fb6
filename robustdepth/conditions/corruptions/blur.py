"""Blur of the robustness benchmark: defocus, frosted glass, motion and zoom (all of ImageNet-C).

Every function takes one image in [0, 1] that holds multiples of 1/255, severity - 1, and a key.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Int, Key

from robustdepth.conditions.corruptions.corruption import CORRUPTIONS
from robustdepth.conditions.corruptions.grid import (
    filter_axis,
    gaussian_taps,
    pick,
    row_of,
    smear,
    smear_taps,
    stack_stretches,
    stretch_axis,
    stretch_middle,
)
from robustdepth.imaging.planes import from_planes, to_planes
from robustdepth.types import Array

DISKS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))  # radius, sigma that smooths its edge
GLASS_SIGMA = (0.7, 0.9, 1.0, 1.1, 1.5)
GLASS_REACH = (1, 2, 2, 3, 4)  # pixels that a pixel's content travels at most
GLASS_ROUNDS = (2, 1, 3, 2, 2)
MOTION_RADIUS = (10, 15, 15, 15, 20)
MOTION_SIGMA = (3.0, 5.0, 8.0, 12.0, 15.0)
ZOOMS = tuple(
    np.arange(1, end, step) for end, step in ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))
)


@CORRUPTIONS.listed("defocus")
def defocus(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """Blur with a disk, the border mirrored. Through the Fourier transform: direct sums over 441 pixels are slower."""
    height, width = image.shape[:2]
    disks = _disks()
    radius = disks.shape[-1] // 2
    size = _fast_length(height + 2 * radius), _fast_length(width + 2 * radius)
    padded = jnp.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    spectrum = jnp.fft.rfft2(to_planes(padded), s=size) * jnp.fft.rfft2(pick(disks, level), s=size)[None]
    blurred = jnp.fft.irfft2(spectrum, s=size)[:, 2 * radius :, 2 * radius :][:, :height, :width]
    return from_planes(blurred)


@functools.cache
def _disks() -> Float[np.ndarray, "severity rows columns"]:
    """Point-symmetric kernels that sum to 1."""
    side, kernels = 2 * max(radius for radius, _ in DISKS) + 1, []
    for radius, sigma in DISKS:
        # ImageNet-C smooths a disk on 17x17 pixels with 3 taps, larger ones on their own square with 5, mirrored there.
        grid = np.arange(-max(radius, 8), max(radius, 8) + 1)
        disk = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(np.float64)
        reach = 1 if radius <= 8 else 2
        taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        taps /= taps.sum()
        padded = np.pad(disk / disk.sum(), reach, mode="reflect")
        smooth = sum(
            a * b * padded[i : i + grid.size, j : j + grid.size] for i, a in enumerate(taps) for j, b in enumerate(taps)
        )
        kernels.append(np.pad(smooth, (side - grid.size) // 2))
    return np.stack(kernels)


def _fast_length(size: int) -> int:
    """The next length with no prime factor over 5: fast to transform."""
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 1


@CORRUPTIONS.listed("glass")
def glass(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """Frosted glass: blur, content that moved at random by a few pixels, blur."""
    reach = jnp.asarray(GLASS_REACH)[level]
    offsets = jax.random.randint(key, (max(GLASS_ROUNDS), *image.shape[:2], 2), -reach, reach)
    return glass_of(image, level, offsets)


def glass_of(
    image: Float[Array, "height width 3"], level: Int[Array, ""], offsets: Int[Array, "round height width 2"]
) -> Float[Array, "height width 3"]:
    """`glass` with the moves (rows, columns) of each round given, in [-reach, reach)."""
    height, width = image.shape[:2]
    taps, reach = pick(gaussian_taps(GLASS_SIGMA, 4.0), level), jnp.asarray(GLASS_REACH)[level]

    def blur(image: Array) -> Array:
        return filter_axis(filter_axis(image, taps, 0, "edge"), taps, 1, "edge")

    def move(i: Array, pixels: Array) -> Array:
        return pixels[_sources(offsets[i], reach)]

    blurred = jnp.floor(blur(image) * 255.0 + 1e-3) / 255.0  # ImageNet-C stores 8 bits between
    moved = lax.fori_loop(0, jnp.asarray(GLASS_ROUNDS)[level], move, blurred.reshape(height * width, 3))
    return blur(moved.reshape(height, width, 3))


def _sources(offsets: Int[Array, "height width 2"], reach: Int[Array, ""]) -> Int[Array, "pixels"]:
    """Where each pixel's content comes from after one round.

    ImageNet-C visits the pixels from the last to the first and gives each the *present* content of the one at its
    offset (its swap of two array views copies one way only). So an offset that points to a later pixel takes what that
    one has already received, and so on: chains, which are followed here for all pixels at once by doubling.
    """
    height, width = offsets.shape[:2]
    row, column = (index.ravel() for index in jnp.indices((height, width)))
    here = row * width + column
    visited = (row > reach) & (row <= height - reach) & (column > reach) & (column <= width - reach)
    source = jnp.where(visited, here + offsets[..., 0].ravel() * width + offsets[..., 1].ravel(), here)
    goes_on = visited & visited[source] & (source > here)

    def follow(state: tuple[Array, Array]) -> tuple[Array, Array]:
        source, goes_on = state
        return jnp.where(goes_on, source[source], source), goes_on & goes_on[source]

    return lax.while_loop(lambda state: jnp.any(state[1]), follow, (source, goes_on))[0]


@CORRUPTIONS.listed("motion")
def motion(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """Motion blur at a random angle within 45 degrees of the horizontal."""
    return motion_of(image, level, jax.random.uniform(key, minval=-45.0, maxval=45.0))


def motion_of(
    image: Float[Array, "height width 3"], level: Int[Array, ""], angle: Float[Array, ""]
) -> Float[Array, "height width 3"]:
    """`motion` with the angle given, degrees."""
    size = image.shape[:2]
    return smear(image, pick(smear_taps(MOTION_RADIUS, MOTION_SIGMA), level), angle, size, size)


@CORRUPTIONS.listed("zoom")
def zoom(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """The mean of the image with its middle enlarged by several factors, from 1 up."""
    height, width = image.shape[:2]
    most = max(len(factors) for factors in ZOOMS)
    factors = np.stack([np.pad(row, (0, most - len(row)), constant_values=1.0) for row in ZOOMS]).ravel()
    stacks = [stack_stretches([stretch_middle(size, factor) for factor in factors]) for size in (height, width)]
    count = jnp.asarray([len(row) for row in ZOOMS])[level]

    def add(i: Array, total: Array) -> Array:
        rows, columns = (row_of(stack, level * most + i) for stack in stacks)
        return total + stretch_axis(stretch_axis(image, rows, 0), columns, 1)[:height, :width]

    return lax.fori_loop(0, count, add, image) / (count + 1).astype(image.dtype)

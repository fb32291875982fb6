"""Smoothing filters on maps: box, Gaussian, guided, total variation. Linear ones average what lies inside the image."""

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from robustdepth.imaging.resize import resize_map
from robustdepth.types import Array

Map = Float[Array, "batch height width"]
COARSEST = 8  # rows or columns of the smallest map that total variation is solved on


def box_filter(values: Map, radius: int) -> Map:
    """Mean over the window of 2 radius + 1 rows and columns round every pixel, as far as it lies inside the image."""
    rows, columns = (_inside(n, radius) for n in values.shape[-2:])
    return _sums(_sums(values, radius, 1), radius, 2) / (rows[:, None] * columns)[None]


def _sums(values: Map, radius: int, axis: int) -> Map:
    """Windows are summed directly: at these radii as fast as running sums, which would lose digits."""
    window = tuple(2 * radius + 1 if i == axis else 1 for i in range(3))
    padding = tuple((radius, radius) if i == axis else (0, 0) for i in range(3))
    return lax.reduce_window(values, jnp.zeros((), values.dtype), lax.add, window, (1, 1, 1), padding)


def _inside(length: int, radius: int) -> Float[np.ndarray, "length"]:
    """How many pixels of each window lie inside."""
    at = np.arange(length)
    return (np.minimum(at + radius, length - 1) - np.maximum(at - radius, 0) + 1).astype(np.float32)


def gaussian_filter(values: Map, sigma: float) -> Map:
    """Gaussian mean with standard deviation `sigma` in pixels, the part outside the image left out.

    Two products with dense matrices, so that a sigma larger than the image costs what a small one does.
    """
    down, along = (jnp.asarray(_gaussian(n, sigma), values.dtype) for n in values.shape[-2:])
    return _product(_product(down, values), along.T)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


@lru_cache
def _gaussian(length: int, sigma: float) -> Float[np.ndarray, "length length"]:
    """Rows of a Gaussian round each pixel, normalised."""
    at = np.arange(length)
    weights = np.exp(-0.5 * ((at[None] - at[:, None]) / sigma) ** 2)
    return weights / weights.sum(axis=1, keepdims=True)


def guided_filter(guide: Map, values: Map, radius: int, epsilon: float) -> Map:
    """Smooths `values` where `guide` is smooth and keeps its steps where `guide` has them.

    In every window `values` is fitted by a guide + b, with a^2 weighted by `epsilon`; a pixel takes the mean of all
    fits it takes part in. Source: He, Sun & Tang, TPAMI 2013, equations 5, 6 and 8; windows end at the border.
    """
    maps = guide, values, guide * guide, guide * values
    mean_guide, mean_values, square, product = [box_filter(part, radius) for part in maps]
    slope = (product - mean_guide * mean_values) / (square - mean_guide * mean_guide + epsilon)
    offset = mean_values - slope * mean_guide
    return box_filter(slope, radius) * guide + box_filter(offset, radius)


def total_variation_filter(values: Map, weight: float, iterations: int) -> Map:
    """The map u that minimises sum (u - values)^2 / 2 + weight sum |grad u|, after a fixed number of steps.

    |grad u| is the length of the forward differences (0 beyond the border). Solved in the dual, u = values + weight div
    p with |p| <= 1, by the fast gradient projection of Beck & Teboulle, TIP 2009 (algorithm FGP), which begins at the
    solution for half the resolution, found likewise: small steps alone would take long to cross wide areas.
    """
    return _primal(values, weight, *_dual(values, weight, iterations))


def _primal(values: Map, weight: float, down: Map, right: Map) -> Map:
    return values + weight * (_backward(down, 1) + _backward(right, 2))


def _dual(values: Map, weight: float, iterations: int) -> tuple[Map, Map]:
    """The two components of p. A map of half the size has half the weight: areas shrink faster than outlines."""
    size = values.shape[1:]
    down = right = jnp.zeros_like(values)
    if min(size) >= 2 * COARSEST:
        half = (size[0] + 1) // 2, (size[1] + 1) // 2
        down, right = (resize_map(p, size) for p in _dual(resize_map(values, half), weight / 2.0, iterations))

    def step(_, state):
        down, right, lead_down, lead_right, pace = state
        u = _primal(values, weight, lead_down, lead_right)
        new_down = lead_down + _forward(u, 1) / (8.0 * weight)
        new_right = lead_right + _forward(u, 2) / (8.0 * weight)
        shrink = lax.rsqrt(jnp.maximum(new_down * new_down + new_right * new_right, 1.0))  # onto |p| <= 1
        new_down, new_right = new_down * shrink, new_right * shrink
        new_pace = 0.5 * (1.0 + jnp.sqrt(1.0 + 4.0 * pace * pace))
        push = (pace - 1.0) / new_pace
        return (
            new_down,
            new_right,
            new_down + push * (new_down - down),
            new_right + push * (new_right - right),
            new_pace,
        )

    state = down, right, down, right, jnp.ones((), values.dtype)
    return lax.fori_loop(0, iterations, step, state)[:2]


def _forward(values: Map, axis: int) -> Map:
    """Difference to the next pixel; 0 at the last."""
    return jnp.pad(jnp.diff(values, axis=axis), [(0, int(i == axis)) for i in range(3)])


def _backward(values: Map, axis: int) -> Map:
    """Minus the transpose of `_forward`."""
    inner = lax.slice_in_dim(values, 0, values.shape[axis] - 1, axis=axis)
    after, before = ([(i == axis) * side for i in range(3)] for side in (np.array([0, 1]), np.array([1, 0])))
    return jnp.pad(inner, after) - jnp.pad(inner, before)

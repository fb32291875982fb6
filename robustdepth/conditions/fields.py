"""Random draws a sample, smooth random maps, and random cells that hold one particle each."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import UInt32

from robustdepth.conditions.condition import Draw, Map
from robustdepth.imaging.resize import resize_map
from robustdepth.types import Array


def uniform(key: Array, batch: int, low: float = 0.0, high: float = 1.0) -> Draw:
    """One number a sample."""
    return jax.random.uniform(key, (batch, 1, 1, 1), minval=low, maxval=high)


def smooth_noise(key: Array, batch: int, grid: tuple[int, int], size: tuple[int, int]) -> Map:
    """Clouds in [0, 1]: two octaves of value noise, from `grid` cells to `size` pixels, (rows, columns) both."""
    coarse, fine = jax.random.split(key)
    noise = jax.random.uniform(coarse, (batch, 1, *grid))
    detail = jax.random.uniform(fine, (batch, 1, 2 * grid[0], 2 * grid[1]))
    return (2.0 * resize_map(noise, size) + resize_map(detail, size)) / 3.0


class Cell(NamedTuple):
    """The random cell that a pixel lies in, with three independent uniform numbers that all its pixels share."""

    across: Map  # where the pixel lies in its cell, in [0, 1)
    along: Map
    draws: tuple[Map, Map, Map]


def cells(across: Map, along: Map, seed: UInt32[Array, "batch 1 1 1"]) -> Cell:
    """Cuts the plane into unit cells, each column of cells shifted at random, and draws three numbers for each.

    Numbers come from hashing the cell's integer coordinates, so particles cost arithmetic only: no tables, no loops
    over particles, and as many as the picture needs.
    """
    column = jnp.floor(across)
    of_column = _mix(_integer(column) + seed)
    along = along + _fraction(of_column, 0, 16)
    row = jnp.floor(along)
    bits = _mix(of_column + _integer(row))
    draws = _fraction(bits, 0, 10), _fraction(bits, 10, 11), _fraction(bits, 21, 11)
    return Cell(across - column, along - row, draws)


def seeds(key: Array, batch: int) -> UInt32[Array, "batch 1 1 1"]:
    """One seed a sample for `cells`."""
    return jax.random.bits(key, (batch, 1, 1, 1), jnp.uint32)


def _integer(whole: Map) -> UInt32[Array, "batch 1 height width"]:
    return whole.astype(jnp.int32).astype(jnp.uint32)


def _mix(bits: UInt32[Array, "batch 1 height width"]) -> UInt32[Array, "batch 1 height width"]:
    """Every input bit changes every output bit half of the time (the two-round hash of Wellons, 2018)."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
    return bits ^ (bits >> 16)


def _fraction(bits: UInt32[Array, "batch 1 height width"], first: int, count: int) -> Map:
    """`count` bits from bit `first` on, as a number in [0, 1)."""
    part = (bits >> first) & jnp.uint32(2**count - 1)
    return part.astype(jnp.float32) / 2.0**count

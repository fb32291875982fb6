"""What is built: rows of houses, what closes the view behind them or across the road, walls, and bridges."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Bool, Float

from robustdepth.types import Array
from robustdepth.world.dice import Dice
from robustdepth.world.ground import Ground, clear_of_crossing
from robustdepth.world.palette import mix, paint_color, stone_color, tinted
from robustdepth.world.solids import Look, Solids, Spot, join, place, sample_look
from robustdepth.world.themes import Theme, within

Scalar = Float[Array, ""]
HOUSES, BACKDROPS, WALLS, ENDS = 9, 4, 4, 3  # per side of the road; the last across it


def sample_houses(dice: Dice, ground: Ground, side: Scalar, setback: Scalar, theme: Theme) -> Solids:
    """A row of houses with gable or flat roofs; `setback` is the distance of their fronts from the centre line."""
    n = HOUSES
    frontage, gap = dice(8.0, 18.0, n) * dice(0.8, 1.5), dice(0.0, 1.0, n) ** 3 * theme.gap
    z = jnp.cumsum(frontage + gap) - dice(5.0, 20.0) - frontage / 2
    depth = dice(6.0, 14.0, n)
    x = side * (setback + depth / 2 + dice(0.0, 1.5, n) * jnp.where(dice.chance(0.5), 1.0, 0.0))
    exists = dice.chance(theme.houses, n) & clear_of_crossing(ground, z, frontage / 2)
    eaves = within(dice, theme.eaves) * dice(0.75, 1.3, n)
    return build(dice, ground, Spot(exists, x, z, yaw=jnp.pi / 2), (frontage / 2, eaves / 2, depth / 2))


def build(dice: Dice, ground: Ground, spot: Spot, half: tuple) -> Solids:
    """Houses whose fronts look along their local z axis: walls, and on most a gable roof with its ridge across."""
    n = spot.x.shape[0]
    walls = place(ground, spot, half, facade_look(dice, n))
    rise, overhang = dice(1.5, 5.0, n), dice(0.1, 0.6, n)
    gable = spot.but(exists=spot.exists & dice.chance(0.65, n), bottom=2 * half[1])
    color = tinted(dice(0.1, 0.55, n), (1.0, 0.75, 0.65))
    tiles = sample_look(dice, color, "stripes", "building", contrast=(0.1, 0.5), peak=(0.0, 4.0))
    size = (half[0] + overhang, rise / 2, half[2] + overhang)
    return join(walls, place(ground, gable, size, tiles, taper=half[2] / rise))


def facade_look(dice: Dice, n: int) -> Look:
    color = mix(stone_color(dice, n), paint_color(dice, n), dice(0.0, 1.0, n) ** 3)
    glass = tinted(dice(0.02, 0.35, n), (0.9, 1.0, 1.1))
    look = sample_look(dice, color, "facade", "building", contrast=(0.1, 0.7), peak=(0.0, 4.5), accent=glass)
    return look.but(contrast=look.contrast**2)


def sample_backdrops(dice: Dice, ground: Ground, side: Scalar, distance: Scalar, theme: Theme) -> Solids:
    """Rows of buildings far from the road, of which one may stand across it."""
    n = BACKDROPS
    across = (jnp.arange(n) == 0) & dice.chance(0.4)
    length = jnp.where(across, 25.0, dice(20.0, 45.0, n))
    z = jnp.where(across, dice(55.0, 95.0, n), jnp.cumsum(length) - length / 2 - 10.0)
    x = jnp.where(across, side * length / 2 + dice(-5.0, 5.0, n), side * (distance + dice(0.0, 15.0, n)))
    spot = Spot(dice.chance(0.6 * theme.houses, n), x, z, yaw=jnp.where(across, jnp.pi / 2, 0.0) + 0.1 * dice.normal(n))
    return place(ground, spot, (4.0, dice(3.0, 8.0, n), length / 2), facade_look(dice, n))


def sample_ends(dice: Dice, ground: Ground) -> Solids:
    """The houses that a road runs up to where it ends at another."""
    n = ENDS
    frontage, depth = dice(10.0, 26.0, n), dice(6.0, 14.0, n)
    x = jnp.cumsum(frontage) - frontage / 2 - frontage.sum() / 2 + dice(-6.0, 6.0)
    exists = (ground.end < 100.0) & dice.chance(0.9, n)
    spot = Spot(exists, x, ground.end + depth / 2 + dice(0.0, 2.0, n), yaw=0.1 * dice.normal())
    return build(dice, ground, spot, (frontage / 2, dice(2.5, 7.0, n), depth / 2))


def sample_walls(dice: Dice, ground: Ground, side: Scalar, distance: Scalar, theme: Theme) -> Solids:
    """Along the road: garden walls, high plain walls and garages, or a guard rail."""
    n = WALLS
    length, gap = dice(5.0, 24.0, n), dice(0.0, 8.0, n)
    rail = dice.chance(0.15)
    gap, length = jnp.where(rail, 0.0, gap), jnp.where(rail, 24.0, length)
    z = jnp.cumsum(length + gap) - dice(4.0, 16.0) - length / 2
    high = dice.chance(0.35, n)
    height = jnp.where(rail, 0.35, jnp.where(high, dice(2.0, 5.5, n), dice(0.5, 2.0, n)))
    thickness = jnp.where(rail, 0.08, jnp.where(high, dice(0.2, 6.0, n), dice(0.1, 0.4, n)))
    inner = jnp.where(rail, ground.half_width + 0.6, distance + dice(0.0, 0.5, n))
    exists = (dice.chance(theme.walls, n) | (rail & dice.chance(0.6))) & clear_of_crossing(ground, z, length / 2)
    spot = Spot(exists, side * (inner + thickness / 2), z, bottom=jnp.where(rail, 0.4, 0.0))
    color = mix(stone_color(dice, n), paint_color(dice, n), dice(0.0, 1.0, n) ** 3)
    look = sample_look(dice, color, "stripes", "wall", contrast=(0.05, 0.5), peak=(-1.0, 4.0))
    plain = look.but(pattern=jnp.where(dice.chance(0.5, n) | rail, 0, look.pattern))
    return place(ground, spot, (thickness / 2, height / 2, length / 2), plain)


def sample_bridges(dice: Dice, ground: Ground) -> Solids:
    """What crosses above the road: a bridge, or a gantry on its two posts."""
    bridge, gantry = dice.chance(0.06), dice.chance(0.08)
    z, bottom = dice(12.0, 80.0), dice(4.6, 6.0)
    reach = ground.half_width + dice(0.8, 3.0)
    deck, beam = (40.0, dice(0.4, 1.2), dice(2.0, 8.0)), (reach, dice(0.1, 0.7), 0.12)
    post = jnp.where(bridge, dice(0.4, 1.2), 0.12)
    half = [jnp.where(bridge, wide, thin) for wide, thin in zip(deck, beam, strict=True)]
    exists = (bridge | gantry) & _three()
    size = [jnp.stack([own, post, post]) for own in half]
    size[1] = jnp.stack([half[1], bottom / 2, bottom / 2])
    spot = Spot(
        exists, jnp.stack([jnp.zeros(()), -reach, reach]), jnp.full(3, z), bottom=jnp.stack([bottom, 0 * z, 0 * z])
    )
    color = jnp.broadcast_to(stone_color(dice), (3, 3))
    look = sample_look(dice, color, "plain", "building", contrast=(0.05, 0.4), peak=(-1.0, 3.0))
    return place(ground, spot, tuple(size), look)


def _three() -> Bool[Array, "3"]:
    return jnp.ones(3, bool)

"""What grows beside the road: woods, hedges, trees and bushes; and fences, which are screens as hedges are."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.types import Array
from robustdepth.world.dice import Dice
from robustdepth.world.ground import Ground, clear_of_crossing
from robustdepth.world.palette import foliage_color, mix, stone_color, tinted
from robustdepth.world.solids import CLASSES, PATTERNS, Look, Solids, Spot, choose, join, place, sample_look
from robustdepth.world.themes import Theme, within

Scalar = Float[Array, ""]
WOODS, HEDGES, TREES, BUSHES = 5, 5, 12, 9  # per side of the road
CLEARANCE = 2.7  # metres below what hangs over the road


def sample_woods(dice: Dice, ground: Ground, side: Scalar, edge: Scalar, theme: Theme) -> Solids:
    """Walls of trees, the first of which may stand across the road's far end."""
    n = WOODS
    across = (jnp.arange(n) == 0) & dice.chance(0.5)
    length, thickness = jnp.where(across, 30.0, dice(10.0, 40.0, n)), dice(2.0, 6.0, n)
    z = jnp.where(across, dice(50.0, 97.0, n), jnp.cumsum(length * dice(0.8, 1.3, n)) - length / 2 - dice(5.0, 25.0))
    away = edge + within(dice, theme.woods_at) + thickness / 2 + dice(0.0, 2.0, n)
    x = jnp.where(across, side * length / 2 + dice(-6.0, 6.0, n), side * away)
    exists = (dice.chance(theme.woods, n) | across) & (clear_of_crossing(ground, z, length / 2) | across)
    spot = Spot(exists, x, z, yaw=jnp.where(across, jnp.pi / 2 + 0.1 * dice.normal(n), 0.015 * dice.normal(n)))
    height = dice(3.0, 9.0) * dice(0.7, 1.8, n)
    color = mix(foliage_color(dice, n), jnp.broadcast_to(foliage_color(dice), (n, 3)), jnp.full(n, 0.6))
    look = leaves(dice, color * dice(0.4, 1.0)).but(leafage=dice(-0.4, 0.7, n))
    return place(ground, spot, (thickness / 2, height / 2, length / 2), look, taper=dice(0.0, 0.4, n))


def leaves(dice: Dice, color: Float[Array, "n 3"]) -> Look:
    return sample_look(dice, color, "foliage", "vegetation", contrast=(1.2, 3.2), peak=(1.5, 4.5))


def sample_hedges(dice: Dice, ground: Ground, side: Scalar, distance: Scalar, theme: Theme) -> Solids:
    """Hedges, clipped or grown out, and fences of bars along the road."""
    n = HEDGES
    length, gap = dice(4.0, 24.0, n), dice(0.2, 6.0, n)
    z = jnp.cumsum(length + gap) - dice(4.0, 16.0) - length / 2
    fence = dice.chance(0.3, n)
    height = jnp.where(fence, dice(0.8, 2.2, n), dice(0.7, 2.0, n) * dice(0.8, 2.0))
    thickness = jnp.where(fence, 0.05, dice(0.6, 2.5, n))
    exists = dice.chance(theme.hedges, n) & clear_of_crossing(ground, z, length / 2)
    spot = Spot(exists, side * (distance + thickness / 2 + dice(0.0, 0.5, n)), z)
    metal = stone_color(dice, n) * dice(0.2, 1.0)
    look = leaves(dice, jnp.where(fence[:, None], metal, foliage_color(dice, n)))
    look = look.but(
        contrast=jnp.where(fence, 0.2, look.contrast),
        pattern=choose(PATTERNS, fence, "plain", "foliage"),
        label=choose(CLASSES, fence, "wall", "vegetation"),
        leafage=dice(0.2, 1.5, n),
        bars=jnp.where(fence, dice(1.2, 7.0, n), 0.0),
    )
    return place(ground, spot, (thickness / 2, height / 2, length / 2), look)


def sample_trees(dice: Dice, ground: Ground, side: Scalar, theme: Theme) -> tuple[Solids, Solids]:
    """Trees: trunks, and crowns of three ellipsoids or, for conifers, one. Rows are mostly of one kind."""
    n = TREES
    beside, spacing = dice.chance(0.55), dice(4.0, 13.0)
    aside = jnp.where(beside, dice(0.6, 2.5), dice(3.0, 12.0)) + dice(0.0, 1.0, n) * dice(0.0, 6.0)
    x = side * (ground.half_width + aside)
    z = jnp.cumsum(spacing * dice(0.7, 1.3, n)) + dice(-14.0, 4.0)
    exists = dice.chance(theme.trees, n) & clear_of_crossing(ground, z, jnp.full(n, 0.5)) & (z > 1.0)
    conifer = dice.chance(jnp.where(dice.chance(0.25), 0.8, 0.05), n)
    girth = dice(0.7, 1.25, n) * dice(0.7, 1.7)
    radius = girth * jnp.where(conifer, dice(1.0, 2.0, n), dice(1.6, 3.6, n))
    tall = girth * jnp.where(conifer, dice(2.0, 5.5, n), dice(1.2, 3.0, n))
    over = jnp.abs(x - ground.lane) - 1.6 * radius < 2.0
    stem = jnp.where(conifer, dice(0.2, 1.2, n), dice(1.4, 4.0, n) * dice(0.8, 1.4))
    stem = jnp.where(over, jnp.maximum(stem, CLEARANCE + 0.2 * tall), stem)
    spot = Spot(exists, x, z)
    bark = tinted(dice(0.04, 0.3, n), (1.0, 0.85, 0.7))
    trunk_look = sample_look(dice, bark, "plain", "vegetation", contrast=(0.3, 0.9), peak=(1.0, 4.0))
    thick = girth * dice(0.07, 0.26, n)
    trunk = place(ground, spot, (thick, (stem + 0.5 * tall) / 2, thick), trunk_look)
    color = mix(jnp.broadcast_to(foliage_color(dice), (n, 3)), foliage_color(dice, n), dice(0.0, 1.0) * dice(count=n))
    look = leaves(dice, color * dice(0.5, 1.1)).but(leafage=dice(0.6, 1.05) * dice(0.9, 1.25, n))
    parts = [place(ground, spot.but(bottom=stem), (radius, tall, radius), look)]
    for _ in range(2):
        wide, high = radius * dice(0.5, 0.85, n), tall * dice(0.5, 0.9, n)
        shifted = spot.but(
            exists=exists & ~conifer,
            x=x + radius * dice(-0.9, 0.9, n),
            z=z + radius * dice(-0.9, 0.9, n),
            bottom=stem + tall * dice(-0.2, 1.2, n),
        )
        parts.append(place(ground, shifted, (wide, high, wide), look.but(seed=dice.seed(n))))
    return trunk, join(*parts)


def sample_bushes(dice: Dice, ground: Ground, side: Scalar, edge: Scalar, theme: Theme) -> Solids:
    n = BUSHES
    radius = dice(0.4, 2.0, n) * dice(0.6, 1.6)
    exists = dice.chance(theme.bushes, n)
    spot = Spot(
        exists, side * (edge + radius + dice(0.0, 5.0, n)), jnp.cumsum(dice(2.0, 12.0, n)), bottom=-0.3 * radius
    )
    look = leaves(dice, foliage_color(dice, n)).but(leafage=dice(0.9, 1.5, n))
    return place(ground, spot, (radius, radius * dice(0.6, 1.4, n), radius), look)

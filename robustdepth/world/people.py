"""People: pedestrians beside the road and cyclists on it."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.types import Array
from robustdepth.world.dice import Dice
from robustdepth.world.ground import Ground
from robustdepth.world.palette import mix, paint_color, stone_color, tinted
from robustdepth.world.solids import Solids, Spot, place, sample_look

PEDESTRIANS = 3  # per side of the road
CYCLISTS = 2


def sample_people(dice: Dice, ground: Ground, side: Float[Array, ""]) -> tuple[Solids, Solids]:
    """Pedestrians on the near zone, standing or walking: a body and a head."""
    n = PEDESTRIANS
    x = side * (ground.half_width + 0.4 + dice(0.0, 1.0, n) * ground.near)
    speed = jnp.where(dice.chance(0.7, n), dice(-0.15, 0.15, n), 0.0)
    spot = Spot(dice.chance(dice(0.0, 0.8), n), x, dice(4.0, 35.0, n), speed=speed)
    return sample_figures(dice, ground, spot, dice(1.1, 1.65, n), dice(0.16, 0.26, n))


def sample_figures(
    dice: Dice, ground: Ground, spot: Spot, tall: Float[Array, "n"], girth: Float[Array, "n"]
) -> tuple[Solids, Solids]:
    """Bodies of the given height and radius in clothes of two colours, and their heads."""
    n = spot.x.shape[0]
    clothes = [mix(stone_color(dice, n), paint_color(dice, n), dice(0.0, 0.8, n)) * dice(0.1, 0.9) for _ in range(2)]
    cloth = sample_look(
        dice, clothes[0], "clothes", "person", contrast=(0.05, 0.35), peak=(0.0, 3.0), accent=clothes[1]
    )
    body = place(ground, spot, (girth, tall / 2, girth), cloth)
    skin = tinted(dice(0.2, 0.7, n), (1.0, 0.75, 0.6)) * jnp.where(dice.chance(0.5, n), 0.3, 1.0)[:, None]
    face = sample_look(dice, skin, "plain", "person", contrast=(0.05, 0.35), peak=(0.0, 3.0))
    head = place(ground, spot.but(bottom=spot.bottom + tall - 0.03), (0.12, 0.145, 0.12), face)
    return body, head


def sample_cyclists(dice: Dice, ground: Ground) -> tuple[Solids, Solids, Solids]:
    """Cyclists along the road's edges, riding with the camera or towards it: bicycles, bodies and heads."""
    n = CYCLISTS
    ahead = dice.chance(0.6, n)
    x = jnp.where(ahead, 1.0, -1.0) * (ground.half_width - dice(-0.6, 1.0, n))
    speed = jnp.where(ahead, dice(0.1, 0.7, n), -dice(0.1, 0.7, n))
    exists = dice.chance(0.25, n) & (jnp.abs(x - ground.lane) > 1.4)
    spot = Spot(exists, x, dice(4.0, 35.0, n), bottom=0.55, speed=speed)
    body, head = sample_figures(dice, ground, spot, dice(0.85, 1.1, n), dice(0.17, 0.25, n))
    metal = sample_look(dice, stone_color(dice, n) * 0.4, "plain", "person", contrast=(0.0, 0.2), peak=(0.0, 3.0))
    frame = metal.but(bars=dice(3.0, 5.0, n))
    return place(ground, spot.but(bottom=0.0), (0.03, 0.45, 0.85), frame), body, head

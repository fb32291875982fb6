"""Who uses the street: parked and moving vehicles, and people."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Bool, Float

from robustdepth.types import Array
from robustdepth.world.dice import Dice
from robustdepth.world.ground import Ground, clear_of_crossing
from robustdepth.world.palette import mix, paint_color, stone_color, tinted
from robustdepth.world.solids import CLASSES, PATTERNS, Solids, join, place

PARKED, PEOPLE = 6, 3  # per side of the road
MOVING = 3

Range = tuple[float, float]


def sample_parked(dice: Dice, ground: Ground, side: Float[Array, ""], density: Float[Array, ""]) -> Solids:
    """Parked vehicles, on the road's edge where it is wide enough, else beside it."""
    n = PARKED
    z = jnp.cumsum(dice(5.5, 12.0, n)) + dice(-3.0, 6.0)
    inside = (ground.half_width - jnp.abs(ground.lane)) > 3.2
    x = side * (ground.half_width + jnp.where(inside, dice(-1.1, -0.9), dice(0.9, 1.6)) + dice(-0.1, 0.1, n))
    exists = dice.chance(0.9 * density, n) & clear_of_crossing(ground, z, jnp.full(n, 2.5))
    exists = exists & (jnp.abs(x - ground.lane) > 2.3)
    yaw = jnp.where(dice.chance(0.5, n), jnp.pi, 0.0) + 0.03 * dice.normal(n)
    return sample_vehicles(dice, ground, exists, x, z, yaw, jnp.zeros(n))


def sample_traffic(dice: Dice, ground: Ground) -> Solids:
    """Moving vehicles: one ahead in the own lane, the others oncoming or on the other lane."""
    n = MOVING
    own = jnp.arange(n) == 0
    other = jnp.where(ground.half_width > 3.4, -ground.lane, -ground.half_width - 30.0)
    x = jnp.where(own, ground.lane, other) + dice(-0.3, 0.3, n)
    z = 3.0 + jnp.cumsum(dice(5.0, 25.0, n))
    exists = dice.chance(0.45, n) & (own | (other > -ground.half_width))
    speed = jnp.where(own, dice(0.2, 2.0, n), -dice(0.3, 2.0, n))
    return sample_vehicles(dice, ground, exists, x, z, jnp.where(own, 0.0, jnp.pi), speed)


def sample_vehicles(
    dice: Dice,
    ground: Ground,
    exists: Bool[Array, "n"],
    x: Float[Array, "n"],
    z: Float[Array, "n"],
    yaw: Float[Array, "n"],
    speed: Float[Array, "n"],
) -> Solids:
    """Cars, vans and trucks: a body and a cabin each."""
    n = x.shape[0]
    kind = dice(count=n)
    van, truck = kind > 0.85, kind > 0.95

    def pick(car: Range, a_van: Range, a_truck: Range) -> Float[Array, "n"]:
        return jnp.where(truck, dice(*a_truck, count=n), jnp.where(van, dice(*a_van, count=n), dice(*car, count=n)))

    length = pick((3.6, 4.9), (4.4, 5.6), (5.5, 9.0))
    width = pick((1.62, 1.9), (1.8, 2.05), (2.2, 2.5))
    height = pick((1.38, 1.62), (1.8, 2.4), (2.6, 3.7))
    belt = height * pick((0.56, 0.64), (0.5, 0.6), (0.6, 0.75))
    cabin = length * pick((0.56, 0.78), (0.84, 0.97), (0.9, 0.99))
    paint = mix(stone_color(dice, n), paint_color(dice, n), jnp.where(dice.chance(0.4, n), dice(0.5, 1.0, n), 0.0))
    paint = paint * jnp.where(dice.chance(0.4, n), dice(0.05, 0.4, n), 1.1)[:, None]
    shared = dict(
        speed=speed,
        color=paint,
        accent=tinted(dice(0.02, 0.25, n), (0.9, 1.0, 1.1)),
        contrast=dice(0.0, 0.15, n),
        peak=dice(-1.0, 3.0, n),
        seed=dice.seed(n),
        label=jnp.where(truck, CLASSES.index("truck"), CLASSES.index("car")),
    )
    body = place(
        ground,
        exists,
        x,
        z,
        yaw=yaw,
        bottom=0.0,
        half=(width / 2, belt / 2, length / 2),
        taper=dice(0.0, 0.12, n),
        pattern=PATTERNS.index("body"),
        **shared,
    )
    shift = jnp.where(van, 0.0, -(length - cabin) / 2 * dice(0.2, 0.9, n)) * jnp.cos(yaw)
    top = place(
        ground,
        exists,
        x,
        z + shift,
        yaw=yaw,
        bottom=belt,
        half=(width / 2 - 0.05, (height - belt) / 2, cabin / 2),
        taper=jnp.where(truck, 0.0, jnp.where(van, dice(0.0, 0.3, n), dice(0.4, 1.0, n))),
        pattern=PATTERNS.index("cabin"),
        **shared,
    )
    return join(body, top)


def sample_people(
    dice: Dice, ground: Ground, side: Float[Array, ""], density: Float[Array, ""]
) -> tuple[Solids, Solids]:
    """Pedestrians on the near zone, standing or walking: a body and a head."""
    n = PEOPLE
    x = side * (ground.half_width + 0.4 + dice(0.0, 1.0, n) * ground.near)
    z, tall = dice(4.0, 35.0, n), dice(1.1, 1.65, n)
    shared = dict(
        speed=jnp.where(dice.chance(0.7, n), dice(-0.15, 0.15, n), 0.0),
        contrast=dice(0.05, 0.35, n),
        peak=dice(0.0, 3.0, n),
        seed=dice.seed(n),
        label=CLASSES.index("person"),
    )
    exists = dice.chance(0.8 * density, n)
    clothes = [mix(stone_color(dice, n), paint_color(dice, n), dice(0.0, 0.8, n)) * dice(0.1, 0.9) for _ in range(2)]
    girth = dice(0.16, 0.26, n)
    body = place(
        ground,
        exists,
        x,
        z,
        half=(girth, girth, None),
        height=tall,
        pattern=PATTERNS.index("clothes"),
        color=clothes[0],
        accent=clothes[1],
        **shared,
    )
    skin = tinted(dice(0.2, 0.7, n), (1.0, 0.75, 0.6))
    radius = jnp.full(n, 0.12)
    head = place(
        ground,
        exists,
        x,
        z,
        bottom=tall - 0.03,
        half=(radius, radius * 1.2, radius),
        color=skin,
        pattern=PATTERNS.index("plain"),
        **shared,
    )
    return body, head

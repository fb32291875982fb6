"""Parked and moving vehicles."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from robustdepth.types import Array
from robustdepth.world.dice import Dice
from robustdepth.world.ground import Ground, clear_of_crossing
from robustdepth.world.palette import mix, paint_color, stone_color, tinted
from robustdepth.world.solids import CLASSES, PATTERNS, Solids, Spot, choose, join, place, sample_look

PARKED = 8  # per side of the road
LANES = 2, 3  # vehicles ahead in the camera's lane, and on the others
GAP = 4.0  # metres at least from the camera to the vehicle ahead
HEAVY = 0.25  # share of scenes with heavy traffic: mostly vans, trucks and buses, the first of them close ahead

Range = tuple[float, float]


def sample_parked(dice: Dice, ground: Ground, side: Float[Array, ""], share: Float[Array, ""]) -> Solids:
    """Parked vehicles, on the road's edge where it is wide enough, else beside it; in rows close to each other."""
    n = PARKED
    z = jnp.cumsum(dice(5.0, 5.0 + 6.0 * dice(), n)) + dice(-6.0, 4.0)
    inside = (ground.half_width - jnp.abs(ground.lane)) > 3.2
    x = side * (ground.half_width + jnp.where(inside, dice(-1.1, -0.9), dice(0.9, 1.6)) + dice(-0.1, 0.1, n))
    exists = dice.chance(share, n) & clear_of_crossing(ground, z, jnp.full(n, 2.5))
    exists = exists & (jnp.abs(x - ground.lane) > 2.3)
    yaw = jnp.where(dice.chance(0.5, n), jnp.pi, 0.0) + 0.03 * dice.normal(n)
    return sample_vehicles(dice, ground, Spot(exists, x, z, yaw=yaw))


def sample_traffic(dice: Dice, ground: Ground) -> Solids:
    """Moving vehicles: ahead in the own lane, oncoming, or on further lanes; at times they all stand."""
    ahead, others = LANES
    n = ahead + others
    own = jnp.arange(n) < ahead
    with_us = own | dice.chance(0.25, n)
    free = ground.half_width - jnp.abs(ground.lane) > 2.0
    left = jnp.where(with_us, ground.lane - 3.3, -ground.lane)
    x = jnp.where(own, ground.lane, left) + dice(-0.3, 0.3, n)
    hops = dice(0.0, 1.0, n) ** 2 * 45.0
    z = jnp.concatenate([7.0 + jnp.cumsum(8.0 + hops[:ahead]) - 5.0, 3.0 + jnp.cumsum(6.0 + hops[ahead:])])
    apart = (jnp.abs(x - ground.lane) > 2.2) & (jnp.abs(x) < ground.half_width - 0.8)
    exists = dice.chance(dice(0.0, 0.8), n) & (own | (apart & free)) & (z < ground.end - 4.0)
    speed = jnp.where(dice.chance(0.15), 0.0, jnp.where(with_us, dice(0.2, 2.0, n), -dice(0.3, 2.0, n)))
    further = Dice(jax.random.fold_in(dice.key(), 2), capacity=3)  # the two sides of the road take the key's 0 and 1
    heavy = further.chance(HEAVY)
    z = z.at[0].set(jnp.where(heavy, further(7.0, 18.0), z[0]))
    exists = exists.at[0].set(jnp.where(heavy, further.chance(0.75), exists[0]))
    spot = Spot(exists, x, z, yaw=jnp.where(with_us, 0.0, jnp.pi), speed=speed)
    return sample_vehicles(dice, ground, spot, heavy)


def sample_vehicles(dice: Dice, ground: Ground, spot: Spot, heavy: Bool[Array, ""] | bool = False) -> Solids:
    """Cars, vans, trucks and buses, the larger ones more often in `heavy` traffic: a body and a cabin each."""
    n = spot.x.shape[0]
    kind = dice(0.0, 1.0, n)
    kind = jnp.where(heavy, 1.0 - 0.3 * (1.0 - kind), kind)
    van, truck, bus = kind > 0.80, kind > 0.90, kind > 0.97

    def pick(car: Range, a_van: Range, a_truck: Range) -> Float[Array, "n"]:
        return jnp.where(truck, dice(*a_truck, count=n), jnp.where(van, dice(*a_van, count=n), dice(*car, count=n)))

    length = jnp.where(bus, dice(10.0, 18.0, n), pick((3.6, 4.9), (4.4, 5.8), (5.5, 9.0)))
    before_us = (jnp.abs(spot.x - ground.lane) < 2.2) & (spot.z > 0.0)
    spot = spot.but(z=jnp.where(before_us, jnp.maximum(spot.z, length / 2 + GAP), spot.z))
    width = pick((1.62, 1.9), (1.8, 2.05), (2.2, 2.5))
    height = pick((1.38, 1.62), (1.8, 2.6), (2.6, 3.7))
    belt = height * pick((0.56, 0.64), (0.5, 0.6), (0.35, 0.75))
    cabin = length * pick((0.56, 0.78), (0.84, 0.97), (0.95, 0.99))
    paint = mix(stone_color(dice, n), paint_color(dice, n), jnp.where(dice.chance(0.4, n), dice(0.5, 1.0, n), 0.0))
    paint = paint * jnp.where(dice.chance(0.45, n), dice(0.05, 0.4, n), 1.1)[:, None]
    glass = tinted(0.02 + 0.5 * dice(0.0, 1.0, n) ** 3, (0.9, 1.0, 1.1))
    shell = sample_look(dice, paint, "body", "car", contrast=(0.0, 0.15), peak=(-1.0, 3.0), accent=glass)
    shell = shell.but(label=choose(CLASSES, truck, "truck", "car"))
    body = place(ground, spot, (width / 2, belt / 2, length / 2), shell, taper=dice(0.0, 0.12, n))
    shift = jnp.where(van, 0.0, -(length - cabin) / 2 * dice(0.2, 0.9, n)) * jnp.cos(spot.yaw)
    taper = jnp.where(truck, 0.0, jnp.where(van, dice(0.0, 0.3, n), dice(0.4, 1.0, n)))
    closed = truck & dice.chance(0.6, n)  # a cargo box without windows
    top = shell.but(pattern=choose(PATTERNS, closed, "plain", "cabin"))
    half = (width / 2 - 0.05, (height - belt) / 2, cabin / 2)
    return join(body, place(ground, spot.but(z=spot.z + shift, bottom=belt), half, top, taper=taper))

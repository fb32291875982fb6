"""The ground: a road along a curved line, over crests and through dips, with kerbs and two zones on either side."""

from __future__ import annotations

import flax.struct
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from robustdepth.types import Array
from robustdepth.world.dice import Dice
from robustdepth.world.palette import foliage_color, stone_color

NOWHERE = 1e3  # metres; things that do not exist are put that far down or behind


@flax.struct.dataclass
class Ground:
    """Road, kerb and the two zones on either side; zone order is road, kerb, near zone, far zone."""

    curvature: Float[Array, ""]  # of the centre line, 1/m
    crest: Float[Array, ""]  # vertical curvature, 1/m: positive falls away ahead, negative rises
    half_width: Float[Array, ""]  # of the road
    lane: Float[Array, ""]  # x of the camera's lane
    kerb: Float[Array, ""]  # height
    near: Float[Array, ""]  # width of the near zone
    crossing: Float[Array, "2"]  # z and half width of a side road
    end: Float[Array, ""]  # z where the road ends before what stands across it; NOWHERE where it goes on
    color: Float[Array, "4 3"]
    contrast: Float[Array, "4"]
    peak: Float[Array, "4"]
    tiles: Float[Array, "4"]  # tile size in metres; 0: none
    dash: Float[Array, "3"]  # centre line: strength, period, filled share
    edge: Float[Array, ""]  # strength of the edge lines
    zebra: Float[Array, ""]  # strength of the zebra crossing before the side road
    cracks: Float[Array, ""]
    seed: Int[Array, ""]


def sample_ground(dice: Dice) -> Ground:
    half_width = jnp.where(dice.chance(0.35), dice(5.0, 14.0), dice(2.5, 7.0))
    lane = jnp.where(half_width > 3.4, jnp.minimum(half_width / 2, dice(1.5, 2.2)), dice(-0.3, 0.6))
    outer = dice.chance(0.5) & (half_width > 7.0)
    lane = jnp.where(outer, half_width - dice(1.7, 2.4), lane)
    side_road, ends = dice.chance(0.35), dice.chance(0.25)
    crossing, reach = dice(8.0, 60.0), jnp.where(dice.chance(0.35), dice(6.0, 20.0), dice(2.5, 6.0))
    grey, tint = dice(0.12, 0.5), 1.0 + 0.05 * dice.normal(3)
    paved = dice.chance(0.6), dice.chance(0.3)
    lawn = jnp.stack([foliage_color(dice), foliage_color(dice)])
    stone = jnp.stack([stone_color(dice), stone_color(dice)])
    zones = jnp.where(jnp.stack(paved)[:, None], stone, lawn * 0.9)
    painted = dice.chance(0.6)
    return Ground(
        curvature=jnp.where(dice.chance(0.5), curve(dice, 0.01), curve(dice, 0.0008)),
        crest=jnp.where(dice.chance(0.3), curve(dice, 0.0025), curve(dice, 0.0002)),
        half_width=half_width,
        lane=lane,
        kerb=jnp.where(dice.chance(0.7), dice(0.06, 0.2), 0.01),
        near=jnp.where(dice.chance(0.25), dice(4.0, 14.0), dice(0.8, 5.0) * dice(0.7, 1.0)),
        crossing=jnp.stack([jnp.where(side_road | ends, crossing, -NOWHERE), reach]),
        end=jnp.where(ends, crossing + reach + dice(1.0, 6.0), NOWHERE),
        color=jnp.concatenate([(grey * tint)[None], (dice(0.2, 0.7) * tint)[None], zones]),
        contrast=dice(0.2, 0.6, 4) ** 2 + jnp.array([0.0, 0.0, 0.1, 0.2]),
        peak=dice(-0.5, 4.0, 4),
        tiles=jnp.stack([0.0, 1.0, *jnp.where(jnp.stack(paved), dice(0.2, 1.5, 2), 0.0)]),
        dash=jnp.stack([jnp.where(painted & (half_width > 3.4), dice(0.4, 1.0), 0.0), dice(3.0, 12.0), dice(0.3, 1.0)]),
        edge=jnp.where(painted, dice(0.0, 1.0), 0.0),
        zebra=jnp.where(side_road & dice.chance(0.6), dice(0.5, 1.0), 0.0),
        cracks=jnp.where(dice.chance(0.5), dice(0.2, 0.8), 0.0),
        seed=dice.seed(),
    )


def curve(dice: Dice, most: float) -> Float[Array, ""]:
    """A curvature of either sign, more often a small one."""
    return most * dice() ** 2 * jnp.where(dice.chance(0.5), 1.0, -1.0)


def level(ground: Ground, z: Float[Array, "..."]) -> Float[Array, "..."]:
    """World y of the road's surface."""
    return 0.5 * ground.crest * z * z


def clear_of_crossing(ground: Ground, z: Float[Array, "n"], half: Float[Array, "n"]) -> Bool[Array, "n"]:
    """Whether what reaches `half` metres along from `z` leaves the side road free and begins before the end."""
    return (jnp.abs(z - ground.crossing[0]) > ground.crossing[1] + half) & (z - half < ground.end)

"""The street plan: everything that stands along the road, across it and on it."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from robustdepth.types import Array
from robustdepth.world import buildings, furniture, greenery, people, traffic
from robustdepth.world.dice import Dice
from robustdepth.world.ground import Ground
from robustdepth.world.solids import CLASSES as CLASSES
from robustdepth.world.solids import Solids, join
from robustdepth.world.themes import sample_kind, sample_theme


@flax.struct.dataclass
class Stock:
    """All solids of a scene by shape."""

    boxes: Solids
    screens: Solids
    columns: Solids
    crowns: Solids


def sample_solids(dice: Dice, ground: Ground) -> Stock:
    """The solids of one scene; nothing stands where the camera drives."""
    street = sample_kind(dice)
    # Both sides at once: half the operations to compile.
    keys, sides = jax.random.split(dice.key(), 2), jnp.array([-1.0, 1.0])
    both = jax.vmap(lambda key, side: sample_side(Dice(key), ground, side, street))(keys, sides)
    sides = jax.tree.map(lambda field: field.reshape(-1, *field.shape[2:]), both)
    bikes, riders, heads = people.sample_cyclists(dice, ground)
    on_road = traffic.sample_traffic(dice, ground)
    closing = buildings.sample_ends(dice, ground), buildings.sample_bridges(dice, ground)
    return Stock(
        boxes=join(sides.boxes, on_road, *closing),
        screens=join(sides.screens, bikes),
        columns=join(sides.columns, riders),
        crowns=join(sides.crowns, heads),
    )


def sample_side(dice: Dice, ground: Ground, side: Float[Array, ""], street: Int[Array, ""]) -> Stock:
    """Everything on one side (-1 left, 1 right) of the road."""
    theme = sample_theme(dice, street)
    edge = ground.half_width + ground.near
    setback = edge + theme.setback[0] + (theme.setback[1] - theme.setback[0]) * dice() * dice()
    trunks, crowns = greenery.sample_trees(dice, ground, side, theme)
    poles, plates = furniture.sample_poles(dice, ground, side)
    bodies, heads = people.sample_people(dice, ground, side)
    return Stock(
        boxes=join(
            buildings.sample_houses(dice, ground, side, setback, theme),
            buildings.sample_walls(dice, ground, side, edge + dice(0.0, 1.0), theme),
            buildings.sample_backdrops(dice, ground, side, setback + dice(10.0, 25.0), theme),
            traffic.sample_parked(dice, ground, side, theme.parked),
            plates,
        ),
        screens=join(
            greenery.sample_woods(dice, ground, side, edge, theme),
            greenery.sample_hedges(dice, ground, side, edge + dice(0.0, 1.0), theme),
        ),
        columns=join(trunks, poles, bodies),
        crowns=join(crowns, greenery.sample_bushes(dice, ground, side, edge, theme), heads),
    )

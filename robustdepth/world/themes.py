"""What makes one street differ from another: how densely its sides are built and planted, and how close to the road."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from robustdepth.types import Array
from robustdepth.world.dice import Dice

Range = Float[Array, "2"]


@flax.struct.dataclass
class Theme:
    """One side of a street. Shares are the probabilities that a place for a thing is taken; ranges are in metres."""

    houses: Float[Array, ""]
    setback: Range  # of the fronts behind the near zone
    eaves: Range  # height of the fronts
    gap: Float[Array, ""]  # most metres between two houses
    woods: Float[Array, ""]
    woods_at: Range  # distance of the woods' edge behind the near zone
    trees: Float[Array, ""]
    bushes: Float[Array, ""]
    hedges: Float[Array, ""]
    walls: Float[Array, ""]
    parked: Float[Array, ""]


TOWN = Theme(0.97, (0.0, 3.0), (7.0, 18.0), 3.0, 0.15, (3.0, 12.0), 0.5, 0.15, 0.1, 0.1, 0.55)
SUBURB = Theme(0.85, (0.3, 12.0), (4.0, 9.0), 10.0, 0.45, (2.0, 12.0), 0.7, 0.5, 0.5, 0.3, 0.4)
GREEN = Theme(0.15, (4.0, 16.0), (4.0, 12.0), 30.0, 0.9, (0.2, 8.0), 0.9, 0.7, 0.35, 0.15, 0.18)
OPEN = Theme(0.45, (3.0, 50.0), (3.0, 14.0), 25.0, 0.6, (5.0, 60.0), 0.5, 0.25, 0.15, 0.15, 0.12)
KINDS = jax.tree.map(lambda *values: np.array(values, np.float32), *(
    jax.tree.map(np.asarray, kind, is_leaf=lambda leaf: isinstance(leaf, tuple)) for kind in (TOWN, SUBURB, GREEN, OPEN)
))  # fmt: skip
SHARES = np.cumsum([0.18, 0.26, 0.26])  # of the first three; the last has the rest


def sample_kind(dice: Dice) -> Int[Array, ""]:
    """Which of the themes a street follows."""
    return jnp.sum(dice() > jnp.asarray(SHARES, jnp.float32))


def sample_theme(dice: Dice, street: Int[Array, ""]) -> Theme:
    """The theme of one side: mostly the street's, and each of its shares more or less strong."""
    kind = jnp.where(dice.chance(0.3), sample_kind(dice), street)
    theme = jax.tree.map(lambda values: jnp.asarray(values)[kind], KINDS)
    vary = lambda share: jnp.clip(share * dice(0.5, 1.25) + dice(-0.1, 0.1), 0.0, 1.0)  # noqa: E731
    return theme.replace(
        houses=vary(theme.houses),
        woods=vary(theme.woods),
        trees=vary(theme.trees),
        bushes=vary(theme.bushes),
        hedges=vary(theme.hedges),
        walls=vary(theme.walls),
        parked=vary(theme.parked),
    )


def within(dice: Dice, limits: Range, count: int | None = None) -> Float[Array, "*n"]:
    """A number, or `count` of them, from a range of the theme."""
    return limits[0] + (limits[1] - limits[0]) * dice(count=count)

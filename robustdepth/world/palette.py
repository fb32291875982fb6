"""Random colours, as albedo."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.types import Array
from robustdepth.world.dice import Dice


def mix(a: Float[Array, "n 3"], b: Float[Array, "n 3"], share: Float[Array, "n"]) -> Float[Array, "n 3"]:
    return a + (b - a) * share[:, None]


def tinted(brightness: Float[Array, "n"], tint: tuple[float, float, float]) -> Float[Array, "n 3"]:
    return brightness[:, None] * jnp.array(tint)[None]


def stone_color(dice: Dice, count: int | None = None) -> Float[Array, "*n 3"]:
    """Greys and beiges from dark to white."""
    shape = () if count is None else (count,)
    tint = jnp.stack([jnp.zeros(shape), -dice(0.0, 0.12, count), -dice(0.0, 0.3, count)], axis=-1)
    return dice(0.15, 0.95, count)[..., None] * (1.0 + tint * dice.normal(count)[..., None])


def paint_color(dice: Dice, count: int) -> Float[Array, "n 3"]:
    """Any colour, more often a dull one."""
    color = jnp.stack([dice(0.05, 0.95, count), dice(0.05, 0.95, count), dice(0.05, 0.95, count)], axis=-1)
    grey = color.mean(-1, keepdims=True)
    return grey + (color - grey) * dice(0.1, 1.0, count)[:, None]


def foliage_color(dice: Dice, count: int | None = None) -> Float[Array, "*n 3"]:
    """Greens, sometimes brown or yellow."""
    ones = jnp.ones(() if count is None else (count,))
    return dice(0.06, 0.4, count)[..., None] * jnp.stack([dice(0.55, 1.1, count), ones, dice(0.2, 0.75, count)], -1)

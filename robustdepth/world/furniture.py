"""Street furniture: lamp posts, bollards, signs and traffic lights."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.types import Array
from robustdepth.world.dice import Dice
from robustdepth.world.ground import Ground
from robustdepth.world.palette import paint_color, stone_color
from robustdepth.world.solids import Solids, Spot, place, sample_look

Scalar = Float[Array, ""]
POLES = 7  # per side of the road


def sample_poles(dice: Dice, ground: Ground, side: Scalar) -> tuple[Solids, Solids]:
    """Lamp posts, and posts with their plates or lights; or a row of bollards with a few of them."""
    n = POLES
    bollards = dice.chance(0.2)
    apart = jnp.where(bollards, 1.0 + dice(0.5, 2.5), dice(3.0, 22.0, n))
    x, z = side * (ground.half_width + dice(0.4, 1.6) + dice(0.0, 0.5, n)), dice(2.0, 8.0) + jnp.cumsum(apart)
    exists, plated, lamps = dice.chance(dice(0.1, 0.95), n), dice.chance(0.55, n), dice.chance(0.35, n)
    short = bollards & dice.chance(0.8, n)
    plated = plated & ~short
    height = jnp.where(plated, dice(2.0, 3.8, n), jnp.where(short, dice(0.7, 1.1), dice(4.0, 9.0, n)))
    thick = jnp.where(plated, dice(0.03, 0.08, n), dice(0.05, 0.14, n))
    metal = sample_look(dice, stone_color(dice, n) * 0.8, "plain", "pole", contrast=(0.0, 0.3), peak=(0.0, 3.0))
    post = place(ground, Spot(exists, x, z), (thick, height / 2, thick), metal)
    size = dice(0.25, 0.5, n)
    color, rim = paint_color(dice, n), stone_color(dice, n) * 1.4
    board = sample_look(dice, color, "plate", "sign", contrast=(0.0, 0.1), peak=(0.0, 3.0), accent=rim)
    board = board.but(color=jnp.where(lamps[:, None], 0.04, color), accent=jnp.where(lamps[:, None], 0.06, rim))
    half = (jnp.where(lamps, 0.16, size * dice(0.6, 1.2, n)), size, jnp.where(lamps, 0.12, 0.02))
    spot = Spot(exists & plated, x, z - half[2] - 0.06, bottom=height - 2 * size)
    return post, place(ground, spot, half, board)

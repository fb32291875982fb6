"""Solids: the shapes that everything standing on the ground is made of.

Boxes (buildings, roofs, vehicles, plates), screens (boxes with holes: hedges, woods, fences), upright cylinders (poles,
trunks, people) and ellipsoids (crowns, bushes, heads). Solids that do not exist in a scene keep their slot, far below
the ground, where no ray meets them.
"""

from __future__ import annotations

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from robustdepth.types import Array
from robustdepth.world.dice import Dice
from robustdepth.world.ground import NOWHERE, Ground, level

CLASSES = (
    "road",
    "sidewalk",
    "terrain",
    "building",
    "wall",
    "pole",
    "sign",
    "vegetation",
    "person",
    "car",
    "truck",
    "sky",
)
_COLORS = "804080 f423e8 98fb98 464646 66669c 999999 dcdc00 6b8e23 dc143c 00008e 000046 4682b4"
PALETTE = tuple(tuple(bytes.fromhex(color)) for color in _COLORS.split())  # the classes' colours in pictures
PATTERNS = ("plain", "clothes", "facade", "stripes", "foliage", "body", "cabin", "plate", "ground", "sky")
NO_GAPS = 1.5  # leafage


@flax.struct.dataclass
class Solids:
    """Upright solids of one shape. Local axes: x across, y down, z along, turned by a yaw about y."""

    center: Float[Array, "*n 3"]  # at time 0
    velocity: Float[Array, "*n 3"]  # metres per frame
    half: Float[Array, "*n 3"]  # half extents or radii
    cos: Float[Array, "*n"]
    sin: Float[Array, "*n"]
    taper: Float[Array, "*n"]  # how much the half length z shrinks per metre of height
    color: Float[Array, "*n 3"]
    accent: Float[Array, "*n 3"]
    contrast: Float[Array, "*n"]
    peak: Float[Array, "*n"]  # log2 of the texture's strongest frequency in cycles per metre
    seed: Int[Array, "*n"]
    pattern: Int[Array, "*n"]
    label: Int[Array, "*n"]
    leafage: Float[Array, "*n"]  # of crowns and of screens' upper edges: density of leaves, 0.75 for half
    bars: Float[Array, "*n"]  # of screens: bars per metre, 0 for leaves


@dataclasses.dataclass(frozen=True)
class Spot:
    """Where solids stand: `x` metres right of the centre line, `z` ahead, turned by `yaw` from the road's course.

    `bottom` is the height of the lower end; `speed` is in metres per frame along the road.
    """

    exists: Bool[Array, "n"]
    x: Float[Array, "n"]
    z: Float[Array, "n"]
    bottom: Float[Array, "n"] | float = 0.0
    yaw: Float[Array, "n"] | float = 0.0
    speed: Float[Array, "n"] | float = 0.0

    def but(self, **changes) -> Spot:
        return dataclasses.replace(self, **changes)


@dataclasses.dataclass(frozen=True)
class Look:
    """What solids look like; `pattern` and `label` are positions in PATTERNS and CLASSES."""

    color: Float[Array, "n 3"]
    accent: Float[Array, "n 3"]
    contrast: Float[Array, "n"]
    peak: Float[Array, "n"]
    seed: Int[Array, "n"]
    pattern: Int[Array, "n"] | int
    label: Int[Array, "n"] | int
    leafage: Float[Array, "n"] | float = NO_GAPS
    bars: Float[Array, "n"] | float = 0.0

    def but(self, **changes) -> Look:
        return dataclasses.replace(self, **changes)


def sample_look(
    dice: Dice,
    color: Float[Array, "n 3"],
    pattern: str,
    label: str,
    *,
    contrast: tuple[float, float],
    peak: tuple[float, float],
    accent: Float[Array, "n 3"] | None = None,
) -> Look:
    """A look of the given colours, whose texture is drawn with a contrast and a peak from the given ranges."""
    n = color.shape[0]
    return Look(
        color=color,
        accent=color if accent is None else accent,
        contrast=dice(*contrast, count=n),
        peak=dice(*peak, count=n),
        seed=dice.seed(n),
        pattern=PATTERNS.index(pattern),
        label=CLASSES.index(label),
    )


def choose(names: tuple[str, ...], condition: Bool[Array, "n"], yes: str, no: str) -> Int[Array, "n"]:
    """Positions of two names in CLASSES or PATTERNS, by condition."""
    return jnp.where(condition, names.index(yes), names.index(no))


def place(ground: Ground, spot: Spot, half: tuple, look: Look, taper: Float[Array, "n"] | float = 0.0) -> Solids:
    """Stands solids on the ground. `half` holds half extents: across, up and along; columns have their radius twice.

    What is long and stands on a slope reaches so far below the ground that no end of it hangs in the air.
    """
    n = spot.x.shape[0]
    fill = lambda value, dtype=jnp.float32: jnp.broadcast_to(jnp.asarray(value, dtype), (n,))  # noqa: E731
    x, z, (across, up, along) = spot.x, spot.z, (fill(extent) for extent in half)
    road_yaw, slope = jnp.arctan(ground.curvature * z), ground.crest * z
    total = fill(spot.yaw) + road_yaw
    sunk = jnp.where(fill(spot.bottom) > 0, 0.0, jnp.abs(slope) * jnp.maximum(jnp.maximum(across, along) - 3.0, 0.0))
    middle = jnp.where(spot.exists, level(ground, z) - (fill(spot.bottom) + up - 0.5 * sunk), NOWHERE)
    course = jnp.stack([jnp.sin(road_yaw), slope, jnp.cos(road_yaw)], axis=-1)
    return Solids(
        center=jnp.stack([x + 0.5 * ground.curvature * z * z, middle, z], axis=-1),
        velocity=course * fill(spot.speed)[:, None],
        half=jnp.stack([across, up + 0.5 * sunk, along], axis=-1),
        cos=jnp.cos(total),
        sin=jnp.sin(total),
        taper=fill(taper),
        color=look.color,
        accent=look.accent,
        contrast=look.contrast,
        peak=look.peak,
        seed=look.seed,
        pattern=fill(look.pattern, jnp.int32),
        label=fill(look.label, jnp.int32),
        leafage=fill(look.leafage),
        bars=fill(look.bars),
    )


def join(*parts: Solids) -> Solids:
    return jax.tree.map(lambda *fields: jnp.concatenate(fields), *parts)

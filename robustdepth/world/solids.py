"""Solids: the three shapes that everything standing on the ground is made of.

Boxes (buildings, roofs, hedges, vehicles, plates), upright cylinders (poles, trunks, people) and ellipsoids (crowns,
bushes, heads). Solids that do not exist in a scene keep their slot, far below the ground, where no ray meets them.
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from robustdepth.types import Array
from robustdepth.world.ground import NOWHERE, Ground

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
    leafage: Float[Array, "*n"]  # of crowns: density of leaves, 0.75 for half, 1.5 for no gaps


def place(
    ground: Ground,
    exists: Bool[Array, "n"],
    x: Float[Array, "n"],
    z: Float[Array, "n"],
    *,
    half: tuple,
    color: Float[Array, "n 3"],
    contrast: Float[Array, "n"],
    peak: Float[Array, "n"],
    seed: Int[Array, "n"],
    pattern,
    label,
    height=None,
    bottom=0.0,
    yaw=0.0,
    taper=0.0,
    speed=0.0,
    leafage=1.5,
    accent=None,
) -> Solids:
    """Stands solids on the ground at `x` metres right of the road's centre line, `z` ahead, turned along the road.

    `half` holds half extents (across, up, along); columns give (radius, radius, None) and a `height`. `bottom` is the
    height of the lower end, `speed` is in metres per frame along the road.
    """
    n = x.shape[0]
    fill = lambda value, dtype=jnp.float32: jnp.broadcast_to(jnp.asarray(value, dtype), (n,))  # noqa: E731
    if height is not None:
        half = (half[0], height / 2, half[1])
    road_yaw = jnp.arctan(ground.curvature * z)
    total = fill(yaw) + road_yaw
    middle = jnp.where(exists, -(fill(bottom) + half[1]), NOWHERE)
    center = jnp.stack([x + 0.5 * ground.curvature * z * z, middle, z], axis=-1)
    along = jnp.stack([jnp.sin(road_yaw), jnp.zeros(n), jnp.cos(road_yaw)], axis=-1)
    return Solids(
        center=center,
        velocity=along * fill(speed)[:, None],
        half=jnp.stack(half, axis=-1),
        cos=jnp.cos(total),
        sin=jnp.sin(total),
        taper=fill(taper),
        color=color,
        accent=color if accent is None else accent,
        contrast=contrast,
        peak=peak,
        seed=seed,
        pattern=fill(pattern, jnp.int32),
        label=fill(label, jnp.int32),
        leafage=fill(leafage),
    )


def join(*parts: Solids) -> Solids:
    return jax.tree.map(lambda *fields: jnp.concatenate(fields), *parts)

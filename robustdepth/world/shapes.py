"""The shapes of solids: where a ray enters and leaves each of them.

Every function takes the solids of one shape, the position k of one of them, the rays' origin and directions in world
axes, and gives the rays' parameters at entry and exit; an exit before the entry is a miss. Divisions are products with
a reciprocal, because a division whose result is used twice breaks the fusion of a long chain of operations.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Bool, Float

from robustdepth.types import Array
from robustdepth.world.ground import NOWHERE
from robustdepth.world.solids import Solids

Plane = Float[Array, "pixel"]
Vector = tuple[Plane, Plane, Plane]


def to_local(solids: Solids, k: int, vector: Vector) -> Vector:
    """Rotates a world vector into the axes of solid k."""
    x, y, z = vector
    return solids.cos[k] * x - solids.sin[k] * z, y, solids.sin[k] * x + solids.cos[k] * z


def offset(solids: Solids, k: int, origin) -> Vector:
    return to_local(solids, k, tuple(origin[i] - solids.center[k, i] for i in range(3)))


def hit_box(solids: Solids, k: int, origin, ray: Vector) -> tuple[Plane, Plane]:
    """Entry and exit along the ray of box k, whose two ends may lean inwards (an exit before the entry is a miss)."""
    ox, oy, oz = offset(solids, k, origin)
    dx, dy, dz = to_local(solids, k, ray)
    hx, hy, hz = (solids.half[k, i] for i in range(3))
    ix, iy = 1.0 / dx, 1.0 / dy
    enter = jnp.maximum(-ox * ix - hx * jnp.abs(ix), -oy * iy - hy * jnp.abs(iy))
    leave = jnp.minimum(-ox * ix + hx * jnp.abs(ix), -oy * iy + hy * jnp.abs(iy))
    for sign in (-1.0, 1.0):
        slope = sign * dz - solids.taper[k] * dy
        t = (hz - solids.taper[k] * (hy - oy) - sign * oz) / slope
        enter = jnp.where(slope < 0, jnp.maximum(enter, t), enter)
        leave = jnp.where(slope < 0, leave, jnp.minimum(leave, t))
    return enter, leave


def hit_column(solids: Solids, k: int, origin, ray: Vector) -> tuple[Plane, Plane]:
    (ox, oy, oz), (dx, dy, dz) = [origin[i] - solids.center[k, i] for i in range(3)], ray
    radius, hy = solids.half[k, 0], solids.half[k, 1]
    a, b = dx * dx + dz * dz, ox * dx + oz * dz
    root = b * b - a * (ox * ox + oz * oz - radius * radius)
    reach, ia, iy = jnp.sqrt(jnp.maximum(root, 0.0)), 1.0 / a, 1.0 / dy
    enter = jnp.maximum((-b - reach) * ia, -oy * iy - hy * jnp.abs(iy))
    leave = jnp.minimum((-b + reach) * ia, -oy * iy + hy * jnp.abs(iy))
    return enter, jnp.where(root > 0, leave, 0.0)


def hit_screen(solids: Solids, k: int, origin, ray: Vector) -> tuple[Plane, Plane]:
    """Entry and exit of box k, through whose holes a ray goes on: between leaves near its top, or between bars."""
    enter, leave = hit_box(solids, k, origin, ray)
    x, y, z = (origin[i] + enter * ray[i] for i in range(3))
    below = solids.half[k, 1] - solids.center[k, 1] + y
    lengthwise = solids.sin[k] * (x - solids.center[k, 0]) + solids.cos[k] * (z - solids.center[k, 2])
    phase = lengthwise * solids.bars[k]
    bar = (jnp.abs(phase - jnp.floor(phase) - 0.5) > 0.38) | (jnp.abs(below - 0.15) < 0.05)
    leafy = gaps(x, y, z) < solids.leafage[k] + 0.6 * below
    return enter, jnp.where(jnp.where(solids.bars[k] > 0, bar, leafy), leave, -1.0)


def gaps(x: Plane, y: Plane, z: Plane) -> Plane:
    """An irregular pattern in space, in [0, 1.5], whose high parts are the gaps between leaves."""
    first = fold(0.53 * x + 0.61 * y - 0.37 * z)
    second = fold(1.13 * x - 1.27 * y + 1.39 * z + 0.9 * first)
    return first + second + fold(3.1 * z + 2.9 * y - 3.3 * x + 1.3 * second)


def fold(w: Plane) -> Plane:
    return jnp.abs(w - jnp.floor(w) - 0.5)


def hit_crown(solids: Solids, k: int, origin, ray: Vector) -> tuple[Plane, Plane]:
    """Where a ray meets the leaves of ellipsoid k, and an end behind.

    Leaves grow on the hull alone; through a gap in the near side one sees those of the far side from within.
    """
    root, near, far = hull(solids, k, origin, ray)
    leafy = [is_leaf(solids, k, origin, ray, t) for t in (near, far)]
    enter = jnp.where(leafy[0], near, far)
    return enter, jnp.where((root > 0) & (leafy[0] | leafy[1]), enter + 1.0, -NOWHERE)


def shade_crown(solids: Solids, k: int, origin, ray: Vector, blur: Plane) -> tuple[Plane, Plane]:
    """Entry and exit of ellipsoid k for the sun's rays, which pass through the gaps on the side of their origin.

    `blur` closes the gaps, from 0, all open, to 1, none: where spots of light would be finer than a pixel.
    """
    root, near, far = hull(solids, k, origin, ray)
    leafy = gaps(*(origin[i] + near * ray[i] for i in range(3))) < solids.leafage[k] + blur
    return near, jnp.where((root > 0) & leafy, far, -1.0)


def hull(solids: Solids, k: int, origin, ray: Vector) -> tuple[Plane, Plane, Plane]:
    """A discriminant that is positive where a ray meets ellipsoid k, which is round about its axis; entry and exit."""
    (ox, oy, oz), (dx, dy, dz) = [origin[i] - solids.center[k, i] for i in range(3)], ray
    flat, tall = solids.half[k, 0], solids.half[k, 1]
    flat, tall = 1.0 / (flat * flat), 1.0 / (tall * tall)
    a = (dx * dx + dz * dz) * flat + dy * dy * tall
    b = (ox * dx + oz * dz) * flat + oy * dy * tall
    root = b * b - a * ((ox * ox + oz * oz) * flat + oy * oy * tall - 1.0)
    reach, ia = jnp.sqrt(jnp.maximum(root, 0.0)), 1.0 / a
    return root, (-b - reach) * ia, (-b + reach) * ia


def is_leaf(solids: Solids, k: int, origin, ray: Vector, t: Plane) -> Bool[Array, "pixel"]:
    return gaps(*(origin[i] + t * ray[i] for i in range(3))) < solids.leafage[k]

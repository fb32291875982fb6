"""Ray casting on strips of pixels: which surface each ray meets first.

An image is cut into vertical strips, and each strip keeps only the solids that can be seen in it. All per-pixel work is
on flat planes of its pixels. Two facts about the compiler shape the code, both worth a factor: stages are jitted one by
one, because a single program recomputes shared work, and divisions are products with a reciprocal, because a division
whose result is used twice breaks the fusion of a long chain of operations.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Int

from robustdepth.types import Array
from robustdepth.world.ground import NOWHERE, Ground, level
from robustdepth.world.scene import World
from robustdepth.world.shapes import Plane, Vector, hit_box, hit_column, hit_crown, hit_screen
from robustdepth.world.solids import Solids

STRIPS = 16
VISIBLE = (18, 5, 7, 19)  # boxes, screens, columns and crowns kept per strip, those that look tallest first
CASTERS = (12, 3, 4, 9)  # the same for the solids whose shadows reach a strip
FAR = 100.0  # metres; depth of the sky
NEAR = 0.3
ID_BITS = 6  # of the packed hit that name what was hit
FIRST = tuple(itertools.accumulate((0, *VISIBLE)))[:4]  # name of the first of each
ZONES = sum(VISIBLE)  # name of the road; kerb, near and far zone follow
SKY = (1 << ID_BITS) - 1
KERB_WIDTH = 0.15

Points = list[tuple[Array, Array, Array]]  # x, y and z, each of [n] solids


@flax.struct.dataclass
class View:
    """A camera at one time: where it stands, where it looks, and the time for moving solids."""

    position: Float[Array, "3"]
    rotation: Float[Array, "3 3"]
    time: Float[Array, ""]
    focal: Float[Array, "2"]
    center: Float[Array, "2"]


AXES = {"world": (0, None, None), "view": (0, 0, None), "strip": (None, None, 0), "pixels": (0, 0, 0)}


def stage(*kinds: str):
    """Maps a function of one strip over [batch, view, strip] and jits it; `kinds` says which axes each argument has."""

    def wrap(function):
        @functools.partial(jax.jit, static_argnames="size")
        def mapped(*arguments, size: tuple[int, int]):
            inner = functools.partial(function, size=size)
            for axis in (2, 1, 0):
                inner = jax.vmap(inner, in_axes=tuple(AXES[kind][axis] for kind in kinds))
            return inner(*arguments)

        return mapped

    return wrap


@stage("view", "strip")
def rays(view: View, strip: Int[Array, ""], size: tuple[int, int]) -> Vector:
    """World directions of a strip's rays, row by row, scaled so that the ray's parameter is depth."""
    height, width = size
    columns = strip_width(width)
    y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(columns), indexing="ij")
    x = (x.reshape(-1) + strip * columns).astype(jnp.float32)
    right = (x - view.center[0]) / view.focal[0]
    down = (y.reshape(-1).astype(jnp.float32) - view.center[1]) / view.focal[1]
    r = view.rotation
    return tuple(r[i, 0] * right + r[i, 1] * down + r[i, 2] for i in range(3))


def strip_width(width: int) -> int:
    return -(-width // STRIPS)


# --- which solids matter to a strip ---


def corners(solids: Solids) -> Points:
    """World corners of the solids' bounding boxes."""
    cos, sin, points = solids.cos, solids.sin, []
    for signs in itertools.product((-1.0, 1.0), repeat=3):
        x, y, z = (sign * solids.half[:, i] for i, sign in enumerate(signs))
        turned = cos * x + sin * z, y, cos * z - sin * x
        points.append(tuple(solids.center[:, i] + turned[i] for i in range(3)))
    return points


def shadows(points: Points, ground: Ground, sun: Float[Array, "3"]) -> Points:
    """Where the shadows of points fall on the ground, taken as level with the ground below each point."""
    cast = []
    for x, y, z in points:
        reach = (y - level(ground, z)) * (1.0 / sun[1])
        cast.append((x - reach * sun[0], level(ground, z), z - reach * sun[2]))
    return cast


def reaching(points: Points, view: View, strip: Int[Array, ""], width: int) -> Float[Array, "n"]:
    """Depth of the nearest point of each convex body that touches the strip's frustum; infinite where none does."""
    first = (strip * strip_width(width)).astype(jnp.float32)
    left, right = ((edge - view.center[0]) / view.focal[0] for edge in (first - 1, first + strip_width(width)))
    beside_left, beside_right, depths = [], [], []
    for point in points:
        offset = [point[i] - view.position[i] for i in range(3)]
        x, z = (sum(view.rotation[i, axis] * offset[i] for i in range(3)) for axis in (0, 2))
        beside_left.append(x - left * z)
        beside_right.append(right * z - x)
        depths.append(z)
    most_left, most_right, farthest = (
        functools.reduce(jnp.maximum, values) for values in (beside_left, beside_right, depths)
    )
    exists = points[0][1] < NOWHERE / 2
    touches = exists & (most_left > 0) & (most_right > 0) & (farthest > NEAR)
    return jnp.where(touches, jnp.maximum(functools.reduce(jnp.minimum, depths), 0.0), jnp.inf)


def tallest(solids: Solids, distance: Float[Array, "n"], keep: int) -> Solids:
    """The `keep` solids at a finite distance that look tallest; the rest is parked out of sight."""
    height = jnp.where(jnp.isinf(distance), -1.0, solids.half[:, 1] / (distance + 1.0))
    value, chosen = lax.top_k(height, keep)
    kept = jax.tree.map(lambda field: field[chosen], solids)
    return kept.replace(center=jnp.where(value[:, None] < 0, NOWHERE, kept.center))


@stage("world", "view", "strip")
def cull(world: World, view: View, strip: Int[Array, ""], size: tuple[int, int]) -> tuple[tuple, tuple]:
    """The solids that a strip sees, and those whose shadows it may see, each as (boxes, screens, columns, crowns)."""
    seen, casters = [], []
    shapes = world.boxes, world.screens, world.columns, world.crowns
    for solids, keep, keep_casting in zip(shapes, VISIBLE, CASTERS, strict=True):
        moved = dataclasses.replace(solids, center=solids.center + view.time * solids.velocity)
        points = corners(moved)
        seen.append(tallest(moved, reaching(points, view, strip, size[1]), keep))
        points += shadows(points, world.ground, world.light.sun)
        casters.append(tallest(moved, reaching(points, view, strip, size[1]), keep_casting))
    return tuple(seen), tuple(casters)


# --- what the rays meet ---


def ground_hit(ground: Ground, origin: Float[Array, "3"], ray: Vector) -> tuple[Plane, Int[Array, "pixel"]]:
    """Depth and zone name of the ground: the road, the raised zones beside it, or the kerb's face between them."""
    dx, _, dz = ray
    low, high = (meet_level(ground, origin, ray, height) for height in (0.0, ground.kerb))
    e_low = beyond_kerb(ground, origin[0] + low * dx, origin[2] + low * dz)
    e_high = beyond_kerb(ground, origin[0] + high * dx, origin[2] + high * dz)
    # Between the two planes the distance to the kerb is all but linear along the ray.
    face = high - e_high * (1.0 / jnp.maximum(e_low - e_high, 1e-6)) * (low - high)
    t = jnp.where(e_high > 0, high, jnp.where(e_low > 0, face, low))
    beyond = jnp.where(e_high > 0, e_high, jnp.where(e_low > 0, 0.0, -1.0))
    zone = sum((beyond > edge).astype(jnp.int32) for edge in (-0.5, KERB_WIDTH, ground.near))
    return jnp.where(t < FAR, t, FAR), ZONES + zone


def meet_level(ground: Ground, origin: Float[Array, "3"], ray: Vector, height: Float[Array, ""] | float) -> Plane:
    """Where rays that start above it meet the road's profile raised by `height`; beyond FAR where they do not."""
    _, dy, dz = ray
    square = -0.5 * ground.crest * dz * dz
    linear = dy - ground.crest * origin[2] * dz
    above = level(ground, origin[2]) - height - origin[1]
    root = linear * linear + 4.0 * square * above
    down = linear + jnp.sqrt(jnp.maximum(root, 0.0))
    return jnp.where(root > 0, 2.0 * above * (1.0 / jnp.maximum(down, 1e-6)), 1e6)


def beyond_kerb(ground: Ground, x: Plane, z: Plane) -> Plane:
    """Metres from the kerb, positive outside of the road and of its side road."""
    u = x - 0.5 * ground.curvature * z * z
    return jnp.minimum(jnp.abs(u) - ground.half_width, jnp.abs(z - ground.crossing[0]) - ground.crossing[1])


def cast(worlds: World, views: View, ray: Vector, seen: tuple, size: tuple[int, int]) -> Int[Array, "*batch pixel"]:
    """The nearest hit of every ray: depth's float bits with the surface's name in the lowest bits, so min selects both.

    Names are positions in the strip's list of solids; then come the ground's zones, and the last name is the sky.
    Two stages, because a loop over all shapes at once outgrows the compiler's optimisation and runs half as fast.
    """
    boxes, screens, columns, crowns = seen
    best = cast_ground(worlds, views, ray, boxes, columns, size=size)
    return cast_leaves(views, ray, screens, crowns, best, size=size)


@stage("world", "view", "pixels", "pixels", "pixels")
def cast_ground(
    world: World, view: View, ray: Vector, boxes: Solids, columns: Solids, size: tuple[int, int]
) -> Int[Array, "pixel"]:
    best = name_hit(*ground_hit(world.ground, view.position, ray))
    best = nearer(best, boxes, hit_box, view, ray, 0)
    return nearer(best, columns, hit_column, view, ray, FIRST[2])


@stage("view", "pixels", "pixels", "pixels", "pixels")
def cast_leaves(
    view: View, ray: Vector, screens: Solids, crowns: Solids, best: Int[Array, "pixel"], size: tuple[int, int]
) -> Int[Array, "pixel"]:
    best = nearer(best, screens, hit_screen, view, ray, FIRST[1])
    best = nearer(best, crowns, hit_crown, view, ray, FIRST[3])
    sky = name_hit(jnp.float32(FAR), SKY)
    return jnp.where(best >= name_hit(jnp.float32(FAR), 0), sky, best)


def nearer(
    best: Int[Array, "pixel"], solids: Solids, hit: Callable, view: View, ray: Vector, first: int
) -> Int[Array, "pixel"]:
    """The nearest of `best` and the hits with `solids`, whose names begin at `first`."""
    for k in range(solids.cos.shape[0]):
        enter, leave = hit(solids, k, view.position, ray)
        t = jnp.where((enter < leave) & (enter > NEAR), enter, FAR)
        best = jnp.minimum(best, name_hit(t, first + k))
    return best


def name_hit(depth: Plane, name: Int[Array, "..."] | int) -> Int[Array, "..."]:
    return (lax.bitcast_convert_type(depth, jnp.int32) & ~SKY) | name


def named(hit: Int[Array, "pixel"]) -> tuple[Plane, Int[Array, "pixel"]]:
    """Depth and surface name of packed hits; depth is exact to 2**-17 of itself."""
    return lax.bitcast_convert_type(hit & ~SKY, jnp.float32), hit & SKY

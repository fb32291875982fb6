"""What surfaces look like: from hits to surface points and their albedo."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Int

from robustdepth.types import Array
from robustdepth.world import textures
from robustdepth.world.ground import level
from robustdepth.world.raycast import FIRST, SKY, ZONES, View, beyond_kerb, named, stage
from robustdepth.world.scene import World
from robustdepth.world.shapes import Plane, Vector
from robustdepth.world.solids import CLASSES, PATTERNS, join

Names = Int[Array, "pixel"]
STRETCH = 0.4  # of the ground's texture, along over across


@flax.struct.dataclass
class Looks:
    """The hit surfaces' own numbers, fetched per pixel."""

    center: Vector
    half: Vector
    cos: Plane
    sin: Plane
    taper: Plane
    contrast: Plane
    peak: Plane
    seed: Names
    kind: Names  # packed pattern, label and moving flag
    color: Names  # packed
    accent: Names  # packed


@flax.struct.dataclass
class Surface:
    """Points on the hit surfaces."""

    local: Vector  # in the solid's axes; for the ground: metres from the centre line, beyond the kerb, and along
    normal: Names  # world, packed; see `normals`


def pack(first: Array, second: Array, third: Array) -> Array:
    """Three values in [0, 2) as one integer of ten bits each: fewer planes to write and read."""
    bits = [jnp.clip(value * 512.0, 0.0, 1023.0).astype(jnp.int32) for value in (first, second, third)]
    return bits[0] | bits[1] << 10 | bits[2] << 20


def unpack(packed: Names) -> Vector:
    return tuple(((packed >> shift) & 1023).astype(jnp.float32) * (1.0 / 512.0) for shift in (0, 10, 20))


def pack_kind(pattern: Names, label: Names, moving: Array) -> Names:
    return pattern | label << 4 | moving.astype(jnp.int32) << 8


@stage("world", "pixels")
def tabulate(world: World, seen: tuple, size: tuple[int, int]) -> Looks:
    """The looks of everything that a strip's hits can name: its solids, the ground's zones, and the sky."""
    solids, ground = join(*seen), world.ground
    missing = SKY + 1 - ZONES - 4  # unused names, then the sky
    paved = ground.tiles[2:] > 0
    zones = jnp.where(paved, CLASSES.index("sidewalk"), CLASSES.index("terrain"))
    labels = jnp.array([CLASSES.index("road"), CLASSES.index("sidewalk")])
    sky = jnp.full(missing, CLASSES.index("sky"))
    pattern = jnp.array([PATTERNS.index("ground")] * 4 + [PATTERNS.index("sky")] * missing)
    still = jnp.zeros(4 + missing, bool)
    kind = jnp.concatenate(
        [
            pack_kind(solids.pattern, solids.label, (solids.velocity != 0).any(-1)),
            pack_kind(pattern, jnp.concatenate([labels, zones, sky]), still),
        ]
    )

    def table(of_solids: Array, of_zones: Array) -> Array:
        return jnp.concatenate([of_solids, of_zones, jnp.zeros(missing, of_zones.dtype)])

    zero, one = jnp.zeros(4), jnp.ones(4)
    return Looks(
        center=tuple(table(solids.center[:, i], zero) for i in range(3)),
        half=tuple(table(solids.half[:, i], one) for i in range(3)),
        cos=table(solids.cos, one),
        sin=table(solids.sin, zero),
        taper=table(solids.taper, zero),
        contrast=table(solids.contrast, ground.contrast),
        peak=table(solids.peak, ground.peak),
        seed=table(solids.seed, ground.seed + jnp.arange(4)),
        kind=kind,
        color=table(pack(*solids.color.T), pack(*ground.color.T)),
        accent=table(pack(*solids.accent.T), pack(*ground.color.T)),
    )


@jax.jit
def look_up(tables: Looks, hit: Int[Array, "batch view strip pixel"]) -> Looks:
    """Fetches the looks of every pixel. One flat gather a field: a batched gather is six times slower on CPU."""
    first = jnp.arange(hit[..., 0].size, dtype=jnp.int32).reshape(hit.shape[:-1]) * (SKY + 1)
    index = (first[..., None] + named(hit)[1]).reshape(-1)
    return jax.tree.map(lambda table: table.reshape(-1)[index].reshape(hit.shape), tables)


@stage("world", "view", "pixels", "pixels", "pixels")
def locate(world: World, view: View, ray: Vector, hit: Names, looks: Looks, size: tuple[int, int]) -> Surface:
    """Surface points in their solid's axes, and packed normals."""
    depth, name = named(hit)
    px, py, pz = [view.position[i] + depth * ray[i] for i in range(3)]
    cos, sin, taper, half = looks.cos, looks.sin, looks.taper, looks.half
    dx, y, dz = px - looks.center[0], py - looks.center[1], pz - looks.center[2]
    x, z = cos * dx - sin * dz, sin * dx + cos * dz

    # Boxes: the face whose slab is nearest. Columns: side or cap. Crowns: the gradient.
    lean = lax.rsqrt(1.0 + taper * taper)
    end = (half[2] - taper * (half[1] - y) - jnp.abs(z)) * lean
    gap_x, gap_y = half[0] - jnp.abs(x), half[1] - jnp.abs(y)
    side, cap = (gap_x <= gap_y) & (gap_x <= end), (gap_y < gap_x) & (gap_y <= end)
    is_box, is_crown = name < FIRST[2], name >= FIRST[3]
    flat, tall = half[0] * half[0], jnp.where(is_crown, half[1] * half[1], 1e9)
    gx, gy, gz = x * tall, y * flat, z * tall
    scale = lax.rsqrt(gx * gx + gy * gy + gz * gz + 1e-9)
    nx = jnp.where(is_box, jnp.where(side, jnp.sign(x), 0.0), gx * scale)
    ny = jnp.where(is_box, jnp.where(cap, jnp.sign(y), jnp.where(side, 0.0, -taper * lean)), gy * scale)
    nz = jnp.where(is_box, jnp.where(side | cap, 0.0, jnp.sign(z) * lean), gz * scale)

    # The ground: the kerb's face looks back to the road.
    is_ground, ground = name >= ZONES, world.ground
    u, beyond = px - 0.5 * ground.curvature * pz * pz, beyond_kerb(ground, px, pz)
    upright = (py - level(ground, pz) > -ground.kerb + 1e-3) & (name == ZONES + 1)
    pick = lambda of_ground, of_solid: jnp.where(is_ground, of_ground, of_solid)  # noqa: E731
    return Surface(
        local=(pick(u, x), pick(beyond, y), pick(pz, z)),
        normal=pack(
            1.0 + pick(jnp.where(upright, -jnp.sign(u), 0.0), cos * nx + sin * nz),
            1.0 + pick(jnp.where(upright, 0.0, -1.0), ny),
            1.0 + pick(jnp.where(upright, 0.0, ground.crest * pz), cos * nz - sin * nx),
        ),
    )


def normals(surface: Surface) -> Vector:
    return tuple(value - 1.0 for value in unpack(surface.normal))


def footprints(view: View, ray: Vector, hit: Names, surface: Surface) -> tuple[Plane, Plane, Plane]:
    """Metres of surface under a pixel: across the ray, along its slant, and a compromise between both."""
    (dx, dy, dz), (nx, ny, nz) = ray, normals(surface)
    facing = jnp.abs(nx * dx + ny * dy + nz * dz) * lax.rsqrt(dx * dx + dy * dy + dz * dz)
    across = named(hit)[0] * (1.0 / view.focal[0])
    root = lax.rsqrt(jnp.maximum(facing, 0.01))
    return across, across * root * root, across * root


def faces(looks: Looks, surface: Surface) -> tuple[Array, Array]:
    """Whether a point is on its solid's flank (normal across) or on its top or bottom."""
    nx, ny, nz = normals(surface)
    across, along = jnp.abs(looks.cos * nx - looks.sin * nz), jnp.abs(looks.sin * nx + looks.cos * nz)
    top = (jnp.abs(ny) > across) & (jnp.abs(ny) > along)
    return (across >= along) & ~top, top


@stage("view", "pixels", "pixels", "pixels", "pixels")
def grain(view: View, ray: Vector, hit: Names, looks: Looks, surface: Surface, size: tuple[int, int]) -> Plane:
    """The random texture of every surface."""
    flank, top = faces(looks, surface)
    x, y, z = surface.local
    is_ground = named(hit)[1] >= ZONES
    u, v = jnp.where(flank & ~is_ground, z, x), jnp.where(top, z, y)
    across, along, footprint = footprints(view, ray, hit, surface)
    # The ground is seen at a grazing angle: its texture is drawn out along the road, or little of it would survive.
    v = jnp.where(is_ground, STRETCH * z, v)
    footprint = jnp.where(is_ground, 1.15 * jnp.maximum(across, STRETCH * along), footprint)
    tone = textures.fractal(u, v, looks.seed, footprint, looks.peak)
    pattern = looks.kind & 15
    ragged, smooth = pattern == PATTERNS.index("foliage"), is_ground | (pattern == PATTERNS.index("body"))
    patches = textures.patches(u, v, tone, looks.seed, footprint, looks.peak, ragged)
    return tone + jnp.where(smooth, 0.0, jnp.where(ragged, 1.0, 0.5) * patches)


@stage("world", "view", "pixels", "pixels", "pixels", "pixels", "pixels")
def paint(
    world: World,
    view: View,
    ray: Vector,
    hit: Names,
    looks: Looks,
    surface: Surface,
    tone: Plane,
    size: tuple[int, int],
) -> Names:
    """Albedo of the surfaces, packed."""
    across, along, footprint = footprints(view, ray, hit, surface)
    flank, top = faces(looks, surface)
    (x, y, z), half = surface.local, looks.half
    pattern, up = looks.kind & 15, half[1] - y
    is_ = lambda name: pattern == PATTERNS.index(name)  # noqa: E731
    upright = jnp.where(top, 0.0, 1.0)

    # Every pattern is a share of the accent colour and a change of the brightness.
    glass, wall_shade = textures.facade(jnp.where(flank, z, x), up, 2.0 * half[1], looks.seed, footprint)
    joints = textures.stripes(jnp.where(top, z, y), looks.seed, footprint)
    dark, shine, lamp = textures.vehicle_body(x, up, z, half, flank, footprint)
    window = textures.vehicle_windows(x, y, z, half, flank, footprint)
    symbol = textures.sign(x, y, half, tone, footprint)
    accent = jnp.where(is_("facade"), upright * glass, 0.0)
    accent = jnp.where(is_("body"), upright * dark, jnp.where(is_("cabin"), upright * window, accent))
    accent = jnp.where(is_("plate"), symbol, accent)
    accent = jnp.where(is_("clothes"), textures.inside(-y, footprint), accent)
    shade = jnp.where(is_("facade"), upright * wall_shade, jnp.where(is_("stripes"), -0.5 * joints, 0.0))
    shade = jnp.where(is_("body"), upright * shine, shade)
    tiles = textures.tiles(world.ground, x, y, z, across, along)
    seams = textures.cracks(world.ground, x, z, footprint)
    on_road = is_("ground") & (y < 0)
    shade = jnp.where(on_road, -0.6 * seams, jnp.where(is_("ground"), -0.35 * tiles, shade))
    marks = textures.road_paint(world.ground, x, z, across, along) * jnp.clip(0.85 + 0.4 * tone, 0.0, 1.0)
    marks = jnp.where(on_road, marks, 0.0)
    # Leaves hide each other from the light, the more the lower they are.
    leafy = jnp.clip(jnp.exp2(looks.contrast * tone), 0.05, 3.0) * (0.55 + 0.5 * jnp.clip(up / half[1], 0.0, 1.0))
    grain = jnp.where(is_("foliage"), leafy, jnp.clip(1.0 + looks.contrast * tone, 0.1, 2.5))
    factor = grain * jnp.clip(1.0 + shade, 0.1, 3.0)
    red = jnp.where(is_("body") & (z < 0), 0.8 * upright * lamp, 0.0)
    channels = []
    for color, other, keep in zip(unpack(looks.color), unpack(looks.accent), (0.0, 1.0, 1.0), strict=True):
        base = (color + (other - color) * accent) * factor * (1.0 - keep * red)
        channels.append(base + marks * (0.85 - base))
    return pack(*channels)

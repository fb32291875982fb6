"""Procedural textures on planes of pixels: value noise, facades, vehicles, road markings and sky.

Patterns work in surface metres (u, v) and fade with the pixel's footprint (metres per pixel), because detail finer than
a pixel would alias and differ between views. Every argument is a plane of pixels or a scalar of the scene.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Float, Int

from robustdepth.types import Array
from robustdepth.world.ground import Ground

Plane = Float[Array, "pixel"]
Seeds = Int[Array, "pixel"] | Int[Array, ""]

OCTAVES = range(-3, 5)  # log2 of cycles per metre


def hashed(x: Int[Array, "..."], y: Int[Array, "..."], seed: Int[Array, "..."]) -> Float[Array, "..."]:
    """A random number in [-1, 1) of two integers and a seed."""
    bits = x * 0x27D4EB2D ^ y * 0x165667B1 ^ seed
    bits = (bits ^ (bits >> 15)) * 0x2C1B3C6D
    bits = (bits ^ (bits >> 13)) * 0x297A2D39
    return (bits >> 8).astype(jnp.float32) * 2.0**-23


def noise(u: Plane, v: Plane, seed: Seeds) -> Plane:
    """Value noise on the integer lattice, in [-1, 1]."""
    u0, v0 = jnp.floor(u), jnp.floor(v)
    s, t = smooth(u - u0), smooth(v - v0)
    i, j = u0.astype(jnp.int32), v0.astype(jnp.int32)
    low = hashed(i, j, seed) * (1 - s) + hashed(i + 1, j, seed) * s
    high = hashed(i, j + 1, seed) * (1 - s) + hashed(i + 1, j + 1, seed) * s
    return low + (high - low) * t


def smooth(x: Plane) -> Plane:
    return x * x * (3.0 - 2.0 * x)


def fractal(u: Plane, v: Plane, seed: Seeds, footprint: Plane, peak: Plane) -> Plane:
    """Noise of several octaves, strongest at frequency 2**peak cycles per metre.

    An octave fades as its cells shrink from four pixels to two. Octaves are fixed in the world: a set that followed the
    footprint would be cheaper, but its coarse end would come and go with the distance.
    """
    turned = 0.8 * u - 0.6 * v, 0.6 * u + 0.8 * v
    total = jnp.zeros_like(u)
    for octave in OCTAVES:
        frequency = 2.0**octave
        weight = jnp.clip(1.8 - 3.2 * frequency * footprint, 0.0, 1.0) * jnp.exp2(
            -jnp.maximum(0.5 * (peak - octave), 0.3 * (octave - peak))
        )
        a, b = turned if octave % 2 else (u, v)
        total += weight * noise(a * frequency, b * frequency, seed + octave * 7919)
    return total


def patches(u: Plane, v: Plane, tone: Plane, seed: Seeds, footprint: Plane, peak: Plane, ragged: Plane) -> Plane:
    """Patches with sharp edges, in [-1, 1]: courses of stones or, where `ragged`, leaves and blades along the tone."""
    rate = jnp.clip(jnp.exp2(peak - 0.5), 1.2, 6.0)
    warp = jnp.where(ragged, 0.3 * tone, 0.0)
    row = jnp.floor((v + warp) * rate * jnp.where(ragged, 1.0, 1.7))
    column = jnp.floor((u - warp) * rate + 0.5 * row)
    shown = jnp.clip(1.8 - 3.2 * rate * footprint, 0.0, 1.0)
    return shown * hashed(column.astype(jnp.int32), row.astype(jnp.int32), seed + 31)


def inside(distance: Plane, footprint: Plane) -> Plane:
    """Share of a pixel within an edge, given the signed distance to it (positive outside)."""
    return jnp.clip(0.5 - distance * (1.0 / footprint), 0.0, 1.0)


def rectangle(u: Plane, v: Plane, half_u, half_v, footprint: Plane) -> Plane:
    return inside(jnp.abs(u) - half_u, footprint) * inside(jnp.abs(v) - half_v, footprint)


def facade(u: Plane, up: Plane, top: Plane, seed: Seeds, footprint: Plane) -> tuple[Plane, Plane]:
    """A house's front: coverage by glass or doors, and a change of brightness. `up` is the height, `top` the eaves'.

    Windows in storeys with frames, blinds, sills and balconies; doors or shop windows below; plinth, cornices, pipes.
    """
    of_house = hashed(seed, seed * 0 + 1, seed)  # one number in [-1, 1), and others from its lower digits
    style = [2.0 * (x - jnp.floor(x)) - 1.0 for x in (of_house * factor for factor in (1, 37, 91, 151, 223, 307, 411))]
    width, storey = 2.5 + 1.1 * style[0], 3.0 + 0.4 * style[1]
    column, floor = jnp.floor(u / width), jnp.floor(up / storey)
    x, y = u - (column + 0.5) * width, up - (floor + 0.55) * storey
    own = hashed(column.astype(jnp.int32), floor.astype(jnp.int32), seed)
    below = floor < 0.5
    shop, door = below & (style[2] > 0.3), below & (own > 0.4)
    half_u = width * jnp.where(shop, 0.43, 0.27 + 0.1 * style[3])
    half_v = storey * jnp.where(door | shop, 0.38, 0.25 + 0.07 * style[4])
    y = jnp.where(door | shop, y + 0.15 * storey, y)
    there = jnp.where((own > -0.85) & (up < top - 0.3), 1.0, 0.0)
    frame = there * rectangle(x, y, half_u + 0.1, half_v + 0.1, footprint)
    mullion = jnp.minimum(jnp.abs(x), jnp.abs(y - 0.2 * half_v))
    glass = there * rectangle(x, y, half_u, half_v, footprint) * (1.0 - inside(mullion - 0.03, footprint))
    blind = inside(half_v * (0.6 - 2.0 * jnp.abs(own)) - y, footprint) * jnp.where(style[5] > 0.0, 0.8, 0.0)
    sill = there * rectangle(x, y + half_v + 0.12, half_u + 0.12, 0.06, footprint)
    balcony = jnp.where((style[6] > 0.3) & (jnp.abs(own) < 0.5) & ~below, 1.0, 0.0)
    balcony = balcony * rectangle(x, y + half_v - 0.3, 0.48 * width, 0.5, footprint)
    cornice = inside(jnp.abs(up - jnp.round(up / storey) * storey) - 0.1, footprint) * jnp.where(style[3] > 0, 1.0, 0.0)
    plinth, gutter = inside(up - 0.7, footprint), inside(top - 0.2 - up, footprint)
    pipe = inside(jnp.abs(u / width - 4.0 * jnp.round(u / width / 4.0)) * width - 0.06, footprint)
    shade = (0.4 + 0.5 * style[4]) * (frame - glass) + 0.3 * sill + 0.3 * style[5] * cornice - 0.25 * plinth
    shade = shade - 0.5 * gutter - 0.35 * pipe - 0.6 * balcony
    return glass * (1.0 - blind) * (1.0 - balcony) * (0.75 + 0.25 * own), shade


def stripes(v: Plane, seed: Seeds, footprint: Plane) -> Plane:
    """Dark joints between courses of planks, tiles or bricks."""
    period = 0.25 + 0.15 * hashed(seed, seed * 0 + 5, seed)
    joint = inside(jnp.abs(v - jnp.round(v / period) * period) - 0.015, footprint)
    return joint * jnp.clip(1.5 - 3.0 * footprint / period, 0.0, 1.0)


def vehicle_body(x: Plane, up: Plane, z: Plane, half, flank, footprint: Plane) -> tuple[Plane, Plane, Plane]:
    """Dark parts (wheels, sill), bright parts (hubs, number plate) and rear lamps of a vehicle's body."""
    flank = jnp.where(flank, 1.0, 0.0)
    reach = jnp.sqrt(jnp.square(jnp.abs(z) - 0.6 * half[2]) + jnp.square(up - 0.31))
    wheel, hub = flank * inside(reach - 0.33, footprint), flank * inside(reach - 0.19, footprint)
    dark = jnp.maximum(wheel, inside(up - 0.24, footprint))
    lamp = rectangle(jnp.abs(x) - half[0] + 0.2, up - 0.72, 0.17, 0.1, footprint) * (1.0 - flank)
    number = rectangle(x, up - 0.5, 0.26, 0.06, footprint) * (1.0 - flank)
    seam = flank * inside(jnp.abs(jnp.abs(z) - 0.55) - 0.015, footprint)
    sheen = 0.5 * jnp.clip(up - half[1], -0.4, 0.4) - 0.3 * seam  # the sky above and the road below, mirrored
    return dark, 0.9 * hub + 1.2 * number * (1.0 - dark) + 0.6 * lamp + sheen, lamp


def vehicle_windows(x: Plane, y: Plane, z: Plane, half, flank, footprint: Plane) -> Plane:
    """Share of glass on a vehicle's cabin; a pillar stands between the side windows."""
    u, half_u = jnp.where(flank, z, x), jnp.where(flank, half[2], half[0])
    pillar = jnp.where(flank, inside(jnp.abs(jnp.abs(z) - 0.05) - 0.06, footprint), 0.0)
    return rectangle(u, y, half_u - 0.14, half[1] - 0.07, footprint) * (1.0 - pillar)


def sign(x: Plane, y: Plane, half, tone: Plane, footprint: Plane) -> Plane:
    """A traffic sign's rim and a blotch for its symbol."""
    rim = 1.0 - rectangle(x, y, half[0] - 0.05, half[1] - 0.05, footprint)
    return jnp.maximum(rim, jnp.where(tone > 0.25, 1.0, 0.0))


def tiles(ground: Ground, u: Plane, beyond: Plane, z: Plane, across: Plane, along: Plane) -> Plane:
    """Joints between the kerb's stones and between paving slabs."""
    size = jnp.where(beyond > ground.near, ground.tiles[3], jnp.where(beyond > 0.15, ground.tiles[2], ground.tiles[1]))
    rate = 1.0 / jnp.maximum(size, 0.1)

    def joints(w: Plane, footprint: Plane) -> Plane:
        gap = jnp.abs(w * rate - jnp.round(w * rate)) * size - 0.015
        return inside(gap, jnp.maximum(footprint, 0.03)) * jnp.clip(1.5 - 4.0 * footprint * rate, 0.0, 1.0)

    return jnp.where(size > 0, jnp.maximum(joints(u, across), joints(z, along)), 0.0)


def road_paint(ground: Ground, u: Plane, z: Plane, across: Plane, along: Plane) -> Plane:
    """Coverage by white markings: centre line, edge lines and a zebra crossing. Footprints are per direction."""
    line = inside(jnp.abs(u) - 0.07, across)
    phase = z - jnp.round(z / ground.dash[1]) * ground.dash[1]
    dashed = line * inside(jnp.abs(phase) - 0.5 * ground.dash[2] * ground.dash[1], along) * ground.dash[0]
    edge = inside(jnp.abs(jnp.abs(u) - ground.half_width + 0.3) - 0.06, across) * ground.edge
    bar = u - jnp.round(u)
    start = ground.crossing[0] - ground.crossing[1] - 2.5
    zebra = inside(jnp.abs(bar) - 0.25, across) * inside(jnp.abs(z - start) - 1.5, along) * ground.zebra
    return jnp.maximum(jnp.maximum(dashed, edge), zebra)


def cracks(ground: Ground, u: Plane, z: Plane, footprint: Plane) -> Plane:
    """Tarred cracks: thin contour lines of smooth noise."""
    field = noise(0.35 * u, 0.2 * z, ground.seed + 11) + 0.4 * noise(1.7 * u, 0.9 * z, ground.seed + 12)
    width = 0.03 + 0.5 * footprint
    thin = 1.0 / width
    return ground.cracks * 0.03 * thin * jnp.clip(1.5 - jnp.abs(field) * thin * 1.7, 0.0, 1.0)


def clouds(right: Plane, up: Plane, ahead: Plane, seed: Seeds) -> Plane:
    """Cloud density in [0, 1] by viewing direction."""
    reach = 1.0 / (jnp.abs(up) + 0.15)
    x, y = right * reach, ahead * reach
    total = 0.0 * x
    for octave in range(4):
        scale = 1.3 * 2.0**octave
        total += 0.6**octave * noise(x * scale, y * scale, seed + octave)
    return jnp.clip(0.5 + 0.5 * total, 0.0, 1.0)

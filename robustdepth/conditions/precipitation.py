"""Rain and snow: particles near the camera, a veil of those farther away, and what they do to the ground."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from robustdepth.conditions.condition import Color, Draw, Map, Radiance, condition
from robustdepth.conditions.fields import cells, seeds, smooth_noise, uniform
from robustdepth.conditions.fog import extinction
from robustdepth.conditions.scene import airlight, attenuate, brightness, directions, ground, mirrored_in_ground
from robustdepth.types import Array, Camera

HEAVIEST_RAIN = 100.0  # mm/h at severity 1: a cloudburst
VISIBLE_DROP = 3.0  # mm; smaller ones are too faint to be seen one by one
HEAVIEST_SNOW = 5.0  # mm/h of melted water at severity 1
VISIBLE_FLAKE = 1.0  # mm, melted
SNOW_VISIBILITY = 200.0  # metres at severity 1
FILL = 0.6  # share of cells that hold a particle at severity 1
FAINTEST = 0.6  # pixels: particles are drawn no thinner than this, but fainter


def rain_drops(rate: Draw) -> Draw:
    """Drops larger than `VISIBLE_DROP` per m^3 at a rain rate in mm/h, after Marshall & Palmer, 1948.

    N(D) = 8000 exp(-L D) per m^3 and mm, L = 4.1 R^-0.21 per mm, integrated over D > 3 mm.
    """
    slope = 4.1 * jnp.maximum(rate, 1e-3) ** -0.21
    return 8000.0 / slope * jnp.exp(-slope * VISIBLE_DROP)


def rain_extinction(rate: Draw) -> Draw:
    """Extinction of all drops together in 1/m: 0.312 R^0.67 per km, as in Halder et al., ICCV 2019."""
    return 0.312e-3 * jnp.maximum(rate, 1e-3) ** 0.67


def snow_flakes(rate: Draw) -> Draw:
    """Flakes that melt to more than `VISIBLE_FLAKE` per m^3, after Gunn & Marshall, 1958; rate in mm/h of water.

    N(D) = 3800 R^-0.87 exp(-L D) per m^3 and mm, L = 2.55 R^-0.48 per mm.
    """
    rate = jnp.maximum(rate, 1e-3)
    slope = 2.55 * rate**-0.48
    return 3800.0 * rate**-0.87 / slope * jnp.exp(-slope * VISIBLE_FLAKE)


class Fall(NamedTuple):
    """How particles move past the camera while the shutter is open."""

    sideways: Draw  # wind, as a fraction of the speed of fall
    towards: Draw  # speed of the vehicle, likewise
    travel: Draw  # metres fallen during the exposure


class Layer(NamedTuple):
    """A range of distances in metres."""

    near: float
    far: float


def particles(
    camera: Camera, key: Array, fall: Fall, layer: Layer, diameter: float, density: Draw, densest: Draw
) -> Map:
    """Coverage in [0, 1] by the particles of a layer, drawn as ellipses along their motion.

    A layer holds density x (far^3 - near^3) / 3 particles per unit of the image plane at distance 1. Each is
    diameter / z wide, and longer than wide by travel / z (Garg & Nayar, IJCV 2007). Streaks run
    through the vanishing point of their motion relative to the vehicle: `across` numbers the lines through that point,
    by where they cross the horizon.

    Args:
      diameter: in metres.
      density: particles per m^3.
      densest: the density at which `FILL` of the cells are filled; fewer particles leave cells empty, so that those of
        a lower severity are among those of a higher one.
    """
    right, down = directions(camera)
    distance = (layer.near * layer.far) ** 0.5
    radius, stretch = 0.5 * diameter / distance, 0.5 * fall.travel / distance
    drawn = jnp.maximum(radius, FAINTEST / camera.focal[:, :1, None, None])
    half = drawn + stretch
    opacity = radius * (radius + stretch) / (drawn * half)  # widening spreads the same light over more pixels
    count = densest * (layer.far**3 - layer.near**3) / 3.0
    cell_along = jnp.maximum(4.0 * half, jnp.sqrt(FILL / count))
    cell_across = jnp.maximum(FILL / (count * cell_along), 3.0 * drawn)
    across = (right - fall.sideways * down) / jnp.maximum(1.0 + fall.towards * down, 0.2)
    cell = cells(across / cell_across, down / cell_along, seeds(key, density.shape[0]))
    size = 0.4 + cell.draws[0]  # 0.4 to 1 where filled
    x = (cell.across - _centre(cell.draws[1], drawn / cell_across)) * cell_across / (drawn * size)
    y = (cell.along - _centre(cell.draws[2], half / cell_along)) * cell_along / (half * size)
    profile = jnp.maximum(1.0 - 0.5 * (x * x + y * y), 0.0)
    return jnp.where(cell.draws[0] < FILL * density / densest, profile * profile * opacity, 0.0)


def _centre(draw: Map, radius: Draw) -> Map:
    """A particle's place in its cell such that it stays inside; profiles end at sqrt(2) radii."""
    margin = jnp.minimum(1.42 * radius, 0.5)
    return margin + draw * (1.0 - 2.0 * margin)


class Kind(NamedTuple):
    """What falls."""

    layers: tuple[Layer, ...]  # where single particles are visible
    diameter: float  # metres
    opacity: float
    density: Callable[[Draw], Draw]  # visible ones per m^3 at a rate in mm/h of water
    heaviest: float  # mm/h at severity 1


def draw_particles(
    radiance: Radiance, depth: Map, camera: Camera, key: Array, kind: Kind, fall: Fall, rate: Draw, light: Color
) -> Radiance:
    """Particles of all layers over the image, and only before what is farther away than their layer.

    Args:
      rate: of the fall, mm/h of water.
      light: colour of the particles, that of the bright surroundings.
    """
    density, densest = kind.density(rate), kind.density(jnp.full_like(rate, kind.heaviest))
    for layer, layer_key in zip(kind.layers, jax.random.split(key, len(kind.layers)), strict=True):
        coverage = particles(camera, layer_key, fall, layer, kind.diameter, density, densest)
        coverage = jnp.where(depth > layer.near, kind.opacity * coverage, 0.0)
        radiance = radiance + coverage * (light - radiance)
    return radiance


DROPS = Kind((Layer(0.7, 1.4), Layer(1.4, 2.8), Layer(2.8, 4.5)), 4e-3, 0.65, rain_drops, HEAVIEST_RAIN)
FLAKES = Kind((Layer(0.5, 1.0), Layer(1.0, 2.0), Layer(2.0, 4.0)), 1e-2, 0.9, snow_flakes, HEAVIEST_SNOW)


@condition
def rain(radiance: Radiance, depth: Map, camera: Camera, key: Array, strength: Draw) -> Radiance:
    """Rain of up to 100 mm/h: a darker sky, a wet road, a veil, and streaks.

    Numbers of drops after Marshall & Palmer, 1948; the veil of those too far to be seen singly after Halder et al.,
    ICCV 2019; length and slant of streaks after Garg & Nayar, IJCV 2007: 8 m/s of fall, 10 to 25 ms of exposure, up to
    12 m/s of driving. A streak shows the bright surroundings, not what is behind it. Not physical: streaks are opaque
    up to 65%, where a drop that covers a pixel for 0.4 ms of 10 to 25 would reach 4%; only the nearest would then show.
    """
    keys = jax.random.split(key, 5)
    batch = radiance.shape[0]
    rate = HEAVIEST_RAIN * strength
    radiance = radiance * (1.0 - 0.45 * strength)
    light = airlight(radiance)
    radiance = wet_ground(radiance, depth, camera, keys[0], jnp.minimum(2.0 * strength, 1.0))
    radiance = attenuate(radiance, depth, rain_extinction(rate), light)
    fall = Fall(
        sideways=uniform(keys[1], batch, -0.3, 0.3),
        towards=uniform(keys[2], batch, 0.0, 1.5),
        travel=8.0 * uniform(keys[3], batch, 0.010, 0.025),
    )
    return draw_particles(radiance, depth, camera, keys[4], DROPS, fall, rate, light)


def wet_ground(radiance: Radiance, depth: Map, camera: Camera, key: Array, wetness: Draw) -> Radiance:
    """A wet road: darker, because water lets light into the ground (Lekner & Dorf, 1988: to some 60%), and mirroring.

    The mirror image has the Fresnel reflectance of water (Schlick, 1994), in puddles more than between them.
    """
    batch, _, height, width = radiance.shape
    right, down = directions(camera)
    slant = down / jnp.sqrt(right * right + down * down + 1.0)  # cosine between the ray and the ground's normal
    fresnel = 0.02 + 0.98 * (1.0 - jnp.clip(slant, 0.0, 1.0)) ** 5
    puddles = smooth_noise(key, batch, (12, 6), (height, width))
    share = ground(depth, camera) * wetness
    mirror = share * fresnel * jnp.clip(2.5 * puddles - 0.6, 0.15, 0.9)
    darker = radiance * (1.0 - 0.4 * share)
    return darker + mirror * (mirrored_in_ground(radiance, camera) - darker)


@condition
def snow(radiance: Radiance, depth: Map, camera: Camera, key: Array, strength: Draw) -> Radiance:
    """Snow of up to 5 mm/h of water: white ground, a veil, and flakes.

    Numbers of flakes after Gunn & Marshall, 1958; visibility falls to 200 m, as in the heavy snow of Rasmussen et al.,
    1999; flakes of 1 cm fall at 1.2 m/s while the shutter is open for 4 to 12 ms.
    """
    keys = jax.random.split(key, 5)
    batch = radiance.shape[0]
    light = airlight(radiance)
    radiance = snow_cover(radiance, depth, camera, keys[0], light, strength)
    radiance = attenuate(radiance, depth, extinction(SNOW_VISIBILITY) * strength, 0.9 * light)
    fall = Fall(
        sideways=uniform(keys[1], batch, -0.8, 0.8),
        towards=uniform(keys[2], batch, 0.0, 2.0),
        travel=1.2 * uniform(keys[3], batch, 0.004, 0.012),
    )
    return draw_particles(radiance, depth, camera, keys[4], FLAKES, fall, HEAVIEST_SNOW * strength, light)


def snow_cover(radiance: Radiance, depth: Map, camera: Camera, key: Array, light: Color, amount: Draw) -> Radiance:
    """Ground under snow: white in patches that grow together as `amount` grows from 0 to 1, shadows kept."""
    batch, _, height, width = radiance.shape
    patches = smooth_noise(key, batch, (10, 8), (height, width))
    cover = jnp.clip(4.0 * (1.3 * amount - patches), 0.0, 1.0) * ground(depth, camera) * jnp.minimum(3.0 * amount, 1.0)
    shade = brightness(radiance)
    relative = jnp.clip(shade / jnp.maximum(jnp.mean(shade, axis=(2, 3), keepdims=True), 1e-3), 0.0, 1.5)
    white = light * (0.65 + 0.2 * relative)
    return radiance + 0.92 * cover * (white - radiance)

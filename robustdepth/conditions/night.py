"""The dark hours: night through a camera's signal processing, dawn and dusk."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.conditions.condition import Draw, Map, Radiance, condition
from robustdepth.conditions.fields import uniform
from robustdepth.conditions.fog import extinction
from robustdepth.conditions.scene import airlight, attenuate, brightness, directions, sky
from robustdepth.conditions.sensor import noisy
from robustdepth.types import Array, Camera

LAMPS = 4
MOONLESS = 7.5  # photographic stops between day and what is left at severity 1 without lamps


@condition
def night(radiance: Radiance, depth: Map, camera: Camera, key: Array, strength: Draw) -> Radiance:
    """Night as a camera sees it: radiance taken as what surfaces reflect, lit anew by headlights and street lamps.

    The order of a camera's signal processing, after Punnappurath et al., CVPR 2022 (day to night in raw): linearise,
    lower the exposure, tint, light, add shot and read noise, encode. Lamps light what is near them with the inverse
    square of the distance, so depth decides what is seen; a lamp shines itself where nothing hides it.
    """
    keys = jax.random.split(key, 4)
    batch = radiance.shape[0]
    dark = radiance * (1.0 - 0.9 * strength * sky(depth, camera))  # the sky gives no light of its own any more
    moonlight = jnp.exp2(-MOONLESS * strength) * (1.0 + strength * (_color(0.75, 0.9, 1.25) - 1.0))
    warmth = uniform(keys[0], batch)
    lamp_color = _color(1.0, 0.62, 0.28) * warmth + _color(0.95, 1.0, 0.95) * (1.0 - warmth)
    light, halo = street_lamps(depth, camera, keys[1])
    beams = headlights(depth, camera) * uniform(keys[2], batch, 0.6, 1.4) * _color(1.0, 0.95, 0.85)
    faded = dark + 0.35 * strength * (brightness(dark) - dark)  # little light, little colour
    on = jnp.minimum(3.0 * strength, 1.0) * (1.0 - 0.4 * strength)  # lamps go on early, and streets differ in them
    lit = faded * (moonlight + on * (beams + light * lamp_color)) + on * halo * lamp_color
    return noisy(lit, keys[3], shot=0.003 * strength, read=0.004 * strength)


def headlights(depth: Map, camera: Camera) -> Map:
    """Illuminance of the vehicle's own low beams: full up to some 8 m, then with the inverse square of the distance.

    A broad beam with a soft cut-off just above the horizon, as the law wants it (UNECE R112).
    """
    right, down = directions(camera)
    beam = jnp.exp(-jnp.square(right / 0.55)) * jax.nn.sigmoid((down + 0.03) / 0.025)
    return 1.5 * beam / (1.0 + jnp.square(depth / 10.0))


def street_lamps(depth: Map, camera: Camera, key: Array) -> tuple[Map, Map]:
    """Illuminance and halo of street lamps along both sides of the road, 3 to 7 m above the camera."""
    keys = jax.random.split(key, 5)
    batch = depth.shape[0]
    right, down = directions(camera)
    spacing = uniform(keys[0], batch, 12.0, 25.0)
    first = uniform(keys[1], batch, 4.0, 12.0)
    side = jnp.sign(uniform(keys[2], batch, -1.0, 1.0))
    x0, y0 = uniform(keys[3], batch, 4.0, 8.0), -uniform(keys[4], batch, 3.0, 7.0)
    light, halo = jnp.zeros_like(depth), jnp.zeros_like(depth)
    for i in range(LAMPS):
        x, z = x0 * side * (-1.0) ** i, first + spacing * i
        squared = (
            jnp.square(right * depth - x) + jnp.square(1.6 * (down * depth - y0)) + jnp.square(depth - z)
        )  # light falls down rather than sideways
        light = light + 22.0 / (squared + 8.0)
        angle = jnp.square(right - x / z) + jnp.square(down - y0 / z)
        core = jnp.square(0.25 / z)  # a luminaire of half a metre
        glow = 0.8 * core / (angle + core) + jnp.exp(-angle / core)
        halo = halo + jnp.where(depth > z, glow, 0.25 * glow)
    return 0.45 * light, halo


class Twilight(NamedTuple):
    """The light of a low sun."""

    ambient: tuple[float, float, float]  # what it does to the colours of the scene
    horizon: tuple[float, float, float]  # glow of the sky near the horizon
    zenith: tuple[float, float, float]  # colour of the sky above
    visibility: float  # metres, at severity 1


DUSK = Twilight((1.0, 0.72, 0.5), (1.0, 0.5, 0.18), (0.22, 0.25, 0.5), 1000.0)
DAWN = Twilight((0.74, 0.82, 1.0), (1.0, 0.66, 0.58), (0.42, 0.55, 0.85), 300.0)  # with the mist of the morning
STOPS = 2.5  # of light lost at severity 1


def twilight(sun: Twilight, radiance: Radiance, depth: Map, camera: Camera, key: Array, strength: Draw) -> Radiance:
    """Light of a low sun: less of it, coloured, under a sky that glows at the horizon, with haze and sensor noise.

    Colours follow measured twilight: reddish near the horizon where the path through the air is long (Rayleigh
    scattering), blue above (Chappuis absorption of ozone; Hulburt, 1953). Up to 2.5 stops of light are lost.
    """
    batch = radiance.shape[0]
    height_key, noise_key = jax.random.split(key)
    _, down = directions(camera)
    scene = radiance * jnp.exp2(-STOPS * strength) * (1.0 + strength * (_color(*sun.ambient) - 1.0))
    above = jnp.exp(-jnp.maximum(-down, 0.0) / uniform(height_key, batch, 0.1, 0.25))
    glow = above * _color(*sun.horizon) + (1.0 - above) * _color(*sun.zenith)
    level = brightness(airlight(radiance)) * jnp.exp2(-0.5 * STOPS * strength)  # the sky is the last to grow dark
    share = sky(depth, camera) * jnp.minimum(2.0 * strength, 1.0)
    scene = scene + share * (glow * level - scene)
    scene = attenuate(scene, depth, extinction(sun.visibility) * strength, airlight(scene))
    return noisy(scene, noise_key, shot=0.001 * strength, read=0.002 * strength)


dusk = condition(functools.partial(twilight, DUSK))
dawn = condition(functools.partial(twilight, DAWN))


def _color(red: float, green: float, blue: float) -> Float[Array, "1 3 1 1"]:
    return jnp.array([red, green, blue], jnp.float32).reshape(1, 3, 1, 1)

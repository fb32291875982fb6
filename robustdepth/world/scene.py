"""Random street scenes: what stands where, how it moves, how it is lit and how the camera drives through it.

World coordinates are the camera's convention, x right, y down, z ahead, in metres; the road's surface is
y = crest * z**2 / 2 and its centre line is x = curvature * z**2 / 2. Everything is a pure function of one random key
and is written for a single scene; callers `vmap` it.
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Key

from robustdepth.types import Array, Camera
from robustdepth.world import layout
from robustdepth.world.dice import Dice
from robustdepth.world.ground import Ground, sample_ground
from robustdepth.world.palette import foliage_color, stone_color
from robustdepth.world.solids import CLASSES as CLASSES
from robustdepth.world.solids import Solids


@flax.struct.dataclass
class Light:
    """Sun, sky and the camera's response."""

    sun: Float[Array, "3"]  # unit vector towards the sun
    sun_color: Float[Array, "3"]  # radiance relative to a white surface facing the sun
    ambient: Float[Array, "3"]
    zenith: Float[Array, "3"]
    horizon: Float[Array, "3"]
    clouds: Float[Array, ""]  # cover, 0 to 1
    haze: Float[Array, ""]  # extinction per metre
    gamma: Float[Array, ""]
    saturation: Float[Array, ""]
    seed: Int[Array, ""]
    skyline: Float[Array, "3"]  # of the distance: mean and deviation of its height, as sines, and metres to it
    skyline_color: Float[Array, "3"]


@flax.struct.dataclass
class Ego:
    """Camera positions and camera-to-world rotations at times -1, 0 and +1."""

    position: Float[Array, "3 3"]
    rotation: Float[Array, "3 3 3"]


@flax.struct.dataclass
class World:
    """One scene."""

    lens: Float[Array, "4"]  # see `camera_of`
    baseline: Float[Array, ""]
    ego: Ego
    ground: Ground
    light: Light
    boxes: Solids
    screens: Solids  # boxes with holes
    columns: Solids  # upright cylinders
    crowns: Solids  # ellipsoids


def sample_world(key: Key[Array, ""]) -> World:
    """Draws one scene."""
    dice = Dice(key)
    ground = sample_ground(dice)
    ego = sample_ego(dice, ground)
    stock = layout.sample_solids(dice, ground)
    baseline = jnp.where(dice.chance(0.3), 0.54, dice(0.3, 0.8))
    solids = stock.boxes, stock.screens, stock.columns, stock.crowns
    return World(sample_lens(dice), baseline, ego, ground, sample_light(dice), *solids)


def sample_lens(dice: Dice) -> Float[Array, "4"]:
    """Field of view in radians, height over width of a pixel, and the principal point off the centre, in image sizes.

    Horizontal fields of view of 60 to 95 degrees: 81 degrees is KITTI.
    """
    center = jnp.where(dice.chance(0.7), dice(-0.05, 0.03), dice(-0.08, 0.06))
    return jnp.stack([jnp.radians(dice(60.0, 95.0)), dice(0.97, 1.03), dice(-0.03, 0.03), center])


def camera_of(lens: Float[Array, "4"], size: tuple[int, int]) -> Camera:
    """The camera of a lens for images of `size` (height, width)."""
    height, width = size
    fx = 0.5 * width / jnp.tan(lens[0] / 2)
    center = jnp.stack([(width - 1) / 2 + width * lens[2], (height - 1) / 2 + height * lens[3]])
    return Camera(jnp.stack([fx, fx * lens[1]]), center, size)


def sample_ego(dice: Dice, ground: Ground) -> Ego:
    """Three camera poses: driving along the road, standing still or turning, with a suspension's jitter."""
    still, turning = dice.chance(0.06), dice.chance(0.2)
    step = jnp.where(still, 0.0, jnp.where(turning, dice(0.2, 0.9), dice(0.2, 2.0)))
    turn = jnp.where(still, 0.0, jnp.where(turning, dice(-0.07, 0.07), dice(-0.01, 0.01)))
    time = jnp.array([-1.0, 0.0, 1.0])
    move = jnp.where(still, 0.0, 1.0)
    heading = dice(-0.05, 0.05) + turn * time
    pitch = jnp.where(dice.chance(0.7), 0.012 * dice.normal(), dice(-0.04, 0.03)) + move * 0.006 * dice.normal(3)
    roll = 0.01 * dice.normal() + move * 0.003 * dice.normal(3)
    # The path's chord between two frames points along the mean of their headings.
    chord = jnp.stack([heading[0] + heading[1], heading[1] + heading[2]]) / 2
    hop = step * jnp.stack([jnp.sin(chord), jnp.cos(chord)], axis=-1)
    jitter = move * jnp.stack([0.02 * dice.normal(3), 0.01 * dice.normal(3), jnp.zeros(3)], axis=-1)
    start = jnp.stack([ground.lane + dice(-0.4, 0.4), -dice(1.2, 2.0)])
    path = jnp.stack([-hop[0], jnp.zeros(2), hop[1]])
    position = jnp.stack([start[0] + path[:, 0], jnp.full(3, start[1]), path[:, 1]], axis=-1) + jitter
    return Ego(position, jax.vmap(rotation)(heading, pitch, roll))


def rotation(yaw: Float[Array, ""], pitch: Float[Array, ""], roll: Float[Array, ""]) -> Float[Array, "3 3"]:
    """Camera-to-world rotation; positive yaw looks right, positive pitch up, positive roll tilts clockwise."""
    (cy, sy), (cp, sp), (cr, sr) = [(jnp.cos(angle), jnp.sin(angle)) for angle in (yaw, pitch, roll)]
    about_y = jnp.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    about_x = jnp.array([[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]])
    about_z = jnp.array([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]])
    multiply = lambda a, b: jnp.matmul(a, b, precision="highest")  # noqa: E731
    return multiply(about_y, multiply(about_x, about_z))


def sample_light(dice: Dice) -> Light:
    """Anything from hard low sun to a dull overcast day, warm to cold, dark to overexposed."""
    sunny = dice.chance(0.75)
    elevation, azimuth = dice(0.2, 1.2), dice(0.0, 2 * jnp.pi)
    sun = jnp.stack([jnp.cos(elevation) * jnp.sin(azimuth), -jnp.sin(elevation), jnp.cos(elevation) * jnp.cos(azimuth)])
    warmth = dice(-0.1, 0.1)
    white = jnp.stack([1.0 + warmth, jnp.ones(()), 1.0 - warmth]) * (1.0 + 0.015 * dice.normal(3))
    strength = jnp.where(sunny, dice(1.0, 2.8), dice(0.0, 0.3))
    ambient = jnp.where(sunny, dice(0.3, 0.6), dice(0.5, 0.9))
    blue = jnp.where(sunny, dice(0.2, 0.8), dice(0.0, 0.2))
    # The camera exposes for the road, more or less; the sky follows by half and often saturates.
    exposure = jnp.exp(dice(-0.4, 0.9)) / (0.2 + ambient + strength * jnp.sin(elevation))
    sky = jnp.sqrt(exposure) * dice(0.5, 2.2) / exposure
    zenith = sky * jnp.stack([1.0 - 0.75 * blue, 1.0 - 0.45 * blue, jnp.ones(())])
    horizon = sky * dice(0.9, 1.3) * jnp.stack([1.0 - 0.25 * blue, 1.0 - 0.15 * blue, jnp.ones(())])
    return Light(
        sun=sun,
        sun_color=exposure * strength * white * jnp.array([1.05, 1.0, 0.92]),
        ambient=exposure * ambient * white * jnp.array([0.95, 1.0, 1.08]),
        zenith=exposure * white * zenith,
        horizon=exposure * white * horizon,
        clouds=jnp.where(sunny, dice(0.0, 0.7), dice(0.5, 1.0)),
        haze=jnp.where(dice.chance(0.7), dice(0.0, 0.002), dice(0.002, 0.01)),
        gamma=dice(0.45, 1.1),
        saturation=jnp.where(dice.chance(0.15), dice(0.0, 0.3), dice(0.5, 1.4)),
        seed=dice.seed(),
        skyline=jnp.stack([dice(-0.02, 0.035), dice(0.0, 0.02), dice(110.0, 400.0)]),
        skyline_color=jnp.where(dice.chance(0.7), foliage_color(dice) * dice(0.3, 1.0), stone_color(dice)),
    )

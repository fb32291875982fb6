"""What one image and its depth tell of a scene: where the sky and the ground are, and how bright the air is."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from robustdepth.conditions.condition import Color, Draw, Map, Radiance
from robustdepth.geometry.camera import rays
from robustdepth.imaging.color import LUMA
from robustdepth.imaging.resize import resize_map
from robustdepth.types import Array, Camera

AIRLIGHT_GRID = (12, 40)  # where the brightest part of the image is looked for


def directions(camera: Camera) -> tuple[Map, Map]:
    """x/z (right) and y/z (down) of every pixel's ray."""
    through = rays(camera)
    return through[..., 0][:, None], through[..., 1][:, None]


def brightness(radiance: Float[Array, "batch 3 rows columns"]) -> Float[Array, "batch 1 rows columns"]:
    """Luminance of planes."""
    red, green, blue = (radiance[:, c : c + 1] for c in range(3))
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def airlight(radiance: Radiance) -> Color:
    """The light that air scatters towards the camera: about that of the brightest part of the image, paler.

    A soft maximum over a coarse grid, so that one lamp or one white pixel does not decide.
    """
    coarse = resize_map(radiance, AIRLIGHT_GRID)
    level = brightness(coarse)
    weight = jax.nn.softmax(level * 12.0, axis=(2, 3))
    color = jnp.sum(weight * coarse, axis=(2, 3), keepdims=True)
    return 0.35 * color + 0.65 * brightness(color)


def attenuate(radiance: Radiance, depth: Map, extinction: Map | Draw, light: Color) -> Radiance:
    """Koschmieder's law: I t + A (1 - t) with transmission t = exp(-extinction x depth), extinction in 1/m.

    Source: Koschmieder 1924; the form used for driving scenes by Sakaridis et al., IJCV 2018 (Foggy Cityscapes).
    """
    transmission = jnp.exp(-extinction * depth)
    return radiance * transmission + light * (1.0 - transmission)


def sky(depth: Map, camera: Camera) -> Map:
    """How surely a pixel is sky, in [0, 1]: above the horizon, and nearly as far as the farthest pixel.

    Relative to the farthest pixel, so that it holds for depth of any scale.
    """
    _, down = directions(camera)
    nearness = depth / jnp.max(depth, axis=(2, 3), keepdims=True)
    return _step(nearness, 0.6, 0.85) * _step(-down, -0.02, 0.02)


def ground(depth: Map, camera: Camera) -> Map:
    """How surely a pixel is ground, in [0, 1]: as far below the camera as the road right before it.

    Needs no scale and no plane fit: heights are compared with the mean height of a patch at the lower border. Bumps and
    errors of depth of some 15% pass.
    """
    _, down = directions(camera)
    below = down * depth
    height, width = depth.shape[2:]
    patch = below[:, :, (9 * height) // 10 :, (7 * width) // 20 : (13 * width) // 20]
    road = jnp.maximum(jnp.mean(patch, axis=(2, 3), keepdims=True), 1e-3)
    return jnp.exp(-jnp.square((below / road - 1.0) / 0.15)) * _step(down, 0.0, 0.02)


def mirrored_in_ground(radiance: Radiance, camera: Camera) -> Radiance:
    """What a wet, rough road mirrors: the image turned over at the horizon (far things), smeared along the vertical."""
    height, width = radiance.shape[2:]
    size = max(2, height // 6), max(2, width // 3)
    coarse = resize_map(radiance, size)
    horizon = (camera.center[:, 1] + 0.5) * (size[0] / height) - 0.5
    rows = jnp.round(2.0 * horizon[:, None] - jnp.arange(size[0], dtype=jnp.float32)[None])
    rows = jnp.clip(rows, 0, size[0] - 1).astype(jnp.int32)

    def turn(planes: Float[Array, "3 rows columns"], row: Int[Array, "rows"]) -> Float[Array, "3 rows columns"]:
        return planes[:, row]

    return resize_map(jax.vmap(turn)(coarse, rows), (height, width))


def _step(x: Map, low: float, high: float) -> Map:
    """0 below `low`, 1 above `high`, smooth between."""
    t = jnp.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)

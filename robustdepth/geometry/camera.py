"""Pinhole cameras and what happens to them when an image is resized, cropped or flipped.

One rule for pixel centres holds everywhere: pixel (0, 0) is the *centre* of the first texel, so an image of width W
covers x in [-0.5, W - 0.5]. Libraries call the same rule "half-pixel centres" when they resize.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from robustdepth.errors import UserError
from robustdepth.imaging.resize import resize_image
from robustdepth.numerics import unstack
from robustdepth.types import Array, Camera


def make_camera(fx: float, fy: float, cx: float, cy: float, size: tuple[int, int]) -> Camera:
    """One unbatched camera from intrinsics in pixels of an image of `size` (height, width).

    Raises:
      UserError: a focal length that is not positive, or a principal point outside the image.
    """
    height, width = size
    if not (fx > 0 and fy > 0):
        raise UserError(f"focal lengths must be positive pixels, got fx={fx}, fy={fy}; check the camera's calibration.")
    if not (-0.5 <= cx <= width - 0.5 and -0.5 <= cy <= height - 0.5):
        raise UserError(
            f"principal point ({cx}, {cy}) lies outside the image of {width}x{height} pixels; "
            "give intrinsics in pixels for exactly this image size."
        )
    return Camera(np.array([fx, fy], np.float32), np.array([cx, cy], np.float32), size)


def resize_camera(camera: Camera, size: tuple[int, int]) -> Camera:
    """The camera of the image resized to `size` (height, width): x' = s (x + 0.5) - 0.5, and focal lengths times s."""
    scale = np.array([size[1] / camera.size[1], size[0] / camera.size[0]], np.float32)
    scale = scale.reshape((1,) * (camera.focal.ndim - 1) + (2,))
    return Camera(camera.focal * scale, (camera.center + 0.5) * scale - 0.5, size)


def metres_factor(camera: Camera, canonical_focal: float) -> Float[Array, "*batch"]:
    """By how much this camera's depth is larger than that of the canonical one which takes the same image.

    Args:
      canonical_focal: the canonical camera's focal length in widths of its image.
    """
    return jnp.asarray(camera.focal)[..., 0] / (camera.size[1] * canonical_focal)


def crop_camera(camera: Camera, top: int, left: int, size: tuple[int, int]) -> Camera:
    """The camera of the window of `size` (height, width) whose first pixel is (left, top)."""
    offset = np.array([left, top], np.float32).reshape((1,) * (camera.center.ndim - 1) + (2,))
    return Camera(camera.focal, camera.center - offset, size)


def flip_camera(camera: Camera) -> Camera:
    """The camera of the horizontally mirrored image: cx' = W - 1 - cx."""
    mirrored = jnp.stack([camera.size[1] - 1 - camera.center[..., 0], camera.center[..., 1]], axis=-1)
    return Camera(camera.focal, mirrored, camera.size)


def resize(
    image: Float[Array, "*batch height width channel"], camera: Camera, size: tuple[int, int]
) -> tuple[Float[Array, "*batch new_height new_width channel"], Camera]:
    """Image (antialiased bilinear) and camera resized together to `size` (height, width)."""
    return resize_image(image, size), resize_camera(camera, size)


def crop(
    image: Shaped[Array, "*batch height width channel"], camera: Camera, top: int, left: int, size: tuple[int, int]
) -> tuple[Shaped[Array, "*batch new_height new_width channel"], Camera]:
    """The window of `size` (height, width) at row `top`, column `left`, and its camera.

    Raises:
      UserError: the window leaves the image.
    """
    height, width = image.shape[-3:-1]
    if top < 0 or left < 0 or top + size[0] > height or left + size[1] > width:
        raise UserError(f"crop of {size} at row {top}, column {left} leaves the image of {height}x{width}; shrink it.")
    window = image[..., top : top + size[0], left : left + size[1], :]
    return window, crop_camera(camera, top, left, size)


def flip(
    image: Shaped[Array, "*batch height width channel"], camera: Camera
) -> tuple[Shaped[Array, "*batch height width channel"], Camera]:
    """Image and camera mirrored left to right."""
    return image[..., ::-1, :], flip_camera(camera)


def rays(camera: Camera) -> Float[Array, "batch height width 2"]:
    """x/z and y/z of the ray through every pixel centre of a batched camera."""
    return jnp.stack(_ray_planes(camera), axis=-1)


def _ray_planes(camera: Camera) -> tuple[Array, Array]:
    height, width = camera.size
    x = (jnp.arange(width, dtype=jnp.float32)[None] - camera.center[:, :1]) / camera.focal[:, :1]
    y = (jnp.arange(height, dtype=jnp.float32)[None] - camera.center[:, 1:]) / camera.focal[:, 1:]
    shape = (camera.focal.shape[0], height, width)
    return jnp.broadcast_to(x[:, None, :], shape), jnp.broadcast_to(y[:, :, None], shape)


def back_project(depth: Float[Array, "batch height width"], camera: Camera) -> Float[Array, "batch height width 3"]:
    """Points in the camera's frame (x right, y down, z forward): P = D(p) K^-1 p."""
    x, y = _ray_planes(camera)
    return jnp.stack([x * depth, y * depth, depth], axis=-1)


def project(
    points: Float[Array, "batch height width 3"], camera: Camera, min_depth: float = 1e-3
) -> tuple[Float[Array, "batch height width 2"], Float[Array, "batch height width"]]:
    """Pixel coordinates (x, y) of points in the camera's frame, and their depth z.

    Points nearer than `min_depth`, or behind the camera, are projected as if at `min_depth`; the returned depth tells.
    """
    x, y, depth = unstack(points)
    inverse = 1.0 / jnp.maximum(depth, min_depth)
    fx, fy, cx, cy = (v[:, None, None] for v in (*unstack(camera.focal), *unstack(camera.center)))
    return jnp.stack([fx * x * inverse + cx, fy * y * inverse + cy], axis=-1), depth

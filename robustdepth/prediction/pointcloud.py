"""Cameras and coloured point clouds of predictions; PLY files that MeshLab, CloudCompare, Blender and Open3D read."""

from __future__ import annotations

import math
import pathlib

import numpy as np
from jaxtyping import Float, UInt8

from robustdepth.errors import UserError
from robustdepth.geometry.camera import back_project, make_camera
from robustdepth.types import Camera

AXES, CHANNELS = ("x", "y", "z"), ("red", "green", "blue")
VERTEX = np.dtype([(name, "<f4") for name in AXES] + [(name, "u1") for name in CHANNELS])


def camera_from_field_of_view(degrees: float, size: tuple[int, int]) -> Camera:
    """A camera with this horizontal field of view, square pixels and its axis through the image's middle."""
    if not 0 < degrees < 180:
        raise UserError(f"the field of view must lie between 0 and 180 degrees, not {degrees:g}.")
    height, width = size
    focal = width / 2 / math.tan(math.radians(degrees) / 2)
    return make_camera(focal, focal, (width - 1) / 2, (height - 1) / 2, size)


def camera_from_focal_length(millimetres: float, size: tuple[int, ...]) -> Camera:
    """A camera by its focal length in mm of 35 mm film, whose diagonal (36x24 mm) is taken for that of the image."""
    height, width = size
    pixels = millimetres / focal_length(1.0, size)
    return make_camera(pixels, pixels, (width - 1) / 2, (height - 1) / 2, (height, width))


def focal_length(pixels: float, size: tuple[int, ...]) -> float:
    """A focal length in mm of 35 mm film, of the same angle over the diagonal as `pixels` for images of this size."""
    return pixels * math.hypot(36, 24) / math.hypot(*size)


def describe_focal_length(millimetres: float, camera: Camera) -> str:
    """What a camera by its focal length in EXIF is, in words."""
    degrees = math.degrees(2 * math.atan(camera.size[1] / 2 / float(camera.focal[0])))
    return f"camera by EXIF: {millimetres:g} mm of 35 mm film, {degrees:.0f} degrees wide"


def points(depth: Float[np.ndarray, "height width"], camera: Camera | None) -> Float[np.ndarray, "height width 3"]:
    """The points of a depth map in its camera's frame (x right, y down, z forward), in the unit of the depth."""
    if camera is None:
        raise UserError("a point cloud needs a camera: call the predictor with one.")
    batched = Camera(camera.focal[None], camera.center[None], camera.size)
    return np.asarray(back_project(depth[None], batched)[0])


def write_ply(path: pathlib.Path, cloud: Float[np.ndarray, "count 3"], colors: UInt8[np.ndarray, "count 3"]) -> None:
    """One vertex per point with its colour, in their order; binary little endian."""
    vertices = np.empty(len(cloud), VERTEX)
    for i, name in enumerate(AXES):
        vertices[name] = cloud[:, i]
    for i, name in enumerate(CHANNELS):
        vertices[name] = colors[:, i]
    properties = [f"property float {name}" for name in AXES] + [f"property uchar {name}" for name in CHANNELS]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        *properties,
        "end_header",
        "",
    ]
    path.write_bytes("\n".join(header).encode() + vertices.tobytes())

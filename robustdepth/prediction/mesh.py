"""A depth map as a surface: where it tears at the edges of things, and its mesh as a GLB file."""

from __future__ import annotations

import io
import pathlib
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8, UInt32
from PIL import Image
from scipy import ndimage

from robustdepth.errors import UserError

EDGE = 0.04  # of the depth
WINDOW = 1 / 60  # of the image's width, over which a surface's slope is taken; blurred edges are narrower


def on_surface(depth: Float[np.ndarray, "height width"], edge: float) -> Bool[np.ndarray, "height width"]:
    """Which pixels lie on a surface, not in the gap between a thing and what is behind it.

    A pixel is in a gap where depth changes, from its one neighbour to its other, by more than `edge` of itself, as
    MoGe's threshold counts. Here what the surface around it changes by is first taken off (the median slope of inverse
    depth, which a plane has everywhere), so that a road that is seen at a small angle does not tear.

    Args:
      depth: positive.
      edge: 0 leaves all pixels.
    """
    if not edge:
        return np.ones(depth.shape, bool)
    inverse = 1 / np.pad(depth, 1, mode="edge")
    reach = 2 * max(round(depth.shape[1] * WINDOW / 2), 2) + 1  # odd
    kept = np.ones(depth.shape, bool)
    for axis in range(2):
        inner = inverse[:, 1:-1] if axis == 0 else inverse[1:-1]
        change = inner[2:] - inner[:-2] if axis == 0 else inner[:, 2:] - inner[:, :-2]
        size = (reach, 1) if axis == 0 else (1, reach)
        kept &= np.abs(change - ndimage.median_filter(change, size=size)) * depth <= edge
    return kept


def triangles(kept: Bool[np.ndarray, "height width"], thin: int) -> UInt32[np.ndarray, "count 3"]:
    """The mesh over every `thin`-th row and column, as indices of those pixels in row order; corners go clockwise.

    A square that holds any pixel that is not kept has no triangles.
    """
    rows, columns = (len(range(0, size, thin)) for size in kept.shape)
    height, width = (rows - 1) * thin + 1, (columns - 1) * thin + 1
    whole = cv2.erode(kept[:height, :width].astype(np.uint8), np.ones((thin + 1, thin + 1), np.uint8), anchor=(0, 0))
    whole = whole[: height - 1 : thin, : width - 1 : thin].astype(bool)
    index = np.arange(rows * columns, dtype=np.uint32).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return np.concatenate([np.stack([a, c, b], -1)[whole], np.stack([b, c, d], -1)[whole]])


def write_glb(
    path: pathlib.Path,
    cloud: Float[np.ndarray, "height width 3"],
    image: UInt8[np.ndarray, "height width 3"],
    kept: Bool[np.ndarray, "height width"],
    thin: int,
) -> None:
    """Writes the surface with the picture on it, as glTF 2.0: x right, y up, looking along -z.

    Raises UserError where trimesh is not installed, and where nothing of the surface is left.
    """
    trimesh = import_trimesh()
    height, width = kept.shape
    used, faces = np.unique(triangles(kept, thin), return_inverse=True)
    if not len(used):
        raise UserError(f"{path}: no surface is left where edges are cut: give a larger --edge, or 0 for all of it.")
    points = (cloud[::thin, ::thin] * np.array([1, -1, -1], np.float32)).reshape(-1, 3)[used]
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, 1 - (np.arange(height) + 0.5) / height)
    where = np.stack([x, y], -1)[::thin, ::thin].reshape(-1, 2)[used]  # trimesh's y points up
    picture = Image.open(io.BytesIO(cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()))  # stays JPEG in the file
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=picture, metallicFactor=0.0, roughnessFactor=1.0)
    visual = trimesh.visual.TextureVisuals(uv=where, material=material)
    mesh = trimesh.Trimesh(points, faces.reshape(-1, 3), visual=visual, process=False)
    path.write_bytes(mesh.export(file_type="glb", tree_postprocessor=_unlit))


def _unlit(tree: dict[str, Any]) -> None:
    """Tells viewers to add no light of their own: the picture's colours have its light already."""
    for material in tree["materials"]:
        material["extensions"] = {"KHR_materials_unlit": {}}
    tree["extensionsUsed"] = ["KHR_materials_unlit"]


def import_trimesh() -> Any:
    """The library that writes GLB. Raises UserError where it is not installed."""
    try:
        import trimesh
    except ImportError:
        raise UserError("GLB files need trimesh: pip install 'robustdepth[mesh]', or pip install trimesh.") from None
    return trimesh

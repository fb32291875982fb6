"""What a predictor returns for one image."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8, UInt16
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from robustdepth.data.predicted import PNG_FACTOR, PNG_FACTOR_KEY
from robustdepth.errors import UserError
from robustdepth.imaging.colormap import ColorRange, colorize
from robustdepth.prediction import mesh, pointcloud
from robustdepth.types import AFFINE, METRIC, Camera


@dataclasses.dataclass(frozen=True, repr=False)
class Prediction:
    """Depth at the size of the input image."""

    depth: Float[np.ndarray, "height width"]
    scale: str  # "metric" (metres), "relative" (up to one factor per model) or "affine" (inverse depth: and a shift)
    camera: Camera | None = None
    image: UInt8[np.ndarray, "height width 3"] | None = None  # what was predicted from; colours of the points
    note: str = ""  # where the camera is from, if the caller did not give it

    def __repr__(self) -> str:
        height, width = self.depth.shape
        near, far = np.percentile(self.depth, (2, 98))
        unit = " m" if self.scale == METRIC else ""
        note = f"; {self.note}" if self.note else ""
        return f"Prediction({height}x{width}, {self.scale}, 96% within {near:.3g} to {far:.3g}{unit}{note})"

    @property
    def inverse_depth(self) -> Float[np.ndarray, "height width"]:
        """1 / depth."""
        return 1 / self.depth

    def colorize(self) -> UInt8[np.ndarray, "height width 3"]:
        """An RGB picture: near is bright, far is dark, linear in inverse depth."""
        return colorize(self.inverse_depth, ColorRange.of(self.inverse_depth))

    def points(self) -> Float[np.ndarray, "height width 3"]:
        """Points in the camera's frame (x right, y down, z forward), in the unit of the depth.

        Raises UserError where the prediction was made without a camera.
        """
        return pointcloud.points(self.depth, self.camera)

    def save(self, path: str | os.PathLike, *, thin: int = 1, edge: float = mesh.EDGE) -> None:
        """Writes what the path's ending says.

        .png: 16 bits, see `encode_depth`. .npz: depth, scale and camera. .ply: coloured points. .glb: a surface with
        the picture on it. .jpg: a colour map.

        Args:
          path: the file.
          thin: every how many rows and columns points and surfaces take.
          edge: jumps of depth at which they are cut, see `mesh.on_surface`; 0: nowhere.

        Raises UserError for another ending, points without a camera, or a path that cannot be written.
        """
        path = pathlib.Path(path).expanduser()
        try:
            match path.suffix.lower():
                case ".png":
                    write_depth_png(path, self.depth, png_factor(self.scale, largest_depth(self.scale, self.depth)))
                case ".npz":
                    np.savez_compressed(path, **self.arrays())
                case ".ply" | ".glb":
                    self._write_shape(path, thin, edge)
                case ".jpg" | ".jpeg":
                    write_picture(path, self.colorize()[..., ::-1])
                case other:
                    raise UserError(f"{path} ends with {other!r}: use .png, .npz, .ply, .glb or .jpg.")
        except OSError as error:
            raise UserError(f"cannot write {path} ({error.strerror}): give another path.") from error

    def _write_shape(self, path: pathlib.Path, thin: int, edge: float) -> None:
        if thin < 1 or not edge >= 0:
            raise UserError(f"thin={thin} must be 1 or more, and edge={edge:g} not negative.")
        cloud, kept = self.points(), mesh.on_surface(self.depth, edge)
        colors = np.full((*self.depth.shape, 3), 128, np.uint8) if self.image is None else self.image
        if path.suffix.lower() == ".glb":
            mesh.write_glb(path, cloud, colors, kept, thin)
        else:
            chosen = kept[::thin, ::thin]
            pointcloud.write_ply(path, cloud[::thin, ::thin][chosen], colors[::thin, ::thin][chosen])

    def arrays(self) -> dict[str, Any]:
        """What an .npz file holds: depth, scale and, where it is known, the camera's focal lengths and centre."""
        arrays: dict[str, Any] = {"depth": self.depth, "scale": np.array(self.scale)}
        if self.camera is not None:
            arrays |= {"focal": np.asarray(self.camera.focal), "center": np.asarray(self.camera.center)}
        return arrays


def largest_depth(scale: str, depth: Float[np.ndarray, "height width"]) -> float:
    """What a 16-bit PNG must hold; "affine" depth has no bound in the sky, so there it is 100 times the median."""
    largest = float(depth.max())
    return min(largest, 100 * float(np.median(depth))) if scale == AFFINE else largest


def png_factor(scale: str, largest: float) -> float:
    """Values of a 16-bit PNG per unit of depth: 256 for metres, as in KITTI.

    Depth of relative scale has no unit: the largest power of two takes the place that keeps `largest` in range.
    """
    return float(PNG_FACTOR) if scale == METRIC else 2.0 ** math.floor(math.log2(65535 / largest))


def encode_depth(depth: Float[np.ndarray, "height width"], factor: float) -> UInt16[np.ndarray, "height width"]:
    """`factor` times the depth, saturating at 65535; never 0, which KITTI reads as unknown."""
    return np.clip(np.round(depth * factor), 1, 65535).astype(np.uint16)


def write_depth_png(path: pathlib.Path, depth: Float[np.ndarray, "height width"], factor: float) -> None:
    """Depth in 16 bits, with the factor in the PNG's text. Raises OSError if it cannot be written."""
    text = PngInfo()
    text.add_text(PNG_FACTOR_KEY, str(factor))
    Image.fromarray(encode_depth(depth, factor)).save(path, pnginfo=text, compress_level=1)


def write_picture(path: pathlib.Path, pixels: np.ndarray) -> None:
    """An 8-bit BGR array, in the format of the path's ending. Raises OSError if it cannot be written."""
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())

"""What a predictor returns for one image."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8, UInt16

from robustdepth.data.predicted import PNG_FACTOR
from robustdepth.errors import UserError
from robustdepth.imaging.colormap import ColorRange, colorize
from robustdepth.prediction import pointcloud
from robustdepth.types import Camera


@dataclasses.dataclass(frozen=True, repr=False)
class Prediction:
    """Depth at the size of the input image."""

    depth: Float[np.ndarray, "height width"]
    scale: str  # "metric" (metres) or "relative" (up to one factor per model)
    camera: Camera | None = None
    image: UInt8[np.ndarray, "height width 3"] | None = None  # what was predicted from; colours of the points

    def __repr__(self) -> str:
        height, width = self.depth.shape
        near, far = np.percentile(self.depth, (2, 98))
        unit = " m" if self.scale == "metric" else ""
        return f"Prediction({height}x{width}, {self.scale}, 96% within {near:.3g} to {far:.3g}{unit})"

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

    def save(self, path: str | os.PathLike) -> None:
        """Writes what the path's ending says.

        .png: 16 bits, 256 times the depth. .npz: depth, scale and camera. .ply: coloured points. .jpg: a colour map.

        Raises UserError for another ending, points without a camera, or a path that cannot be written.
        """
        path = pathlib.Path(path).expanduser()
        try:
            match path.suffix.lower():
                case ".png":
                    write_picture(path, encode_depth(self.depth))
                case ".npz":
                    np.savez_compressed(path, **self.arrays())
                case ".ply":
                    grey = np.full((*self.depth.shape, 3), 128, np.uint8)
                    pointcloud.write_ply(path, self.points(), grey if self.image is None else self.image)
                case ".jpg" | ".jpeg":
                    write_picture(path, self.colorize()[..., ::-1])
                case other:
                    raise UserError(f"{path} ends with {other!r}: use .png, .npz, .ply or .jpg.")
        except OSError as error:
            raise UserError(f"cannot write {path} ({error.strerror}): give another path.") from error

    def arrays(self) -> dict[str, Any]:
        """What an .npz file holds: depth, scale and, where it is known, the camera's focal lengths and centre."""
        arrays: dict[str, Any] = {"depth": self.depth, "scale": np.array(self.scale)}
        if self.camera is not None:
            arrays |= {"focal": np.asarray(self.camera.focal), "center": np.asarray(self.camera.center)}
        return arrays


def encode_depth(depth: Float[np.ndarray, "height width"]) -> UInt16[np.ndarray, "height width"]:
    """256 times the depth, saturating at 65535 (a depth just under 256); never 0, which KITTI reads as unknown."""
    return np.clip(np.round(depth * PNG_FACTOR), 1, 65535).astype(np.uint16)


def write_picture(path: pathlib.Path, pixels: np.ndarray) -> None:
    """An 8-bit BGR or 16-bit grey array, in the format of the path's ending. Raises OSError if it cannot be written."""
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())

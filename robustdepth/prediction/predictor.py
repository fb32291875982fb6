"""Depth maps of images, at the images' own size: what `robustdepth.load(path)` returns."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from robustdepth.errors import UserError
from robustdepth.paths import expand_home
from robustdepth.runtime.inference import DepthModel, load_model
from robustdepth.types import Array, Camera, Prediction


@dataclasses.dataclass(frozen=True)
class Predictor:
    """Calls a trained network on images of any size.

    >>> predictor = robustdepth.load("runs/quickstart")
    >>> prediction = predictor(image)  # UInt8 [height, width, 3], or float in [0, 1]
    >>> prediction.depth.shape, prediction.scale
    ((375, 1242), 'metric')
    """

    model: DepthModel

    @classmethod
    def from_checkpoint(cls, path: str | pathlib.Path, step: int | None = None) -> Predictor:
        """Loads a training's working folder or an exported folder; the newest checkpoint unless `step` is given."""
        return cls(load_model(expand_home(str(path)), step))

    def __call__(self, image: Array, camera: Camera | None = None) -> Prediction:
        """Depth of one RGB image, UInt8 or float in [0, 1], [height, width, 3].

        The camera, where given, is checked against the image's size and handed on in the prediction.
        Raises UserError for anything that is not such an image.
        """
        return self.batch([image], [camera])[0]

    def batch(self, images: Sequence[Array], cameras: Sequence[Camera | None] | None = None) -> list[Prediction]:
        """Depth of several images, which may differ in size, in one call of the network."""
        pictures = [to_uint8(image) for image in images]
        cameras = cameras or [None] * len(pictures)
        for picture, camera in zip(pictures, cameras, strict=True):
            check_camera(camera, picture.shape[:2])
        return [
            self.prediction(inverse_depth, picture.shape[:2], camera)
            for inverse_depth, picture, camera in zip(self.inverse_depth(pictures), pictures, cameras, strict=True)
        ]

    def inverse_depth(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float[np.ndarray, "batch height width"]:
        """Inverse depth of 8-bit images of any sizes, at the network's own size. Raises UserError where it is NaN."""
        prepared = np.stack([self.model.prepare(picture) for picture in pictures])
        inverse_depth = np.asarray(self.model.inverse_depth(prepared))
        if not np.isfinite(inverse_depth).all():
            raise UserError(f"the network of {self.model.path} returns NaN: its weights are damaged, use another step.")
        return inverse_depth

    def prediction(
        self, inverse_depth: Float[np.ndarray, "height width"], size: tuple[int, ...], camera: Camera | None
    ) -> Prediction:
        """The prediction at an image's size (height, width) from the network's map of inverse depth.

        A network whose metres are those of a canonical camera knows metres only where the image's camera is known.
        """
        if camera is not None:
            return Prediction(
                self.model.metres_factor(camera) / resize_map(inverse_depth, size), self.model.scale, camera
            )
        scale = self.model.scale if self.model.canonical_field_of_view is None else "relative"
        return Prediction(1 / resize_map(inverse_depth, size), scale, camera)


def to_uint8(image: Array) -> UInt8[np.ndarray, "height width 3"]:
    """A caller's image as the 8-bit RGB that networks are trained on. Raises UserError where it is no such image."""
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[-1] != 3 or not array.size:
        raise UserError(f"an image must be an RGB array [height, width, 3], not one of shape {array.shape}.")
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"an image must be uint8 in 0..255 or float in [0, 1], not {array.dtype}: convert it first.")
    if not np.isfinite(array).all():
        bad = array.size - np.isfinite(array).sum()
        raise UserError(f"the image holds {bad} values that are NaN or infinite: mend or mask them first.")
    if array.min() < 0 or array.max() > 1:
        raise UserError(f"a float image must lie in [0, 1], not [{array.min():g}, {array.max():g}]: scale it first.")
    return np.round(array * 255).astype(np.uint8)


def check_camera(camera: Camera | None, size: tuple[int, ...]) -> None:
    """Raises UserError unless the camera belongs to images of this (height, width)."""
    if camera is not None and tuple(camera.size) != tuple(size):
        raise UserError(
            f"the camera is of images {camera.size[1]}x{camera.size[0]}, but this image is {size[1]}x{size[0]}: give "
            "the intrinsics for this size (robustdepth.geometry.camera.resize_camera and crop_camera convert them)."
        )


def resize_map(values: Float[np.ndarray, "height width"], size: tuple[int, ...]) -> Float[np.ndarray, "h w"]:
    """Bilinear resize with half-pixel centres, on the host: used on inverse depth, which is linear across planes."""
    return cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)

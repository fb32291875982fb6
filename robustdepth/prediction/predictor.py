"""Depth maps of images, at the images' own size: what `robustdepth.load(path)` returns."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from robustdepth.data.recordings.frames import make_clip_camera, read_camera_file
from robustdepth.errors import UserError
from robustdepth.prediction.pictures import as_picture
from robustdepth.prediction.pointcloud import camera_from_focal_length, describe_focal_length
from robustdepth.prediction.prediction import Prediction
from robustdepth.runtime.inference import DepthModel, load_model
from robustdepth.types import RELATIVE, Camera

CameraLike = Camera | str | os.PathLike | None


@dataclasses.dataclass(frozen=True, repr=False)
class Predictor:
    """Calls a trained network on images of any size.

    >>> predictor = robustdepth.load("runs/quickstart")
    >>> predictor("photo.jpg", camera="camera.json")
    Prediction(375x1242, metric, 96% within 4.9 to 61 m)
    """

    model: DepthModel

    @classmethod
    def from_checkpoint(cls, path: str | pathlib.Path, step: int | None = None) -> Predictor:
        """Loads a training's working folder or an exported folder; the newest checkpoint unless `step` is given."""
        return cls(load_model(path, step))

    def __repr__(self) -> str:
        return f"Predictor({self.model!r})"

    def __call__(self, image: Any, camera: CameraLike = None) -> Prediction:
        """Depth of one image.

        Args:
          image: a path, a PIL image, or an array, see `pictures.as_picture`.
          camera: the image's camera, or the path of a camera.json. Without one, the focal length in the image file's
            EXIF counts. Points need a camera, and so do metres of networks that learned those of a canonical camera.

        Raises UserError for anything that is no image, and for a camera of images of another size.
        """
        return self.batch([image], [camera])[0]

    def batch(self, images: Sequence[Any], cameras: Sequence[CameraLike] | None = None) -> list[Prediction]:
        """Depth of several images, which may differ in size, in one call of the network."""
        known = [as_camera(camera) for camera in cameras or [None] * len(images)]
        pictures, notes = [], [""] * len(images)
        for i, image in enumerate(images):
            picture, focal = as_picture(image)
            if known[i] is None and focal is not None:
                known[i] = by_exif = camera_from_focal_length(focal, picture.shape[:2])
                notes[i] = describe_focal_length(focal, by_exif)
            check_camera(known[i], picture.shape[:2])
            pictures.append(picture)
        found = self.inverse_depth(pictures)
        return [
            dataclasses.replace(self.prediction(inverse, picture.shape[:2], camera), image=picture, note=note)
            for inverse, picture, camera, note in zip(found, pictures, known, notes, strict=True)
        ]

    def inverse_depth(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[Float[np.ndarray, "height width"]]:
        """Inverse depth of 8-bit images of any sizes, at the network's own size. Raises UserError where it is NaN."""
        prepared = [self.model.prepare(picture)[None] for picture in pictures]
        batches = prepared if self.model.any_shape else [np.concatenate(prepared)]
        inverse_depth = [values for batch in batches for values in np.asarray(self.model.inverse_depth(batch))]
        if not all(np.isfinite(values).all() for values in inverse_depth):
            raise UserError(f"the network of {self.model.path} returns NaN: its weights are damaged, use another step.")
        return inverse_depth

    def prediction(
        self, inverse_depth: Float[np.ndarray, "height width"], size: tuple[int, ...], camera: Camera | None
    ) -> Prediction:
        """The prediction at an image's size (height, width) from the network's map of inverse depth.

        A network whose metres are those of a canonical camera knows metres only where the image's camera is known.
        """
        depth, scale = 1 / resize_map(inverse_depth, size), self.model.scale
        if camera is not None:
            depth = np.float32(self.model.metres_factor(camera)) * depth
        elif self.model.canonical_field_of_view is not None:
            scale = RELATIVE
        return Prediction(depth, scale, camera)


def as_camera(camera: Any) -> Camera | None:
    """A camera, or that of a camera.json. Raises UserError where the file cannot be read, and for anything else."""
    if camera is None or isinstance(camera, Camera):
        return camera
    if not isinstance(camera, str | os.PathLike):
        raise UserError(
            f"a camera is the path of a camera.json or a robustdepth.geometry.camera.make_camera(...), not {camera!r}."
        )
    path = pathlib.Path(camera).expanduser()
    return make_clip_camera(read_camera_file(path), path)


def check_camera(camera: Camera | None, size: tuple[int, ...], name: str = "this image") -> None:
    """Raises UserError unless the camera belongs to images of this (height, width)."""
    if camera is not None and tuple(camera.size) != tuple(size):
        raise UserError(
            f"the camera is of images {camera.size[1]}x{camera.size[0]}, but {name} is {size[1]}x{size[0]}: give "
            "the intrinsics for this size (robustdepth.geometry.camera.resize_camera and crop_camera convert them)."
        )


def resize_map(values: Float[np.ndarray, "height width"], size: tuple[int, ...]) -> Float[np.ndarray, "h w"]:
    """Bilinear resize with half-pixel centres, on the host: used on inverse depth, which is linear across planes."""
    return cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)

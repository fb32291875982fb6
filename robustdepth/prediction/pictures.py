"""What callers give as an image: a path, a PIL image, or an array of any usual kind."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from robustdepth.data.images import exif_focal_length, read_image, upright
from robustdepth.errors import UserError


def as_picture(image: Any) -> tuple[UInt8[np.ndarray, "height width 3"], float | None]:
    """The image as 8-bit RGB, and the focal length (mm, of 35 mm film) that its file names, if it is a file.

    Args:
      image: a path, a PIL image, or an array [height, width], or with 1, 3 or 4 channels (alpha is dropped): uint8,
        uint16 (its upper 8 bits count), or float in [0, 1].

    Raises:
      UserError: nothing of that kind, a file that cannot be read, values outside their range.
    """
    if isinstance(image, str | os.PathLike):
        path = os.path.expanduser(image)
        return read_image(path), exif_focal_length(path)
    if isinstance(image, Image.Image):
        try:
            return np.array(upright(image).convert("RGB")), None
        except (ValueError, OSError) as error:  # OSError: its file is only decoded now, and is damaged
            raise UserError(f"the PIL image cannot be used: {error}.") from error
    return to_uint8(np.asarray(image)), None


def to_uint8(array: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    """An array as 8-bit RGB, see `as_picture`. Raises UserError where it is no image."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or not array.size:
        raise UserError(f"an image must be an array [height, width] or [height, width, 3], not of shape {array.shape}.")
    array = np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array[..., :3]
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"an image must be uint8, uint16 or float in [0, 1], not {array.dtype}: convert it first.")
    if not np.isfinite(array).all():
        bad = array.size - np.isfinite(array).sum()
        raise UserError(f"the image holds {bad} values that are NaN or infinite: mend or mask them first.")
    if array.min() < 0 or array.max() > 1:
        raise UserError(f"a float image must lie in [0, 1], not [{array.min():g}, {array.max():g}]: scale it first.")
    return np.round(array * 255).astype(np.uint8)

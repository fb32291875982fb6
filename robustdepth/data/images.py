"""Reading images safely, and resizing them with antialiasing and half-pixel centres."""

import contextlib
import os
import pathlib
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from robustdepth.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_PIXELS = 64_000_000  # a larger image is taken for a decompression bomb

# Everything that Pillow raises for a damaged or hostile file.
_DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class BadImage(UserError):
    """An image that is missing, damaged, or of another size than its camera; the message names its path."""


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Height and width from the file's header, as the picture is meant to be seen. Raises BadImage."""
    try:
        with _open(path) as image:
            return image.height, image.width
    except _DAMAGED as error:
        raise BadImage(f"cannot read image {path}: {error}; replace or remove it.") from error


def read_image(
    file: str | os.PathLike | IO[bytes],
    size: tuple[int, int] | None = None,
    full_size: tuple[int, int] | None = None,
    name: str = "",
) -> np.ndarray:
    """Decodes an image to uint8 [height, width, 3], resized to `size` (height, width) where given; grey becomes RGB.

    Resizing is bilinear with antialiasing and half-pixel centres, so `geometry.camera.resize_camera` gives its camera.

    Raises:
      BadImage: missing, truncated, over MAX_PIXELS, over 8 bits, or not of `full_size` where that is given.
    """
    name = name or str(file)
    try:
        with _open(file) as image:
            height, width = image.height, image.width
            if full_size and full_size != (height, width):
                raise ValueError(f"it has {width}x{height} pixels, but its camera is for {full_size[1]}x{full_size[0]}")
            if size and image.format == "JPEG":
                # Decodes at 1/2, 1/4 or 1/8 where that still is at least the wanted size: several times faster.
                image.draft(image.mode, (size[1], size[0]))
            # A decoded block of 2, 4 or 8 pixels is one pixel; the last one may lie partly outside the image.
            shrink = max(1, round(width / image.width))
            pixels = image if image.mode in ("L", "RGB") else image.convert("RGB")  # grey is resized faster than RGB
            if size and size != pixels.size[::-1]:
                box = (0, 0, width / shrink, height / shrink)
                pixels = pixels.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box)
            return np.array(pixels.convert("RGB"))
    except _DAMAGED as error:
        raise BadImage(f"cannot read image {name}: {error}; replace or remove it.") from error


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image, uint8 [height, width, 3], at `size` (height, width): as `read_image` does; the same where it has it."""
    if size == image.shape[:2]:
        return image
    return np.array(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


@contextlib.contextmanager
def _open(file: str | os.PathLike | IO[bytes]) -> Iterator[Image.Image]:
    with Image.open(file) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width}x{image.height} pixels are more than the limit of {MAX_PIXELS:,}")
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"its pixels are of type {image.mode}, but images must have 8 bits per channel")
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1  # how cameras store upright pictures
        yield ImageOps.exif_transpose(image) if turned else image


def list_images(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folder's images in natural order (frame_2 before frame_10); empty where there is no such folder."""
    if not folder.is_dir():
        return []
    return natural_sort(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def natural_sort(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Sorts by name with numbers compared as numbers."""

    def key(path: pathlib.Path) -> list:
        return [int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", path.name)]

    return sorted(paths, key=key)


def numbered_images(folder: pathlib.Path) -> dict[int, pathlib.Path]:
    """The folder's images by the number that is their name (0000000012.png); PNG wins where both formats exist."""
    return {int(path.stem): path for path in list_images(folder) if path.stem.isdigit()}


def find_image(folder: pathlib.Path, stem: str) -> pathlib.Path | None:
    """The image of that name in any format; PNG where there are both."""
    paths = (folder / f"{stem}{suffix}" for suffix in reversed(SUFFIXES))
    return next((path for path in paths if path.is_file()), None)

"""What an image is, for every reader: reading images safely, resizing them with antialiasing, finding them in folders.

Training, evaluation and prediction read with `read_image` and resize with `resize_image`, so that a network sees the
same pixels in all three.
"""

import contextlib
import math
import os
import pathlib
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import IO

import numpy as np
from absl import logging
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from robustdepth.errors import BadFile, UserError

# The formats, in any case; of one image in several formats the first is read, as the lossless ones come first.
SUFFIXES = (".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp", ".jpg", ".jpeg")
FORMATS = "PNG, JPEG, WebP, BMP, PPM, PGM or TIFF"
_PILLOW = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF")  # its names; of others some start programs (EPS: Ghostscript)
MAX_PIXELS = 64_000_000  # a larger image is taken for a decompression bomb

# Pillow's readers raise whatever they run into in a damaged or hostile file, also KeyError, TypeError or struct.error.
_DAMAGED = Exception


class BadImage(BadFile):
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

    Of 16 bits per channel the upper 8 count, and transparency does not. Resizing is that of `resize_image`.

    Raises:
      BadImage: missing, truncated, over MAX_PIXELS, of 32 bits per channel, of several pictures, or not of `full_size`
        where that is given.
    """
    name = name or str(file)
    try:
        with _open(file) as image:
            height, width = image.height, image.width
            if full_size and full_size != (height, width):
                raise ValueError(f"it has {width}x{height} pixels, but its camera is for {full_size[1]}x{full_size[0]}")
            pixels = np.array(image.convert("RGB"))
    except _DAMAGED as error:
        raise BadImage(f"cannot read image {name}: {error}; replace or remove it.") from error
    return resize_image(pixels, size) if size else pixels


def exif_focal_length(path: str | os.PathLike) -> float | None:
    """The focal length in mm that the camera would have with 35 mm film, as its file says; None where it does not."""
    try:
        with Image.open(path) as image:
            value = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.FocalLengthIn35mmFilm, 0)
        return float(value) if isinstance(value, int | float) and 0 < value < math.inf else None
    except _DAMAGED:
        return None


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image, uint8 [height, width, 3], at `size` (height, width); the same where it has that.

    Resizing is bilinear with antialiasing and half-pixel centres, so `geometry.camera.resize_camera` gives its camera.
    """
    if size == image.shape[:2]:
        return image
    return np.array(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


@contextlib.contextmanager
def _open(file: str | os.PathLike | IO[bytes]) -> Iterator[Image.Image]:
    """An image whose content is of the FORMATS, whatever its name says. Raises ValueError, or what Pillow does."""
    if isinstance(file, str | os.PathLike) and os.path.exists(file) and not os.path.isfile(file):
        raise ValueError("it is no file")  # a pipe would be waited for
    try:
        opened = Image.open(file, formats=_PILLOW)
    except UnidentifiedImageError:
        raise ValueError(f"it holds no {FORMATS}") from None
    with opened as image:
        # A second picture in a JPEG is what phones add to it: a preview, or brightness.
        if (pictures := getattr(image, "n_frames", 1)) > 1 and image.format != "MPO":
            raise ValueError(f"it holds {pictures} pictures, but an image is one: give each a file, or a video")
        yield upright(image)


def upright(image: Image.Image) -> Image.Image:
    """A picture as it is meant to be seen, with 8 bits per channel. Raises ValueError where it has other values."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels are more than the limit of {MAX_PIXELS:,}")
    # Pillow itself takes the upper 8 bits of colours; it opens grey PNG and PGM as 16 bits in one of two modes.
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if not deep and image.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels are of type {image.mode}, but images must have 8 or 16 bits per channel")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # which Pillow asks for, by a warning
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1  # how cameras store upright pictures
    seen = ImageOps.exif_transpose(image) if turned else image
    return Image.fromarray((np.asarray(seen) >> 8).astype(np.uint8)) if deep else seen


def is_image(name: str) -> bool:
    """Whether a file is an image by its name; hidden files, such as macOS' "._frame.jpg", are none."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def list_images(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folder's images in natural order (frame_2 before frame_10); empty where there is no such folder.

    Of an image in several formats, frame_1.png and frame_1.jpg, the first by SUFFIXES is taken, with a warning.
    """
    if not folder.is_dir():
        return []
    best: dict[str, pathlib.Path] = {}
    others: list[tuple[pathlib.Path, pathlib.Path]] = []
    for path in natural_sort(path for path in files_in(folder) if is_image(path.name)):
        known = best.setdefault(path.stem, path)
        if known is not path:
            best[path.stem], other = sorted((known, path), key=lambda path: SUFFIXES.index(path.suffix.lower()))
            others.append((best[path.stem], other))
    if others:
        read, other = others[0]
        logging.warning(
            "%s holds %d images in several formats: %s is read, %s is not.", folder, len(others), read.name, other.name
        )
    return list(best.values())


def files_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a folder, without its subfolders, but with links to files that are gone: who reads these says so.

    Raises UserError where it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return [
                pathlib.Path(entry.path)
                for entry in entries
                if entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
            ]
    except OSError as error:
        raise UserError(f"cannot look into {folder} ({error.strerror}): give a folder that can be read.") from error


def folders_below(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """`root` and the folders below it in natural order; symbolic links are followed, hidden folders are left out.

    A folder that several links lead to is met once, so that a circle of links ends.
    """
    seen: set[str] = set()
    for path, names, _ in os.walk(root, followlinks=True):
        if (real := os.path.realpath(path)) in seen:
            names.clear()
            continue
        seen.add(real)
        names[:] = [name.name for name in natural_sort(map(pathlib.Path, names)) if not name.name.startswith(".")]
        yield pathlib.Path(path)


def natural_sort(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Sorts by name with numbers compared as numbers; 1305031102.17 is one number, as Unix times are."""
    return sorted(paths, key=lambda path: (natural_key(path.name), path.name))


def natural_key(name: str) -> list[str | Decimal]:
    """A name as text and numbers in turn."""
    parts = re.split(r"(\d{9,}\.\d+|\d+)", name.lower())
    return [Decimal(part) if i % 2 else part for i, part in enumerate(parts)]


def numbered_images(folder: pathlib.Path) -> dict[int, pathlib.Path]:
    """The folder's images by the number that is their name (0000000012.png), of several by one number the first."""
    found: dict[int, pathlib.Path] = {}
    for path in list_images(folder):
        if path.stem.isdecimal() and (known := found.setdefault(int(path.stem), path)) is not path:
            logging.warning("%s and %s in %s have one number: the first is read.", known.name, path.name, folder)
    return found


def find_image(folder: pathlib.Path, stem: str) -> pathlib.Path | None:
    """The image of that name in any format, the first by SUFFIXES where there are several."""
    names = (f"{stem}{written}" for suffix in SUFFIXES for written in (suffix, suffix.upper()))
    return next((folder / name for name in names if (folder / name).is_file()), None)

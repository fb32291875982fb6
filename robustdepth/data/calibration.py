"""KITTI's calibration files: rows "NAME: numbers", checked where they are needed."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np

from robustdepth.data.text import read_text
from robustdepth.errors import UserError
from robustdepth.geometry.camera import make_camera
from robustdepth.types import Camera

# What a row holds, by the first letter of its name: projections, rotations, translations, sizes (width, height).
SHAPES = {"P": (3, 4), "R": (3, 3), "T": (3,), "S": (2,)}
LARGEST = 1e9  # no number of a calibration is beyond
SMALLEST_FOCAL = 1e-3  # pixels
ADVICE = "unpack the recording's original file again"


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The needed rows of a file, float64, by name."""

    path: pathlib.Path
    rows: Mapping[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.rows[name]

    def camera(self, projection: str, size: tuple[int, int]) -> Camera:
        """The camera of a projection row, for images of `size` (height, width). Raises UserError."""
        matrix = self.rows[projection]
        return camera_of(f"{self.path}, row {projection}", matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], size)

    def size(self, name: str) -> tuple[int, int]:
        """Height and width of a row of sizes."""
        width, height = self.rows[name]
        return int(height), int(width)


def camera_of(where: object, fx: float, fy: float, cx: float, cy: float, size: tuple[int, int]) -> Camera:
    """`make_camera` for numbers that a file gives; the error's sentence begins with `where`. Raises UserError."""
    try:
        if not all(abs(number) < LARGEST for number in (fx, fy, cx, cy, *size)) or 0 < min(fx, fy) < SMALLEST_FOCAL:
            raise UserError(f"no camera has fx={fx}, fy={fy}, cx={cx}, cy={cy} at {size[1]}x{size[0]} pixels.")
        return make_camera(fx, fy, cx, cy, size)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def read_calibration(path: pathlib.Path, needed: Iterable[str]) -> Calibration:
    """The `needed` rows of a calibration file.

    Raises UserError where the file or a row is missing, or a row holds other numbers than such a row must; the message
    names file and line.
    """
    try:
        lines = read_text(path).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read calibration {path}: {error}; unpack it there.") from error
    found: dict[str, tuple[int, str]] = {}
    twice: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        name, colon, values = line.partition(":")
        if not colon:
            continue
        if (known := found.setdefault(name.strip(), (number, values)))[1].split() != values.split():
            twice.setdefault(name.strip(), f"calibration {path} says {name.strip()} in lines {known[0]} and {number}")
    rows = {}
    for name in needed:
        if name not in found:
            raise UserError(f"calibration {path} has no row {name}; {ADVICE}.")
        if name in twice:
            raise UserError(f"{twice[name]}, with other numbers; {ADVICE}.")
        number, values = found[name]
        rows[name] = _row(values, name, f"calibration {path} line {number}: row {name}")
    return Calibration(path, rows)


def _row(text: str, name: str, where: str) -> np.ndarray:
    shape = SHAPES[name[0]]
    try:
        values = np.array(text.split(), np.float64)
    except ValueError as error:
        raise UserError(f"{where} holds something that is no number ({error}); {ADVICE}.") from error
    if values.size != np.prod(shape):
        raise UserError(f"{where} holds {values.size} numbers, not {np.prod(shape)}; {ADVICE}.")
    if not (np.abs(values) < LARGEST).all():
        raise UserError(f"{where} holds numbers that cannot be; {ADVICE}.")
    if name[0] == "S" and not (values >= 1).all():
        raise UserError(f"{where} holds no size of an image in pixels; {ADVICE}.")
    if name[0] == "P" and not abs(np.linalg.det(values.reshape(shape)[:, :3])) > 1e-9:
        raise UserError(f"{where} is no projection of a camera; {ADVICE}.")
    return values.reshape(shape)

"""Videos of pictures, written frame by frame: nothing holds a whole film in memory."""

from __future__ import annotations

import math
import pathlib

import cv2
import numpy as np
from jaxtyping import UInt8

from robustdepth.errors import UserError
from robustdepth.paths import for_opencv

FALLBACK_RATE = 25.0  # frames per second where a file does not say
SLOWEST = 0.1  # frames per second
CODECS = {".mp4": "mp4v", ".webm": "VP80"}


class VideoWriter:
    """Writes RGB frames of one size to an .mp4 (MPEG-4) or a .webm (VP8, which browsers play).

    Raises UserError where it cannot be opened, and, when it is closed, where not every frame has come to the disk.
    """

    def __init__(self, path: pathlib.Path, rate: float, size: tuple[int, int]):
        """A `rate` of 0 is an unknown one."""
        height, width = size
        shown = writable_rate(rate or FALLBACK_RATE)
        codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
        self._path, self._count = path, 0
        self._writer = cv2.VideoWriter(for_opencv(path), codec, shown, (width, height))
        if not self._writer.isOpened():
            raise UserError(f"no video can be written to {path}: check the folder's permissions and free space.")

    def write(self, frame: UInt8[np.ndarray, "height width 3"]) -> None:
        self._count += 1
        self._writer.write(np.ascontiguousarray(frame[..., ::-1]))

    def close(self) -> None:
        self._writer.release()
        written = cv2.VideoCapture(for_opencv(self._path))  # the writer says nothing of a full disk
        found = sum(1 for _ in iter(written.grab, False))
        written.release()
        if found < self._count:
            self._path.unlink(missing_ok=True)
            raise UserError(f"the video {self._path} could not be written whole: is there free space?")


def writable_rate(rate: float) -> float:
    """The nearest rate that MPEG-4 can hold: OpenCV writes it as a decimal fraction of whole numbers below 2^16.

    Raises UserError for a rate that is not finite, which OpenCV would count up to.
    """
    if not math.isfinite(rate):
        raise UserError(f"a video cannot have {rate} frames per second.")
    for digits in (3, 2, 1, 0):
        value = round(rate, digits)
        if value * 10**digits < 2**16:
            return max(value, SLOWEST)
    return 2.0**16 - 1

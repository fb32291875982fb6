"""Videos in and out, frame by frame: nothing holds a whole film in memory."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import UInt8

from robustdepth.errors import UserError

FALLBACK_RATE = 25.0  # frames per second where a file does not say


class VideoReader:
    """Iterates over a video's frames as UInt8 RGB. Raises UserError where the file cannot be decoded (to its end)."""

    def __init__(self, path: pathlib.Path, max_pixels: int):
        self.path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise UserError(f"{path} cannot be decoded as a video: it is damaged or of a kind that OpenCV cannot read.")
        self.size = int(self._get(cv2.CAP_PROP_FRAME_HEIGHT)), int(self._get(cv2.CAP_PROP_FRAME_WIDTH))
        if self.size[0] * self.size[1] > max_pixels:
            raise UserError(
                f"{path} has frames of {self.size[1]}x{self.size[0]}, above the limit of {max_pixels} pixels."
            )
        self.rate = self._get(cv2.CAP_PROP_FPS) or FALLBACK_RATE

    def __len__(self) -> int:
        """How many frames the file's header announces."""
        return max(0, int(self._get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        count = 0
        while True:
            found, frame = self._capture.read()
            if not found:
                break
            count += 1
            yield frame[..., ::-1]
        # containers without an index only estimate their length, hence the small allowance
        if count == 0 or count < len(self) - max(1, len(self) // 100):
            raise UserError(f"{self.path} could be decoded for only {count} of its {len(self)} frames: it is damaged.")

    def _get(self, name: int) -> float:
        return self._capture.get(name)


class VideoWriter:
    """Writes RGB frames of one size to an .mp4 (MPEG-4). Raises UserError where it cannot be opened."""

    def __init__(self, path: pathlib.Path, rate: float, size: tuple[int, int]):
        height, width = size
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
        if not self._writer.isOpened():
            raise UserError(f"no video can be written to {path}: check the folder's permissions and free space.")

    def write(self, frame: UInt8[np.ndarray, "height width 3"]) -> None:
        self._writer.write(np.ascontiguousarray(frame[..., ::-1]))

    def close(self) -> None:
        self._writer.release()

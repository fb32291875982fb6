"""Videos: reading them frame by frame, and unpacking them once, because random order cannot be read exactly."""

from __future__ import annotations

import hashlib
import math
import os
import pathlib
import shutil
from collections.abc import Iterator

import cv2
import numpy as np
from absl import logging
from jaxtyping import UInt8
from tqdm import tqdm

from robustdepth.data.images import MAX_PIXELS, files_in, natural_sort
from robustdepth.errors import UserError
from robustdepth.paths import cache_folder, for_opencv

SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
MAX_WIDTH = 1280  # the networks see less than that; keeps a long video within a few gigabytes
QUALITY = 95
FASTEST = 1000.0  # frames per second; where files say more, they mean the clock of frames at any times


def list_videos(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folder's videos in natural order, without hidden files. Raises UserError where it cannot be read."""
    return natural_sort(path for path in files_in(folder) if is_video(path))


def is_video(path: pathlib.Path) -> bool:
    """Whether a file is a video by its name."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


class VideoReader:
    """Iterates over a video's frames as UInt8 RGB; `rate` is in frames per second, 0 where the file does not say."""

    def __init__(self, path: pathlib.Path):
        """Raises UserError where the file cannot be decoded, or has an impossible name, size or rate."""
        self.path = path
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is no file: give a video.")  # a pipe would be waited for
        self._capture = cv2.VideoCapture(for_opencv(path))
        if not self._capture.isOpened():
            raise UserError(
                f"{path} cannot be decoded as a video: it is damaged or of a kind that OpenCV cannot read; convert it "
                "to MP4 (H.264), or give its frames as images."
            )
        self.size = self._count(cv2.CAP_PROP_FRAME_HEIGHT), self._count(cv2.CAP_PROP_FRAME_WIDTH)
        if not 0 < self.size[0] * self.size[1] <= MAX_PIXELS:
            raise UserError(
                f"{path} has frames of {self.size[1]}x{self.size[0]}; they must have 1 to {MAX_PIXELS:,} pixels."
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        if not math.isfinite(rate):
            raise UserError(f"{path} says that it has {rate} frames per second: convert it, with its true rate.")
        self.rate = rate if 0 < rate <= FASTEST else 0.0

    def __len__(self) -> int:
        """How many frames the file's header announces."""
        return self._count(cv2.CAP_PROP_FRAME_COUNT)

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Raises UserError, after the frames that could be decoded, where the header announces more."""
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

    def close(self) -> None:
        self._capture.release()

    def _count(self, name: int) -> int:
        """A whole number of the header; 0 where it is none that can be."""
        value = self._capture.get(name)
        return int(value) if 0 < value < 2**31 else 0


def unpack(path: pathlib.Path, size: tuple[int, int]) -> tuple[pathlib.Path, float]:
    """A folder with the video's frames as JPEG at most MAX_WIDTH wide, and its frames per second (0 where unknown).

    The folder lies in the user's cache (robustdepth/videos) and is made once for a video. Of a damaged video it holds
    the frames that could be decoded, with a warning.

    Raises:
      UserError: the video cannot be decoded, or its frames are not of `size` (height, width).
    """
    video = VideoReader(path)
    try:
        if video.size != size:
            raise UserError(
                f"{path} has {video.size[1]}x{video.size[0]} pixels, but its camera.json is for {size[1]}x{size[0]}: "
                "give the intrinsics of exactly this video."
            )
        status = path.stat()
        identity = f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {MAX_WIDTH}"
        folder = cache_folder("videos") / hashlib.sha256(identity.encode()).hexdigest()[:16]
        if not folder.is_dir():
            _write_frames(video, folder)
        return folder, video.rate
    finally:
        video.close()


def _write_frames(video: VideoReader, folder: pathlib.Path) -> None:
    partial = folder.with_suffix(f".partial{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        with tqdm(total=len(video) or None, desc=f"unpacking {video.path.name}", unit="frame") as progress:
            for number, frame in enumerate(_decodable(video)):
                _write_frame(partial / f"{number:08d}.jpg", frame)
                progress.update()
        if not folder.is_dir():  # another process may have been faster
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _decodable(video: VideoReader) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """The frames before the first that is damaged, with a warning. Raises UserError where there is none."""
    count = 0
    try:
        for frame in video:
            yield frame
            count += 1
    except UserError as error:
        if not count:
            raise
        logging.warning("%s These %d are used.", error, count)


def _write_frame(path: pathlib.Path, frame: UInt8[np.ndarray, "height width 3"]) -> None:
    if frame.shape[1] > MAX_WIDTH:
        height = round(frame.shape[0] * MAX_WIDTH / frame.shape[1])
        frame = cv2.resize(frame, (MAX_WIDTH, height), interpolation=cv2.INTER_AREA)
    if not cv2.imwrite(for_opencv(path), np.ascontiguousarray(frame[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]):
        raise UserError(f"cannot write {path}: no space? Set XDG_CACHE_HOME to a larger disk.")

"""What a prediction run reads: images, folders of images, and videos, one frame at a time."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

from jaxtyping import UInt8
from numpy import ndarray

from robustdepth.data.images import MAX_PIXELS, list_images, natural_sort, read_image
from robustdepth.data.video import SUFFIXES as VIDEO_SUFFIXES
from robustdepth.errors import UserError
from robustdepth.prediction.video import VideoReader


@dataclasses.dataclass(frozen=True)
class InputImage:
    """One picture to predict."""

    name: str  # of its results, without ending
    image: UInt8[ndarray, "height width 3"]
    video: str = ""  # name of the video it comes from
    rate: float = 0.0  # that video's frames per second


@dataclasses.dataclass(frozen=True)
class Input:
    """An image or a video on disk; `name` begins the names of its results."""

    path: pathlib.Path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEO_SUFFIXES

    def count(self) -> int:
        """How many frames it holds, for the progress bar; 0 for a video that cannot be opened."""
        try:
            return len(VideoReader(self.path, MAX_PIXELS)) if self.is_video else 1
        except UserError:
            return 0

    def frames(self) -> Iterator[InputImage]:
        """Its frames in order. Raises UserError where it is damaged, after the frames that could be read."""
        if self.is_video:
            video = VideoReader(self.path, MAX_PIXELS)
            for i, image in enumerate(video):
                yield InputImage(f"{self.name}/{i:06d}", image, self.name, video.rate)
        else:
            yield InputImage(self.name, read_image(self.path))


def find_inputs(paths: Sequence[str]) -> tuple[list[Input], list[str]]:
    """The images and videos that the paths name or hold, and one sentence for every path that names none.

    Raises UserError where there is nothing to read at all, or where results of two inputs would bear one name.
    """
    found: dict[pathlib.Path, Input] = {}  # an image that is named twice is read once
    problems = []
    for path in map(pathlib.Path, paths):
        files = _list_folder(path) if path.is_dir() else [path] if path.exists() else []
        found |= {file: Input(file) for file in files}
        if not files:
            problem = "holds neither images nor videos" if path.is_dir() else "does not exist"
            problems.append(f"{path} {problem}: give images, folders of images, or videos.")
    if not found:
        raise UserError(problems[0] if problems else "nothing to predict: give images, folders of images, or videos.")
    by_name: dict[str, Input] = {}
    for entry in found.values():
        other = by_name.setdefault(entry.name, entry)
        if other is not entry:
            raise UserError(f"{other.path} and {entry.path} would write the same results: predict them separately.")
    return list(found.values()), problems


def _list_folder(folder: pathlib.Path) -> list[pathlib.Path]:
    return list_images(folder) + natural_sort(p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)

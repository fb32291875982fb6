"""What a prediction run reads: images, folders of images, and videos, one frame at a time."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

from absl import logging
from jaxtyping import UInt8
from numpy import ndarray

from robustdepth.data.images import FORMATS, exif_focal_length, list_images, read_image
from robustdepth.data.predicted import COLOR, DEPTH, SIDE
from robustdepth.data.video import VideoReader, is_video, list_videos
from robustdepth.errors import UserError

LONGEST_NAME = 255 - len("_surface.glb")  # bytes; file systems know no longer ones with the longest of the endings


@dataclasses.dataclass(frozen=True)
class InputImage:
    """One picture to predict."""

    name: str  # of its results, without ending
    image: UInt8[ndarray, "height width 3"]
    video: str = ""  # name of the video it comes from
    rate: float = 0.0  # that video's frames per second, 0 where unknown
    focal: float | None = None  # from EXIF, see exif_focal_length


@dataclasses.dataclass(frozen=True)
class Input:
    """An image or a video on disk; `name` begins the names of its results."""

    path: pathlib.Path
    name: str

    @property
    def is_video(self) -> bool:
        return is_video(self.path)

    def count(self) -> int:
        """How many frames it holds, for the progress bar; 0 for a video that cannot be opened."""
        try:
            return len(VideoReader(self.path)) if self.is_video else 1
        except UserError:
            return 0

    def frames(self) -> Iterator[InputImage]:
        """Its frames in order. Raises UserError where it is damaged, after the frames that could be read."""
        if self.is_video:
            video = VideoReader(self.path)
            for i, image in enumerate(video):
                yield InputImage(f"{self.name}/{i:06d}", image, self.name, video.rate)
        else:
            yield InputImage(self.name, read_image(self.path), focal=exif_focal_length(self.path))


def find_inputs(paths: Sequence[str], output: str) -> tuple[list[Input], list[str]]:
    """The images and videos that the paths name or hold, and one sentence for every path that names none.

    Results of an earlier run into the folder `output` are no inputs.

    Raises UserError where there is nothing to read at all.
    """
    found: dict[pathlib.Path, None] = {}  # in order; an image that is named twice is read once
    problems = []
    for path in map(pathlib.Path, paths):
        files = list_images(path) + list_videos(path) if path.is_dir() else [path] if path.is_file() else []
        found |= dict.fromkeys(files)
        if not files:
            problem = "is no file" if path.exists() else "does not exist"
            problem = "holds neither images nor videos" if path.is_dir() else problem
            problems.append(f"{path} {problem}: give images ({FORMATS}), folders of images, or videos.")
    if not found:
        raise UserError(problems[0] if problems else "nothing to predict: give images, folders of images, or videos.")
    files = _without_results(list(found), pathlib.Path(output).resolve())
    if left_out := len(found) - len(files):
        logging.warning("%d pictures in %s are results of an earlier run: they are not predicted.", left_out, output)
    inputs = [Input(path, name) for path, name in zip(files, _names(files), strict=True)]
    named = [entry for entry in inputs if len(os.fsencode(pathlib.Path(entry.name).name)) <= LONGEST_NAME]
    problems += [
        f"{entry.path} has too long a name for its results: shorten it to {LONGEST_NAME} bytes without ending."
        for entry in inputs
        if entry not in named
    ]
    if not named:
        raise UserError(problems[-1])
    return named, problems


def _without_results(files: Sequence[pathlib.Path], output: pathlib.Path) -> list[pathlib.Path]:
    """The files but for a_depth.png, a_color.png, a_side.jpg below `output` whose image or video "a" is among them."""
    stems = {file.with_suffix("") for file in files}

    def is_result(stem: pathlib.Path) -> bool:
        names = [stem.name.removesuffix(ending) for ending in (DEPTH, COLOR, SIDE) if stem.name.endswith(ending)]
        bases = {stem.with_name(name) for name in names if name} & stems
        return any(not is_result(base) for base in bases)  # results have no results

    return [
        file for file in files if not (is_result(file.with_suffix("")) and file.parent.resolve().is_relative_to(output))
    ]


def _names(files: Sequence[pathlib.Path]) -> list[str]:
    """What results are called: as their files, without suffix.

    Where two would have one name, all keep the folders that they lie in, from their common one on; the suffix stays
    where that is not enough. An image and a video may have one name, since their results have not.
    """
    names = [file.stem for file in files]
    if len(files) == len(set(_unlike(names, files))):
        return names
    common = os.path.commonpath([file.absolute().parent for file in files])
    places = [file.absolute().relative_to(common) for file in files]
    names = [place.with_suffix("").as_posix() for place in places]
    counts = collections.Counter(_unlike(names, files))
    return [
        name if counts[key] == 1 else place.as_posix()
        for name, key, place in zip(names, _unlike(names, files), places, strict=True)
    ]


def _unlike(names: Sequence[str], files: Sequence[pathlib.Path]) -> list[tuple[str, bool]]:
    return [(name, is_video(file)) for name, file in zip(names, files, strict=True)]

"""The one shape of every recording: frames with cameras, and the pairing of targets with source views."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from robustdepth.data.images import BadImage, read_image
from robustdepth.data.text import read_text
from robustdepth.errors import UserError, nearest
from robustdepth.registry import Registry
from robustdepth.types import NEXT, PREVIOUS, STEREO, Camera

OTHER_SIDE = {"l": "r", "r": "l"}

Key = tuple[str, int, str]  # clip, number, side
_SPLIT_LINE = re.compile(r'\s*(?:"([^"]+)"|([^\s"](?:.*?\S)?))\s+([0-9]{1,19})(?:\s+([lr]))?\s*')


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a recording."""

    clip: str  # drive, sequence or folder
    number: int  # of its file, by which split files call it
    side: str  # "l" (or the only camera) or "r"
    image: pathlib.Path | int  # a file, or the record of a packed dataset
    camera: Camera  # unbatched, at the image's full size
    baseline: float = 0.0  # x of the rig's other camera in this camera's frame, metres; 0 for a single camera
    velocity: float = 0.0  # metres per second; 0 where unknown
    time: float = 0.0  # seconds
    place: int = -1  # in the clip: neighbours in time differ by one, gaps are missing frames; -1: the number

    def __post_init__(self):
        if self.place < 0:
            object.__setattr__(self, "place", self.number)

    @property
    def key(self) -> Key:
        return self.clip, self.number, self.side

    @property
    def file(self) -> pathlib.Path:
        """Where the image lies. Raises BadImage for a frame that is a record of a packed dataset."""
        if isinstance(self.image, int):
            raise BadImage(f"{self.name} is record {self.image} of a packed dataset, no file.")
        return self.image

    @property
    def name(self) -> str:
        """As in split files: "folder frame l|r"."""
        return f"{self.clip} {self.number:010d} {self.side}"


@dataclasses.dataclass(frozen=True)
class Recording:
    """Frames and how to read them: `read(frame, size)` returns uint8 [height, width, 3], or raises BadImage."""

    frames: Sequence[Frame]
    read: Callable[[Frame, tuple[int, int]], np.ndarray]
    targets: Sequence[Key] = ()  # the split that the recording itself brings along; empty: all frames


COMMANDS = ("check", "check_dataset", "evaluation", "corrupt", "proxies", "bench")  # others of `prepare`
# What `config.data.name` may be: config.data -> recording. Raises UserError where there is none, or not all of it.
RECORDINGS: Registry[Callable[[ConfigDict], Recording]] = Registry("recording", taken=("none", *COMMANDS))


def read_file(frame: Frame, size: tuple[int, int]) -> np.ndarray:
    """`Recording.read` for frames that are image files. Raises BadImage."""
    return read_image(frame.file, size, frame.camera.size)


class Views(NamedTuple):
    """A target and its source views, None where the recording lacks one."""

    target: Frame
    sources: tuple[Frame | None, ...]


def pair_views(recording: Recording, data: ConfigDict) -> list[Views]:
    """Finds the source views `data.views` of every target; targets without any are left out.

    Targets are the frames of `data.split`, or of the split that the recording brings along; without any split all left
    frames, and the right ones too where "stereo" is on.

    Raises:
      UserError: no target has a view, or the split names more than `data.max_bad_images` frames that are not there.
    """
    table = {frame.key: frame for frame in recording.frames}
    in_time = {(frame.clip, frame.place, frame.side): frame for frame in recording.frames}
    if data.split:
        targets = _split_targets(table, data)
    elif recording.targets:
        targets = [table[key] for key in recording.targets]
    else:
        sides = ("l", "r") if STEREO in data.views else ("l",)
        targets = [frame for frame in table.values() if frame.side in sides]
    offsets = {PREVIOUS: -data.frame_step, NEXT: data.frame_step}

    def source(target: Frame, view: str) -> Frame | None:
        if view == STEREO:
            return table.get((target.clip, target.number, OTHER_SIDE[target.side])) if target.baseline else None
        return in_time.get((target.clip, target.place + offsets[view], target.side))

    views = [Views(target, tuple(source(target, view) for view in data.views)) for target in targets]
    views = [pair for pair in views if any(pair.sources)]
    if not views:
        raise UserError(
            f"no frame under {data.root} has any of the views {', '.join(data.views)} (frame_step={data.frame_step}): "
            "check data.root, data.views and data.sequences."
        )
    return views


def _split_targets(table: Mapping[Key, Frame], data: ConfigDict) -> list[Frame]:
    keys = read_split(data.split)
    missing = [key for key in keys if key not in table]
    if len(missing) > data.max_bad_images:
        clip, number, side = missing[0]
        raise UserError(
            f"{len(missing)} of the {len(keys)} frames in {data.split} are not under {data.root}, first "
            f"'{clip} {number} {side}': download them, or take them out of the split file."
        )
    for clip, number, side in missing:
        logging.warning("frame '%s %d %s' of %s is not under %s: left out", clip, number, side, data.split, data.root)
    return [table[key] for key in keys if key in table]


def read_split(path: str | pathlib.Path) -> list[Key]:
    """Lines "folder frame l|r" of a split file; without a side the left camera is meant.

    The frame is its file's number. A folder's name may hold blanks, and may stand in double quotes.

    Raises UserError with the line's number.
    """
    try:
        lines = read_text(path).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read split file {path}: {error}; give lines 'folder frame l|r'.") from error
    keys = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found = _SPLIT_LINE.fullmatch(line)
        parts = [part for part in (found[1] or found[2]).split("/") if part not in ("", ".")] if found else []
        if not found or not parts or ".." in parts:
            raise UserError(
                f"{path} line {number} is '{line}', expected 'folder frame l|r', of a folder within that of the data."
            )
        keys.append(("/".join(parts), int(found[3]), found[4] or "l"))
    if len(once := dict.fromkeys(keys)) < len(keys):
        logging.warning("%s names %d frames more than once: each counts once.", path, len(keys) - len(once))
    if not keys:
        raise UserError(f"split file {path} is empty; give lines 'folder frame l|r'.")
    return list(once)


def select(found: Sequence[str], wanted: Sequence[str], what: str, root: pathlib.Path) -> list[str]:
    """The clips named in `wanted`, or all. A clip is named in full, by its last folder, or by its drive's number.

    Raises UserError for an empty recording or an unknown name.
    """
    if not found:
        raise UserError(f"no {what} found under {root}; data.root must be the folder that holds them.")
    chosen: list[str] = []
    for name in wanted:
        matches = [clip for clip in found if name in (clip, clip.split("/")[-1]) or f"_drive_{name}_" in clip]
        if not matches:
            raise UserError(f"{what} '{name}' is not under {root}; {nearest(name, found)}")
        chosen.extend(match for match in matches if match not in chosen)
    return chosen if wanted else list(found)

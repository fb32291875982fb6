"""Matches the pairs of a recording and writes the answers as proxies; an interrupted run can be continued."""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from robustdepth.data.images import BadImage
from robustdepth.data.pack import MAX_BAD_IMAGES, options
from robustdepth.data.recordings.clips import Frame, Recording, pair_views
from robustdepth.data.source import open_recording
from robustdepth.data.stereo.pair_check import check_pair
from robustdepth.data.stereo.proxies import METADATA, decode, encode, proxy_path, read_metadata, read_numbers, rig_of
from robustdepth.data.stereo.sgm import Answer
from robustdepth.errors import UserError
from robustdepth.types import STEREO

# Left and right image to the answers of both views, each in its own pixels.
Match = Callable[[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width 3"]], tuple[Answer, Answer]]


@dataclasses.dataclass(frozen=True)
class Method:
    """How disparities are found."""

    identity: Mapping[str, Any]  # into metadata.json; a folder of another one is refused
    matcher: Callable[[tuple[int, int]], Match]  # for images of this height and width
    parallel: bool  # whether threads may match several pairs at once


class Pair(NamedTuple):
    """The two frames of one moment."""

    left: Frame
    right: Frame


def stereo_pairs(name: str, root: str, split: str = "", sequences: Sequence[str] = ()) -> tuple[Recording, list[Pair]]:
    """A recording and its pairs; with a split those of which it names a view.

    Raises:
      UserError: as `open_recording` does, or there is no pair at all.
    """
    data = options(name, root, split, sequences)
    data.views = (STEREO,)
    recording = open_recording(data)
    if not any(frame.side == "r" and frame.baseline for frame in recording.frames):
        raise UserError(
            f"{root} has no stereo pairs: the right images, the baseline or its sign are missing (image_03 of KITTI "
            'raw; image_1 or image_3 of a sequence; of your own footage the folder right/ and "baseline" in '
            "camera.json)."
        )
    pairs = {}
    for target, (source,) in pair_views(recording, data):
        if source is None:
            continue
        left, right = (target, source) if target.side == "l" else (source, target)
        pairs[left.clip, left.number] = Pair(left, right)
    return recording, [pairs[key] for key in sorted(pairs)]


def write_proxies(
    recording: Recording,
    pairs: Sequence[Pair],
    folder: str | os.PathLike,
    method: Method,
    size: tuple[int, int] | None = None,
) -> str:
    """Writes the proxies of both views of `pairs`; returns what was done.

    The same call continues an interrupted one: files appear once they are whole, and those that are there are kept.

    Args:
      size: height and width at which pairs are matched; None: their own.

    Raises:
      UserError: a pair is not rectified or swapped (the first of every clip is looked at), too many images cannot be
        read, or the folder holds something else or cannot be written.
    """
    folder = pathlib.Path(folder)
    identity = _identity(pairs, method, size)
    finished = _claim(folder, identity)
    todo = [pair for pair in pairs if not all(proxy_path(folder, frame).is_file() for frame in pair)]
    if finished and not todo:
        return f"{folder} already holds the proxies of {len(pairs)} pairs; nothing to do."
    work = _Work(recording, folder, method, size)
    work.check_first_pairs(pairs)
    with (
        concurrent.futures.ThreadPoolExecutor(None if method.parallel else 1) as pool,
        tqdm(total=len(pairs), initial=len(pairs) - len(todo), desc="proxies", unit="pair") as progress,
    ):
        try:
            for error in pool.map(work.do, todo):
                work.count_bad(error)
                progress.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        known, failed, files = np.sum([*pool.map(work.shares, (frame for pair in pairs for frame in pair))], axis=0)
    if not files:
        raise UserError(f"none of the {len(pairs)} pairs can be read: replace their images.")
    counts = {"files": int(files), "known": round(known / files, 6), "failed": round(failed / max(known, 1e-9), 6)}
    _write(folder / METADATA, json.dumps(identity | counts, indent=1).encode())
    return (
        f"{folder} holds the disparities of {counts['files']} images: {counts['known']:.1%} of their pixels are known, "
        f"of those {counts['failed']:.1%} fail the left/right check."
    )


def _identity(pairs: Sequence[Pair], method: Method, size: tuple[int, int] | None) -> dict[str, Any]:
    """What metadata.json says from the start on: the method, and of every clip what a frame must agree with."""
    clips: dict[str, dict] = {}
    for left, _ in pairs:
        camera = left.camera
        known = clips.setdefault(left.clip, {"size": list(size or camera.size), "pairs": 0, **rig_of(left)})
        known["pairs"] += 1
    return {"method": dict(method.identity), "clips": clips}


def _claim(folder: pathlib.Path, identity: dict[str, Any]) -> bool:
    """Makes the folder this preparation's, or checks that it is; returns whether it is finished."""
    path = folder / METADATA
    try:
        if not path.is_file():
            if folder.exists() and any(folder.iterdir()):
                raise UserError(f"{folder} is not empty and holds no proxies: choose another --output.")
            folder.mkdir(parents=True, exist_ok=True)
            _write(path, json.dumps(identity, indent=1).encode())
            return False
    except OSError as error:
        raise UserError(f"cannot write proxies into {folder} ({error.strerror}): choose another --output.") from error
    found = read_metadata(folder)
    for name, wanted in identity.items():
        if found.get(name) != wanted:
            there, here = (value.items() if isinstance(value, dict) else () for value in (found.get(name), wanted))
            differing = next((key for key, value in here if (key, value) not in there), name)
            raise UserError(
                f"{folder} holds proxies of another preparation ({name} differs, at {differing}): choose another "
                "--output, or delete that folder."
            )
    return "files" in found


def _write(path: pathlib.Path, content: bytes | np.ndarray) -> None:
    part = path.with_suffix(".part")  # renamed when whole, so that a killed run leaves no half file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            part.write_bytes(content)
        else:
            Image.fromarray(content).save(part, "PNG")
        part.rename(path)
    except OSError as error:
        raise UserError(f"cannot write {part}: {error}; make room, then run the same command again.") from error


@dataclasses.dataclass
class _Work:
    """Matches pairs and keeps the answers."""

    recording: Recording
    folder: pathlib.Path
    method: Method
    size: tuple[int, int] | None
    bad: int = 0  # pairs that could not be read

    def read(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        size = self.size or pair.left.camera.size
        return self.recording.read(pair.left, size), self.recording.read(pair.right, size)

    def check_first_pairs(self, pairs: Sequence[Pair]) -> None:
        first = {pair.left.clip: pair for pair in reversed(pairs)}
        for clip, pair in first.items():
            try:
                left, right = self.read(pair)
                check_pair(left, right, f"'{clip} {pair.left.number}'")
            except BadImage:
                continue  # counted where it is matched

    def do(self, pair: Pair) -> BadImage | None:
        """Returns the error of a pair that cannot be read."""
        try:
            left, right = self.read(pair)
        except BadImage as error:
            return error
        match = self.method.matcher((left.shape[0], left.shape[1]))
        for frame, answer in zip(pair, match(left, right), strict=True):
            _write(proxy_path(self.folder, frame), encode(*answer))
        return None

    def count_bad(self, error: BadImage | None) -> None:
        if error is None:
            return
        self.bad += 1
        logging.warning("%s Its pair gets no proxies.", error)
        if self.bad > MAX_BAD_IMAGES:
            raise UserError(f"more than {MAX_BAD_IMAGES} images cannot be read, the last: {error}") from error

    def shares(self, frame: Frame) -> tuple[float, float, int]:
        """Shares of known and of failing pixels in a proxy, and 1; zeros for one that could not be made."""
        path = proxy_path(self.folder, frame)
        if not path.is_file():
            return 0.0, 0.0, 0
        disparity, failed = decode(read_numbers(path, self.size or frame.camera.size))
        return float(np.mean(disparity > 0)), float(np.mean(failed)), 1

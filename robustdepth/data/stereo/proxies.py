"""Proxies: disparities that a stereo method found in a recording's pairs, kept beside its frames.

FOLDER/CLIP/SIDE/NUMBER.png holds the disparity of one frame as a 16-bit PNG as in KITTI: 256 times the disparity in
pixels, 0 where unknown. The lowest bit says that the pixel fails the left/right check (docs/proxies.md).
FOLDER/metadata.json says what made them, from what. `teachers.proxy_writer` writes them.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt16

from robustdepth.data.images import BadImage
from robustdepth.data.lidar import read_png16
from robustdepth.data.recordings.clips import Frame
from robustdepth.data.stereo.sgm import Answer
from robustdepth.errors import UserError

METADATA = "metadata.json"
COMMAND = "`python -m robustdepth.prepare proxies`"
UNIT = 128  # steps in a pixel: 256 as in KITTI, but for the lowest bit
LARGEST = (2**15 - 1) / UNIT  # disparity in pixels
SAME = 1e-3  # relative difference of cameras from which on they are different ones


def encode(disparity: Float[np.ndarray, "height width"], failed: Bool[np.ndarray, "height width"]) -> np.ndarray:
    """The numbers of a proxy's PNG, uint16: 2 round(128 disparity) + failed; 0 where the disparity is.

    Raises:
      UserError: a disparity is not finite, or beyond `LARGEST`.
    """
    check_range(disparity)
    steps = np.maximum(np.rint(disparity * UNIT), 1)  # what is known stays so
    return np.where(disparity > 0, 2 * steps + failed, 0).astype(np.uint16)


def check_range(disparity: Float[np.ndarray, "*shape"]) -> None:
    """Raises UserError where a disparity is not finite, or beyond `LARGEST`."""
    if not (np.all(np.isfinite(disparity)) and np.max(disparity) <= LARGEST):
        raise UserError(
            f"a disparity of {np.max(disparity):.1f} pixels is beyond the range of a proxy, {LARGEST:.1f} pixels: "
            "match smaller images (--height, --width)."
        )


def decode(values: UInt16[np.ndarray, "height width"]) -> Answer:
    """The inverse of `encode`, to 1/256 pixel."""
    steps = values >> 1
    return steps.astype(np.float32) / UNIT, (values & 1).astype(bool) & (steps > 0)


def proxy_path(folder: pathlib.Path, frame: Frame) -> pathlib.Path:
    """Where a frame's proxy lies."""
    return folder / frame.clip / frame.side / f"{frame.number:010d}.png"


def rig_of(frame: Frame) -> dict[str, float]:
    """What no resizing of a frame changes."""
    return {
        "focal": round(float(frame.camera.focal[0]) / frame.camera.size[1], 6),  # of the width
        "baseline": round(abs(frame.baseline), 6),  # metres
    }


def read_metadata(folder: pathlib.Path) -> dict[str, Any]:
    """What metadata.json says. Raises UserError where it is damaged."""
    try:
        found = json.loads((folder / METADATA).read_text())
        if not isinstance(found, dict) or not isinstance(found.get("clips"), dict):
            raise ValueError("it describes no proxies")
        return found
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {folder / METADATA}: {error}; delete {folder}, then run {COMMAND}.") from error


def read_numbers(path: pathlib.Path, size: tuple[int, int]) -> np.ndarray:
    """The numbers of a proxy's PNG. Raises UserError where it is damaged or not of this size."""
    return read_png16(path, size, "proxy").astype(np.uint16)


class Proxies:
    """The proxies of a folder by frame; threads may share it."""

    def __init__(self, folder: pathlib.Path, clips: Mapping[str, Mapping[str, Any]]):
        self._folder, self._clips = folder, clips

    def read(self, frame: Frame, size: tuple[int, int]) -> Answer:
        """Disparity in pixels of an image of `size` (height, width), 0 where unknown, and where it fails its check.

        The nearest stored pixel answers; its disparity shrinks or grows with the width.

        Raises:
          BadImage: the frame has no proxy, or its file is damaged or of another size than the folder's others.
          UserError: the folder's proxies are of another recording.
        """
        clip = self._clips.get(frame.clip)
        if clip is None:
            raise UserError(f"{self._folder} has no proxies of '{frame.clip}', {self._remedy}")
        for name, value in rig_of(frame).items():
            if abs(value - clip[name]) > SAME * clip[name]:
                raise UserError(
                    f"the proxies of '{frame.clip}' in {self._folder} are of another recording (its {name} is "
                    f"{clip[name]:.4f}, not {value:.4f}), {self._remedy}"
                )
        path = proxy_path(self._folder, frame)
        if not path.is_file():
            raise BadImage(f"{self._folder} has no proxy of '{frame.name}': run {COMMAND} (again).")
        stored = tuple(clip["size"])
        try:
            disparity, failed = decode(read_numbers(path, (stored[0], stored[1])))
        except UserError as error:
            raise BadImage(f"{error} Delete it and run {COMMAND} again.") from error
        rows, columns = (
            ((np.arange(wanted) + 0.5) * (length / wanted)).astype(np.intp)
            for wanted, length in zip(size, stored, strict=True)
        )
        chosen = np.ix_(rows, columns)
        return disparity[chosen] * np.float32(size[1] / stored[1]), failed[chosen]

    @property
    def _remedy(self) -> str:
        return f"but of {', '.join(self._clips)}; write them with {COMMAND}."


def open_proxies(folder: str | os.PathLike) -> Proxies:
    """The proxies that `python -m robustdepth.prepare proxies` wrote into `folder`.

    Raises:
      UserError: there are none, or they are not finished.
    """
    folder = pathlib.Path(folder)
    if not (folder / METADATA).is_file():
        raise UserError(f"no proxies in {folder}: write them with {COMMAND} --output={folder}.")
    metadata = read_metadata(folder)
    if "files" not in metadata:
        raise UserError(f"the proxies in {folder} are not finished: run {COMMAND} again, it goes on.")
    return Proxies(folder, metadata["clips"])

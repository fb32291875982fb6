"""The files of a prediction run: depth as PNG and NPZ, colour maps, videos of them, points, surfaces, and a summary."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from tqdm import tqdm

from robustdepth.data.predicted import COLOR, DEPTH, SIDE, SUMMARY
from robustdepth.errors import UserError, nearest
from robustdepth.imaging.colormap import ColorRange, colorize
from robustdepth.prediction.inputs import InputImage
from robustdepth.prediction.mesh import EDGE, import_trimesh
from robustdepth.prediction.prediction import Prediction, largest_depth, png_factor, write_depth_png, write_picture
from robustdepth.prediction.predictor import resize_map
from robustdepth.prediction.video import VideoWriter
from robustdepth.types import METRIC

KINDS = ("png", "npz", "color", "side", "ply", "glb")
USUAL = ("png", "npz", "color")
WIDE = 2.0  # width over height from which picture and colours stand above each other


@dataclasses.dataclass(frozen=True)
class Results:
    """What is written for every frame."""

    kinds: tuple[str, ...] = USUAL
    thin: int = 1  # points and surfaces take every how many rows and columns
    edge: float = EDGE  # jumps of depth at which they are cut, see mesh.on_surface

    def check(self) -> None:
        """Raises UserError for an unknown kind, a number out of range, or a library that is not installed."""
        for kind in self.kinds:
            if kind not in KINDS:
                raise UserError(f"--outputs={kind} is unknown: {nearest(kind, KINDS)}")
        if self.thin < 1:
            raise UserError(f"--thin={self.thin} must be 1 or more.")
        if not self.edge >= 0:
            raise UserError(f"--edge={self.edge:g} must not be negative: 0 cuts nothing.")
        if "glb" in self.kinds:
            import_trimesh()

    @property
    def need_camera(self) -> bool:
        """Whether some of it has proportions in space."""
        return not {"ply", "glb"}.isdisjoint(self.kinds)


@dataclasses.dataclass(frozen=True)
class _Frame:
    """What is known of a frame whose maps wait in the temporary file."""

    name: str
    video: str
    rate: float
    size: tuple[int, ...]
    factor: float  # of depth over the network's


class ResultWriter:
    """Writes every frame's results as they come, and the others in `finish`; use as a context manager.

    Colours wait for the last frame because all of them share one range, and so do 16-bit PNGs of relative depth, which
    share one factor. Meanwhile the network's small maps lie in a temporary file, so memory does not grow with a video's
    length.
    """

    def __init__(self, folder: pathlib.Path, results: Results, scale: str, overwrite: bool):
        """Raises UserError for a folder with results in it (unless `overwrite`) or a read-only one."""
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise UserError(f"{folder} already holds files: give another --output, or --overwrite to write over them.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, closed by __exit__
        except OSError as error:
            raise UserError(f"cannot write in {folder} ({error.strerror}): give another --output.") from None
        self.folder, self.results, self.kinds, self.scale = folder, results, results.kinds, scale
        self._waiting: list[_Frame] = []
        self._samples: list[np.ndarray] = []
        self._largest = 0.0
        self._png_waits = "png" in self.kinds and scale != METRIC

    def write(
        self, frame: InputImage, prediction: Prediction, inverse_depth: Float[np.ndarray, "height width"], factor: float
    ) -> None:
        """Writes one frame's results.

        Args:
          frame: the picture.
          prediction: of it.
          inverse_depth: the network's own map.
          factor: of the prediction's depth over the network's.
        """
        (self.folder / frame.name).parent.mkdir(parents=True, exist_ok=True)
        if "png" in self.kinds and not self._png_waits:
            write_depth_png(self._path(frame.name, f"{DEPTH}.png"), prediction.depth, png_factor(self.scale, 1.0))
        if "npz" in self.kinds:
            np.savez_compressed(self._path(frame.name, f"{DEPTH}.npz"), **prediction.arrays())
        pictured = dataclasses.replace(prediction, image=frame.image)
        for kind, ending in (("ply", "_points.ply"), ("glb", "_surface.glb")):
            if kind in self.kinds:
                pictured.save(self._path(frame.name, ending), thin=self.results.thin, edge=self.results.edge)
        if self._png_waits or self._colors:
            self._keep(frame, inverse_depth, factor)
            self._largest = max(self._largest, largest_depth(self.scale, prediction.depth))

    @property
    def _colors(self) -> bool:
        return not {"color", "side"}.isdisjoint(self.kinds)

    def _keep(self, frame: InputImage, inverse_depth: Float[np.ndarray, "height width"], factor: float) -> None:
        np.save(self._spool, inverse_depth if self._png_waits else inverse_depth.astype(np.float16))
        if "side" in self.kinds:
            np.save(self._spool, cv2.imencode(".jpg", frame.image[..., ::-1])[1])
        self._waiting.append(_Frame(frame.name, frame.video, frame.rate, frame.image.shape[:2], factor))
        self._samples.append(inverse_depth[::4, ::4].astype(np.float16).ravel())

    def finish(self, summary: dict[str, Any]) -> None:
        """Writes what waited, the videos, and `summary` with the factor of the PNGs and the range of the colours."""
        factor = png_factor(self.scale, self._largest or 1.0)
        if "png" in self.kinds:
            summary = summary | {"png_values_per_unit": factor}
        if self._waiting:
            shown = ColorRange.of(np.concatenate(self._samples).astype(np.float32))
            if self._colors:
                ends = {"brightest_at_depth": 1 / shown.near, "darkest_at_depth": 1 / shown.far}
                summary = summary | {"colors": ends}
            self._write_waiting(shown, factor)
        (self.folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(self, *_) -> None:
        self._spool.close()

    def _write_waiting(self, shown: ColorRange, png_factor: float) -> None:
        films = _Films(self.folder)
        for frame, inverse_depth, image in self._read_spool():
            full = resize_map(inverse_depth, frame.size)
            if self._png_waits:
                depth = np.float32(frame.factor) / full
                write_depth_png(self._path(frame.name, f"{DEPTH}.png"), depth, png_factor)
            colors = colorize(full, shown)
            if "color" in self.kinds:
                write_picture(self._path(frame.name, f"{COLOR}.png"), colors[..., ::-1])
                films.write(frame, COLOR, colors)
            if image is not None:
                both = side_by_side(image, colors)
                if frame.video:
                    films.write(frame, SIDE, both)
                else:
                    write_picture(self._path(frame.name, f"{SIDE}.jpg"), both[..., ::-1])
        films.close()

    def _read_spool(self) -> Iterator[tuple[_Frame, Float[np.ndarray, "height width"], np.ndarray | None]]:
        self._spool.seek(0)
        for frame in tqdm(self._waiting, desc="pictures", unit="image"):
            inverse_depth, image = np.load(self._spool).astype(np.float32), None
            if "side" in self.kinds:
                image = np.asarray(cv2.imdecode(np.load(self._spool), cv2.IMREAD_COLOR))[..., ::-1]
            yield frame, inverse_depth, image

    def _path(self, name: str, ending: str) -> pathlib.Path:
        return self.folder / f"{name}{ending}"


class _Films:
    """Films of the video whose frames come now; each ends where another video's frames begin."""

    def __init__(self, folder: pathlib.Path):
        self._folder, self._video = folder, ""
        self._open: dict[str, VideoWriter] = {}

    def write(self, frame: _Frame, ending: str, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        """Adds a picture to the film of its video with this ending; pictures of no video are left out."""
        if frame.video != self._video:
            self.close()
            self._video = frame.video
        if not frame.video:
            return
        if ending not in self._open:
            path = self._folder / f"{frame.video}{ending}.mp4"
            self._open[ending] = VideoWriter(path, frame.rate, picture.shape[:2])
        self._open[ending].write(picture)

    def close(self) -> None:
        for film in self._open.values():
            film.close()
        self._open = {}


def side_by_side(
    image: UInt8[np.ndarray, "height width 3"], colors: UInt8[np.ndarray, "height width 3"]
) -> UInt8[np.ndarray, "_ _ 3"]:
    """The picture on the left and its depth on the right; of wide pictures the one above the other."""
    height, width = image.shape[:2]
    return np.concatenate([image, colors], axis=0 if width >= WIDE * height else 1)

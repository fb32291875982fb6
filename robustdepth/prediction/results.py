"""The files of a prediction run: depth as PNG and NPZ, colour maps, videos of them, point clouds, and a summary."""

from __future__ import annotations

import json
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from robustdepth.data.predicted import COLOR, DEPTH, SUMMARY
from robustdepth.errors import UserError, nearest
from robustdepth.imaging.colormap import ColorRange, colorize
from robustdepth.prediction.inputs import InputImage
from robustdepth.prediction.pointcloud import write_ply
from robustdepth.prediction.prediction import Prediction, encode_depth, write_picture
from robustdepth.prediction.predictor import resize_map
from robustdepth.prediction.video import VideoWriter

KINDS = ("png", "npz", "color", "ply")


class ResultWriter:
    """Writes every frame's results as they come, and the colour maps in `finish`; use as a context manager.

    Colours wait for the last frame because all of them share one range; meanwhile the network's small maps lie in a
    temporary file, so memory does not grow with a video's length.
    """

    def __init__(self, folder: pathlib.Path, kinds: tuple[str, ...], overwrite: bool):
        """Raises UserError for an unknown kind, a folder with results in it (unless `overwrite`) or a read-only one."""
        for kind in kinds:
            if kind not in KINDS:
                raise UserError(f"--outputs={kind} is unknown: {nearest(kind, KINDS)}")
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise UserError(f"{folder} already holds files: give another --output, or --overwrite to write over them.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, closed by __exit__
        except OSError as error:
            raise UserError(f"cannot write in {folder} ({error.strerror}): give another --output.") from None
        self.folder, self.kinds = folder, kinds
        self._spooled: list[tuple[str, str, float, tuple[int, ...]]] = []  # name, video, rate, size
        self._samples: list[np.ndarray] = []

    def write(
        self, frame: InputImage, prediction: Prediction, inverse_depth: Float[np.ndarray, "height width"]
    ) -> None:
        """Writes one frame's results; `inverse_depth` is the network's own map of the same frame."""
        (self.folder / frame.name).parent.mkdir(parents=True, exist_ok=True)
        if "png" in self.kinds:
            write_picture(self._path(frame.name, f"{DEPTH}.png"), encode_depth(prediction.depth))
        if "npz" in self.kinds:
            np.savez_compressed(self._path(frame.name, f"{DEPTH}.npz"), **prediction.arrays())
        if "ply" in self.kinds:
            write_ply(self._path(frame.name, "_points.ply"), prediction.points(), frame.image)
        if "color" in self.kinds:
            np.save(self._spool, inverse_depth.astype(np.float16))
            self._spooled.append((frame.name, frame.video, frame.rate, prediction.depth.shape))
            self._samples.append(inverse_depth[::4, ::4].astype(np.float16).ravel())

    def finish(self, summary: dict[str, Any]) -> None:
        """Writes the colour maps, the videos made of them, and `summary` with the range of the colours."""
        if self._samples:
            shown = ColorRange.of(np.concatenate(self._samples).astype(np.float32))
            summary = summary | {"colors": {"brightest_at_depth": 1 / shown.near, "darkest_at_depth": 1 / shown.far}}
            self._write_colors(shown)
        (self.folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(self, *_) -> None:
        self._spool.close()

    def _write_colors(self, shown: ColorRange) -> None:
        writer, current = None, ""
        for name, video, rate, size, inverse_depth in self._read_spool():
            picture = colorize(resize_map(inverse_depth, size), shown)
            write_picture(self._path(name, f"{COLOR}.png"), picture[..., ::-1])
            if video != current:
                if writer:
                    writer.close()
                writer = VideoWriter(self._path(video, f"{COLOR}.mp4"), rate, picture.shape[:2]) if video else None
                current = video
            if writer:
                writer.write(picture)
        if writer:
            writer.close()

    def _read_spool(self) -> Iterator[tuple[str, str, float, tuple[int, ...], Float[np.ndarray, "height width"]]]:
        self._spool.seek(0)
        for entry in tqdm(self._spooled, desc="colours", unit="image"):
            yield *entry, np.load(self._spool).astype(np.float32)

    def _path(self, name: str, ending: str) -> pathlib.Path:
        return self.folder / f"{name}{ending}"

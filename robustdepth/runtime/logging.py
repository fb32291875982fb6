"""What a run tells: console lines for people, metrics.jsonl for programs, TensorBoard for both.

The method names are those of `clu.metric_writers`, whose module imports TensorFlow; this writer does not.
"""

import json
import math
import pathlib
from collections.abc import Mapping

import numpy as np
from tensorboardX import SummaryWriter

from robustdepth.runtime.files import replacing

METRICS_FILE = "metrics.jsonl"


class MetricWriter:
    """Scalars to WORKDIR/metrics.jsonl and WORKDIR/tensorboard, images to TensorBoard."""

    def __init__(self, workdir: pathlib.Path, first_step: int):
        """Opens the logs; lines at or after `first_step`, left by a killed run, are dropped: none appears twice."""
        self._path = workdir / METRICS_FILE
        if self._path.exists():
            keep_steps(self._path, first_step)
        self._lines = self._path.open("a")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """One line of JSON, and one TensorBoard point per scalar."""
        values = {name: float(value) for name, value in scalars.items()}
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Images as UInt8 [height, width, 3]."""
        for name, image in images.items():
            self._board.add_image(name, image, step, dataformats="HWC")

    def flush(self) -> None:
        """Everything written so far is on disk when this returns."""
        self._lines.flush()
        self._board.flush()

    def close(self) -> None:
        """Flushes and closes both logs."""
        self._lines.close()
        self._board.close()


def keep_steps(log: pathlib.Path, before: int | float = math.inf) -> list[int]:
    """Takes out of a log of JSON lines the step `before`, all later ones, and lines cut off by a kill.

    Returns the steps that are left, in the file's order.
    """
    kept = [line for line in log.read_text(errors="replace").splitlines() if _step_of(line) < before]
    with replacing(log) as path:
        path.write_text("".join(line + "\n" for line in kept))
    return [int(_step_of(line)) for line in kept]


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf  # cut off by a kill


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"

"""Means over a logging period, speed, time left, and whether the data keep up."""

import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from PIL import Image

from robustdepth.imaging.colormap import ColorRange, colorize
from robustdepth.runtime.logging import duration
from robustdepth.training.step import StepLog

SHOWN = ("accuracy", "depth_spread", "auto_mask", "translation")  # after the loss and its terms


class Progress:
    """Collects the logs of the steps since the last report; `losses` are the terms that the console shows."""

    def __init__(self, first_step: int, last_step: int, batch_size: int, losses: Sequence[str] = ()):
        self._shown = ("loss", *losses, *SHOWN)
        self._last_step, self._batch_size = last_step, batch_size
        self._compiling = True
        self._reset(first_step, 0.0)

    def _reset(self, step: int, seconds_waited: float) -> None:
        self._since, self._step, self._waited = time.perf_counter(), step, seconds_waited
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}

    def add(self, log: StepLog) -> dict[str, float]:
        """Adds one step's terms (skipped steps do not enter the means) and returns their values."""
        terms = jax.device_get(log.terms)
        if bool(log.ok):
            for name, (value, count) in terms.items():
                self._sums[name] = self._sums.get(name, 0.0) + float(value) * float(count)
                self._counts[name] = self._counts.get(name, 0.0) + float(count)
        return {name: float(term.value) for name, term in terms.items()}

    def leave_out(self, seconds: float) -> None:
        """Takes time that was not spent on training out of the period's speed."""
        self._since += seconds

    def report(self, step: int, seconds_waited: float) -> tuple[dict[str, float], str]:
        """The period's means and speed as scalars and as a console line; starts the next period.

        The first report comes after one step, whose time is that of compiling: it says so instead of a speed.

        Args:
          step: updates done.
          seconds_waited: what the devices have waited for recordings since the run began.
        """
        seconds = max(time.perf_counter() - self._since, 1e-9)
        rate = (step - self._step) / seconds
        scalars = {name: self._sums[name] / max(self._counts[name], 1e-9) for name in self._sums}
        shown = "  ".join(f"{name} {scalars[name]:z.4f}" for name in self._shown if name in scalars)
        line = f"step {step}/{self._last_step}  {shown}"
        if self._compiling:
            line += f"  first step after {seconds:.0f} s"
        else:
            waiting = (seconds_waited - self._waited) / seconds
            scalars |= {"images_per_second": rate * self._batch_size, "waiting_for_data": waiting}
            left = duration((self._last_step - step) / max(rate, 1e-9))
            line += f"  {scalars['images_per_second']:.1f} images/s  {left} left"
            if waiting > 0.2:
                line += f"  input-bound: {waiting:.0%} of the time waits for data"
        self._compiling = False
        self._reset(step, seconds_waited)
        return scalars, line


def result_picture(shown: Mapping[str, np.ndarray]) -> Image.Image | None:
    """What a depth network sees beside its depth (near is bright); None for trainings of other networks.

    Args:
      shown: what `panels` gives.
    """
    if not {"target", "disparity"} <= shown.keys():
        return None
    disparity, (height, width) = shown["disparity"][..., 0].astype(np.float32), shown["target"].shape[:2]
    depth = Image.fromarray(colorize(disparity, ColorRange.of(disparity))).resize((width, height))
    return Image.fromarray(np.concatenate([shown["target"], np.asarray(depth)], axis=1))


def panels(log: StepLog) -> dict[str, np.ndarray]:
    """Target, rebuilt target, disparity and error of this process's first sample as UInt8 [height, width, 3]."""
    shown = {}
    for name, images in log.images.items():
        image = np.asarray(images.addressable_shards[0].data[0], np.float32)
        if image.ndim == 2:
            image = np.repeat((image / max(float(image.max()), 1e-9))[..., None], 3, axis=-1)
        shown[name] = (np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
    return shown

"""Measuring several things in turns, so that what else the machine does meets all alike."""

import time
from collections.abc import Callable, Mapping

import numpy as np


def median_seconds(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median duration of each run, by name; every one runs twice before, to compile and to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(), run()
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def rows_of_steps(seconds: Mapping[str, float], inference: Mapping[str, str]) -> list[dict]:
    """A table of training steps; the first one is the base.

    Args:
      inference: the program of the depth network as it is used after each kind of training.
    """
    base = next(iter(seconds))
    return [
        {
            "step": name,
            "seconds": round(seconds[name], 3),
            "times_base": round(seconds[name] / seconds[base], 3),
            "inference_is_that_of_base": inference[name] == inference[base],
        }
        for name in seconds
    ]

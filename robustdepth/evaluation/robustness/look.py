"""A network shown corrupted images, with the time that each part takes."""

import dataclasses
import time
from collections.abc import Sequence

import jax
import numpy as np

from robustdepth.conditions.corruptions.benchmark import corrupt, corruption_keys
from robustdepth.evaluation.predictors import NetworkPredictor
from robustdepth.types import Array


@dataclasses.dataclass(frozen=True)
class Timing:
    """Where the time of a measurement went; the rest of `seconds` is reading and scoring."""

    seconds: float
    compile_seconds: float  # with one unused run of every corruption at every size of image
    corruption_seconds: float
    network_seconds: float

    @property
    def corruption_share(self) -> float:
        """Of the time in which the devices corrupted or predicted."""
        return self.corruption_seconds / (self.corruption_seconds + self.network_seconds)


class Look:
    """Shows a network corrupted images, and keeps the time that each part took."""

    def __init__(self, predictor: NetworkPredictor):
        self.predictor = predictor
        self._compiled: set[tuple[str, tuple[int, ...]]] = set()
        self._compiling = self._corrupting = self._predicting = 0.0

    def __call__(self, images: Array, name: str, severity: int, numbers: Sequence[int]) -> np.ndarray:
        """Inverse depth of images on the devices, each corrupted by the seed that is its number."""
        begun = time.perf_counter()
        keys = corruption_keys(name, severity, numbers)
        if (name, images.shape) not in self._compiled:  # run once for nothing, so that measured times mean something
            jax.block_until_ready(self.predictor.infer_full_size(corrupt(images, name, severity, keys)))
            self._compiled.add((name, images.shape))
            self._compiling += time.perf_counter() - begun
            begun = time.perf_counter()
        corrupted = jax.block_until_ready(corrupt(images, name, severity, keys))
        corrupted_at = time.perf_counter()
        predictions = self.predictor.infer_full_size(corrupted)
        self._predicting += time.perf_counter() - corrupted_at
        self._corrupting += corrupted_at - begun
        return predictions

    def timing(self, seconds: float) -> Timing:
        """Where `seconds` went."""
        return Timing(seconds, self._compiling, self._corrupting, self._predicting)

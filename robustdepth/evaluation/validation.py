"""Networks judged while they are trained: by the code of `evaluate`, and with its numbers."""

from __future__ import annotations

import dataclasses
import pathlib

from ml_collections import ConfigDict

from robustdepth.errors import UserError, nearest
from robustdepth.evaluation.baselines import find_median_map
from robustdepth.evaluation.evaluator import evaluate
from robustdepth.evaluation.metrics import DEPTH_METRICS, HIGHER_IS_BETTER
from robustdepth.evaluation.predictors import NetworkPredictor
from robustdepth.evaluation.protocols import PROTOCOLS, Protocol
from robustdepth.evaluation.samples import Samples, protocol_samples
from robustdepth.runtime.best import Validation, best_file
from robustdepth.runtime.checkpoint import Weights
from robustdepth.runtime.inference import model_of
from robustdepth.runtime.workdir import MEDIAN_FILE
from robustdepth.types import EvalSample


def open_validation(config: ConfigDict, workdir: pathlib.Path) -> Validation:
    """The protocol of config.validate with its frames, for the networks of a run.

    Raises:
      UserError: no such metric, or the protocol's frames are not there.
    """
    own, protocol = config.validate, PROTOCOLS.find(config.validate.protocol)
    known = (*DEPTH_METRICS, *(("boundary_f1",) if protocol.outlines else ()))
    if own.metric not in known:
        raise UserError(
            f'config.validate.metric="{own.metric}": {protocol.name} has no such; {nearest(own.metric, known)}'
        )
    samples = _open_frames(protocol, config)
    median_map, _ = find_median_map(str(workdir / MEDIAN_FILE), None)

    def judge(weights: Weights) -> dict[str, float]:
        predictor = NetworkPredictor(model_of(weights, str(best_file(workdir).parent)))
        return evaluate(protocol, samples, predictor, median_map, bar=False).metrics

    return Validation(judge, own.metric in HIGHER_IS_BETTER)


def _open_frames(protocol: Protocol, config: ConfigDict) -> Samples:
    own = config.validate
    if own.count and protocol.truth == "world":  # others would be rendered in vain
        protocol = dataclasses.replace(protocol, count=min(own.count, protocol.count or own.count))
    size = tuple(config.image_size)
    samples = protocol_samples(protocol, data_root=own.data_root, split=own.split, size=size)
    return Some(samples, own.count) if 0 < own.count < len(samples) else samples


class Some:
    """`count` of the samples, at even distances: recordings show one street for long."""

    def __init__(self, samples: Samples, count: int):
        self._samples, self._count = samples, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> EvalSample:
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._samples[index * len(self._samples) // self._count]

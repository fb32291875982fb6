"""Validation while training: what the networks of a step reach under a protocol, and the best ones kept."""

import math
import pathlib
import time

import jax
from absl import logging
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.runtime import distributed
from robustdepth.runtime.best import Best, OpenValidation, Validation, best_file, keep_best, read_best
from robustdepth.runtime.checkpoint import Weights
from robustdepth.runtime.choices import NO_PROTOCOL
from robustdepth.types import TrainState


class Validator:
    """Judges networks as config.validate says; does nothing where it names no protocol.

    The networks are those that a checkpoint of the step gives. What is known of the best ones lies beside them, so a
    run that is killed at any moment ends with the same best networks as an undisturbed one. All processes judge, each
    on its share of the frames; process 0 alone keeps networks.
    """

    def __init__(self, config: ConfigDict, workdir: pathlib.Path, open_validation: OpenValidation | None):
        """Raises UserError for frames that are not there, or best networks that were chosen by something else."""
        self._config, self._workdir = config, workdir
        self._own = config.validate
        self._validation: Validation | None = None
        self._best: Best | None = None
        self.seconds = 0.0  # that judging has taken
        if not self.on:
            return
        if open_validation is None:
            raise UserError("config.validate needs robustdepth.evaluation: give train(..., open_validation=...).")
        self._best = read_best(workdir)
        if self._best is not None and not self._best.comparable(config):
            raise UserError(
                f"{best_file(workdir)} was chosen by {self._best.metric} on config.validate.count={self._best.count} "
                f"frames of {self._best.protocol}, and config.validate names {self._own.metric}, {self._own.count} and "
                f"{self._own.protocol}: move it away, or give the values from there."
            )
        self._validation = open_validation(config, workdir)

    @property
    def on(self) -> bool:
        """Whether the config wants validation."""
        return self._own.protocol != NO_PROTOCOL

    def due(self, step: int) -> bool:
        """Whether the networks of a step are to be judged."""
        return self.on and (step % self._own.every == 0 or step == self._config.optimizer.steps)

    def run(self, state: TrainState, step: int) -> dict[str, float]:
        """Judges the networks of a step, and keeps them where they are the best; called by all processes.

        Returns:
          The metrics by their names in the logs. None where a frame cannot be read: training goes on.

        Raises:
          UserError: the best networks cannot be written.
        """
        began = time.perf_counter()
        averaged = state.ema or {"params": state.params, "stats": state.stats}
        host = jax.device_get(distributed.collect(averaged))
        weights = Weights(self._config, host["params"], host["stats"], step)
        metrics = distributed.together(lambda: self._judge(weights))
        self.seconds += time.perf_counter() - began
        return {f"validation/{name}": value for name, value in metrics.items()}

    def _judge(self, weights: Weights) -> dict[str, float]:
        if self._validation is None:
            return {}
        try:
            metrics = self._validation.judge(weights)
        except UserError as error:
            logging.warning("step %d is not validated: %s", weights.step, error)
            return {}
        if distributed.is_first():
            self._keep_if_best(weights, metrics)
        return metrics

    def _keep_if_best(self, weights: Weights, metrics: dict[str, float]) -> None:
        own = self._own
        new = Best(own.protocol, own.metric, own.count, metrics[own.metric], weights.step)
        if self._is_better(new):
            keep_best(weights, new, self._workdir)
            self._best, news = new, f"the best so far, kept in {best_file(self._workdir).parent}"
        else:
            assert self._best is not None  # else this one would be the best
            news = f"the best is {self._best.value:.4f} at step {self._best.step}"
        print(f"validation at step {weights.step}: {own.metric} {new.value:.4f} on {own.protocol}; {news}", flush=True)

    def _is_better(self, new: Best) -> bool:
        if self._best is None or math.isnan(self._best.value):
            return True
        assert self._validation is not None
        higher = self._validation.higher_is_better
        return new.value > self._best.value if higher else new.value < self._best.value

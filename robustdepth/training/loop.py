"""The training loop: restore, step, log, save; killed at any moment, the same command goes on where it was."""

import contextlib
import pathlib
import signal
import time
from collections.abc import Iterator

import jax
import numpy as np
from absl import logging
from clu.parameter_overview import get_parameter_overview
from ml_collections import ConfigDict

from robustdepth.data.median import median_depth_map
from robustdepth.data.stream import Stream, train_stream
from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime import sharding
from robustdepth.runtime.checkpoint import Checkpointer
from robustdepth.runtime.logging import MetricWriter, duration
from robustdepth.runtime.workdir import Workdir
from robustdepth.training import health
from robustdepth.training.progress import Progress, panels
from robustdepth.training.setup import Experiment, build
from robustdepth.training.step import StepLog
from robustdepth.types import Batch, TrainState

MEDIAN_FILE = "train_median.npz"
PARAMETERS_FILE = "parameters.txt"


def train(config: ConfigDict, path: str | pathlib.Path) -> None:
    """Trains an experiment in its workdir from the newest checkpoint, or from the start, to its last step.

    Raises:
      UserError: anything the user can mend, in one sentence.
    """
    began = time.monotonic()
    configs.check(config)
    with Workdir(path, config) as workdir:
        if workdir.finished:
            print(f"{workdir.path} has been trained to its last step; nothing to do.")
            return
        mesh = sharding.make_mesh(config.sharding.axis)
        experiment = build(config, mesh)
        stream = train_stream(config, expert_cache=experiment.expert_cache)
        save_median(config, workdir.path)
        with contextlib.closing(Checkpointer(workdir.path, config.checkpoint.keep)) as checkpointer:
            state = start(experiment, stream, checkpointer, workdir.path)
            loop = _Loop(config, workdir, mesh, experiment, stream, checkpointer)
            with memory_errors_explained(config):
                step = loop.run(state)
        if step == config.optimizer.steps:
            workdir.finish(step)
            print(f"trained to step {step}; this process took {duration(time.monotonic() - began)}")
        else:
            print(f"stopped by SIGTERM; saved at step {step}: the same command goes on from there")


@contextlib.contextmanager
def memory_errors_explained(config: ConfigDict) -> Iterator[None]:
    """Turns a device's "out of memory" into a sentence that says what to lower."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        height, width = config.image_size
        raise UserError(
            f"no memory for a batch of {config.batch_size} images of {height}x{width}: lower config.batch_size or "
            "config.image_size, or use more devices."
        ) from error


def start(experiment: Experiment, stream: Stream, checkpointer: Checkpointer, workdir: pathlib.Path) -> TrainState:
    """The newest checkpoint's state, with the data stream set to its position; else a new state, listed in a file."""
    restored = checkpointer.restore(experiment.template)
    if restored is None:
        state = experiment.initial_state()
        for name, tree in state.params.items():
            millions = sum(leaf.size for leaf in jax.tree.leaves(tree)) / 1e6
            print(f"{name} network: {millions:.2f} million parameters")
        (workdir / PARAMETERS_FILE).write_text(get_parameter_overview(state.params) + "\n")
        return state
    state, position = restored
    stream.set_state(position)
    print(f"going on from the checkpoint of step {int(state.step)}")
    return state


def save_median(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Keeps the training set's median depth map, the trivial baseline that evaluation shows beside the model."""
    if (workdir / MEDIAN_FILE).exists():
        return
    depth, origin = median_depth_map(config, tuple(config.image_size))
    np.savez_compressed(workdir / MEDIAN_FILE, depth=depth, origin=origin)


class _Loop:
    def __init__(self, config, workdir, mesh, experiment, stream, checkpointer):
        self.config: ConfigDict = config
        self.workdir: Workdir = workdir
        self.mesh = mesh
        self.experiment: Experiment = experiment
        self.stream: Stream = stream
        self.checkpointer: Checkpointer = checkpointer
        self.stop = False  # set by SIGTERM

    def run(self, state: TrainState) -> int:
        """Runs to the last step, or to SIGTERM; returns the step reached, whose checkpoint is being written."""
        before = signal.signal(signal.SIGTERM, self._on_sigterm)
        first, last = int(state.step), self.config.optimizer.steps
        self.writer = MetricWriter(self.workdir.path, first_step=first + 1)
        self.progress = Progress(first, last, self.config.batch_size)
        try:
            return int(self._steps(state, first, last).step)
        finally:
            self.writer.close()
            signal.signal(signal.SIGTERM, before)

    def _on_sigterm(self, *_) -> None:
        self.stop = True

    def _steps(self, state: TrainState, first: int, last: int) -> TrainState:
        pending: tuple[int, StepLog, Batch] | None = None
        for step in range(first + 1, last + 1):  # `step` counts the updates done once this one is
            batch = sharding.put_batch(next(self.stream), self.mesh)
            position = self.stream.get_state()
            state, log = self.experiment.step(state, batch)
            if pending is not None:  # read one step late, so that the devices never wait for the host
                self._after(*pending)
            pending = (step, log, batch)
            ends = step == last or self.stop
            if ends or step % self.config.log.every == 0 or step == first + 1:
                self._after(*pending)
                pending = None
                self._report(step, log)
            if ends or step % self.config.checkpoint.every == 0:
                self.checkpointer.save(state, position, step)
            if self.stop:
                break
        return state

    def _after(self, step: int, log: StepLog, batch: Batch) -> None:
        values = self.progress.add(log)
        if not bool(log.ok):
            path = health.save_bad_batch(batch, step, self.workdir.path)
            logging.warning("step %d was not finite and is skipped; its batch is kept in %s", step, path)
            limit = self.config.health.max_skipped_in_row
            health.stop_if_hopeless(int(log.skipped_in_row), step, values, path, limit)

    def _report(self, step: int, log: StepLog) -> None:
        scalars, line = self.progress.report(step, self.stream.seconds_waited)
        scalars["bad_images"] = self.stream.bad_images
        print(line, flush=True)
        if step >= self.config.log.every:  # an untrained network predicts one depth, and that is right
            for alarm in health.alarms(scalars, self.config):
                logging.warning("%s", alarm)
        self.writer.write_scalars(step, scalars)
        if step % self.config.log.images_every == 0 or step == self.config.optimizer.steps:
            self.writer.write_images(step, panels(log))
        self.writer.flush()

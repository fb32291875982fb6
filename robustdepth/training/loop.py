"""The training loop: restore, step, log, save; killed at any moment, the same command goes on where it was.

In a job of several processes all of them run it, each on its share of every batch; process 0 alone writes, but for the
checkpoints, which all write together.
"""

import contextlib
import dataclasses
import pathlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from clu.parameter_overview import get_parameter_overview
from jax.sharding import Mesh
from ml_collections import ConfigDict

from robustdepth.data.median import median_depth_map
from robustdepth.data.stream import Stream, train_stream
from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime import distributed, sharding
from robustdepth.runtime.best import OpenValidation
from robustdepth.runtime.changes import accepted_keys
from robustdepth.runtime.checkpoint import Checkpointer
from robustdepth.runtime.files import replacing
from robustdepth.runtime.length import settled
from robustdepth.runtime.logging import MetricWriter, duration
from robustdepth.runtime.workdir import MEDIAN_FILE, PARAMETERS_FILE, Workdir
from robustdepth.training import health
from robustdepth.training.extending import change_run
from robustdepth.training.optimizer import learning_rate
from robustdepth.training.profiling import Profiler, parse_steps
from robustdepth.training.progress import Progress, panels, result_picture
from robustdepth.training.restarts import CollapsedError, Trial
from robustdepth.training.setup import Experiment, agreed, build
from robustdepth.training.step import StepLog
from robustdepth.training.validation import Validator
from robustdepth.types import Batch, TrainState

PROFILE_FOLDER = "profile"
RESULT_FILE = "result.png"


def train(
    config: ConfigDict,
    path: str | pathlib.Path,
    profile_steps: str = "",
    change: Sequence[str] = (),
    open_validation: OpenValidation | None = None,
) -> bool:
    """Trains an experiment in its workdir from its newest checkpoint to the last step; False: SIGTERM asked to stop.

    Args:
      profile_steps: "FIRST:LAST", steps to profile; "": none.
      change: keys of `runtime.changes.CHANGEABLE` that a run which has begun takes from `config`.
      open_validation: `evaluation.validation.open_validation`, where config.validate names a protocol.

    Raises:
      UserError: anything the user can mend, in one sentence.
    """
    began = time.monotonic()
    config = distributed.together(lambda: configs.at_home(config))
    distributed.together(lambda: configs.check(config))
    accepted = distributed.together(partial(accepted_keys, change, config))
    config = distributed.together(partial(settled, config))
    distributed.check_same_everywhere(config)
    profiled = parse_steps(profile_steps, config.optimizer.steps)
    with distributed.together(lambda: Workdir(path, config, accepted)) as workdir:
        distributed.together(workdir.check_shared)
        if distributed.gather(workdir.finished)[0]:
            print(f"{workdir.path} has been trained to its last step; nothing to do.")
            return True
        mesh = sharding.make_mesh(config.sharding.axis)
        sharding.check_divides(config.batch_size, mesh.size, config.optimizer.accumulate)
        distributed.together(lambda: save_median(config, workdir.path))
        validator = distributed.together(lambda: Validator(config, workdir.path, open_validation))
        with Checkpointer(workdir.path, config.checkpoint.keep) as checkpointer, memory_errors_explained(config):
            step, stopped = run_trials(config, workdir, mesh, checkpointer, profiled, validator)
        if step == config.optimizer.steps:
            workdir.finish(step)
            print(f"trained to step {step}; this process took {duration(time.monotonic() - began)}")
        else:
            print(f"stopped by SIGTERM; saved at step {step}: the same command goes on from there")
    return not stopped


def run_trials(
    config: ConfigDict,
    workdir: Workdir,
    mesh: Mesh,
    checkpointer: Checkpointer,
    profiled: range,
    validator: Validator,
) -> tuple[int, bool]:
    """Trains from the newest checkpoint, and anew where depth collapses; returns what `_Loop.run` does.

    Raises:
      UserError: anything the user can mend; or the config allows no more restarts.
    """
    experiment = agreed(build, config, mesh)
    restored = checkpointer.restore(experiment.template)
    trial = Trial() if restored is None else Trial.at(restored[1])
    shown = [name for name, weight in config.loss.items() if weight]
    while True:
        own = trial.config(config)
        if trial.restarts:
            experiment = agreed(build, own, mesh)
        mine = jax.process_index(), jax.process_count()
        stream = distributed.together(partial(train_stream, own, *mine, experiment.expert_cache))
        state = start(experiment, stream, restored, workdir.path)
        if restored is not None:
            distributed.together(partial(change_run, workdir, config, trial, restored[1]))
        profiler = Profiler(profiled, workdir.path / PROFILE_FOLDER)
        progress = Progress(int(state.step), own.optimizer.steps, own.batch_size, shown)
        parts = mesh, experiment, stream, checkpointer, profiler, progress, validator
        try:
            return _Loop(own, workdir, *parts, trial).run(state)
        except CollapsedError as error:
            stream.close()
            trial, restored = trial.again(error, config), None
            checkpointer.begin_again()


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


def start(
    experiment: Experiment, stream: Stream, restored: tuple[TrainState, dict[str, Any]] | None, workdir: pathlib.Path
) -> TrainState:
    """A checkpoint's state, with the data stream set to its position; else a new state, listed in a file."""
    if restored is None:
        state = experiment.initial_state()
        for name, tree in state.params.items():
            millions = sum(leaf.size for leaf in jax.tree.leaves(tree)) / 1e6
            print(f"{name} network: {millions:.2f} million parameters")
        params = distributed.collect(state.params)
        if distributed.is_first():
            (workdir / PARAMETERS_FILE).write_text(get_parameter_overview(params) + "\n")
        return state
    state, position = restored
    stream.set_state(position)
    print(f"going on from the checkpoint of step {int(state.step)}")
    return state


def save_median(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Keeps the training set's median depth map, the trivial baseline that evaluation shows beside the model."""
    if not distributed.is_first() or (workdir / MEDIAN_FILE).exists():
        return
    depth, origin = median_depth_map(config, tuple(config.image_size))
    with replacing(workdir / MEDIAN_FILE) as path:
        np.savez_compressed(path, depth=depth, origin=origin)


class _Done(NamedTuple):
    """A step that runs, or has run, on the devices, and what it was given."""

    step: int
    log: StepLog
    batch: Batch


@dataclasses.dataclass
class _Loop:
    config: ConfigDict
    workdir: Workdir
    mesh: Mesh
    experiment: Experiment
    stream: Stream
    checkpointer: Checkpointer
    profiler: Profiler
    progress: Progress
    validator: Validator
    trial: Trial = dataclasses.field(default_factory=Trial)
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)  # SIGTERM has come
    writer: MetricWriter | None = None  # of process 0
    seconds_idle: float = 0.0  # in which the devices may have waited for recordings to be read
    alarmed: set[str] = dataclasses.field(default_factory=set)  # quantities that looked wrong in the last period

    def run(self, state: TrainState) -> tuple[int, bool]:
        """Runs to the last step, or to SIGTERM; returns the step, now being saved, and whether SIGTERM has come."""
        first, last = int(state.step), self.config.optimizer.steps
        with contextlib.ExitStack() as stack:
            if jax.process_count() == 1:  # else JAX waits for SIGTERM and tells the other processes
                before = signal.signal(signal.SIGTERM, lambda *_: self.stop.set())
                stack.callback(signal.signal, signal.SIGTERM, before)
            if distributed.is_first():
                self.writer = stack.enter_context(contextlib.closing(MetricWriter(self.workdir.path, first + 1)))
            stack.callback(self.profiler.close)
            return int(self._steps(state, first, last).step), self.stop.is_set()

    def _stops(self, step: int) -> bool:
        return self.stop.is_set() if jax.process_count() == 1 else distributed.stop_agreed(step)

    def _steps(self, state: TrainState, first: int, last: int) -> TrainState:
        pending: _Done | None = None
        for step in range(first + 1, last + 1):  # `step` counts the updates done once this one is
            batch = sharding.put_batch(self._next(pending), self.mesh, self.stream.world_count)
            position = self.stream.get_state()
            if step == first + 1:
                print("compiling the training step: one to two minutes", flush=True)
                self._meet_compiled(state, batch)
            state, log = self.profiler.run(step, self.experiment.step, state, batch)
            if pending is not None:  # read one step late, so that the devices never wait for the host
                self._after(pending)
            pending = _Done(step, log, batch)
            stops = self._stops(step)
            ends, judged = step == last or stops, self.validator.due(step)
            if ends or judged or step % self.config.log.every == 0 or step == first + 1:
                values = self._after(pending)
                pending = None
                self._report(step, log, self._validate(state, step) if judged else {})
                if step == last or step % self.config.log.every == 0:  # whatever this run went on from
                    self.trial = self.trial.look(values, step, self.config)
            if ends or step % self.config.checkpoint.every == 0:
                self.checkpointer.save(state, position | self.trial.position(), step)
            if stops:
                self.stop.set()
                break
        return state

    def _next(self, running: _Done | None) -> Batch:
        """The next batch; counts what the devices may have waited for it, having ended the running step meanwhile."""
        before = self.stream.seconds_waited
        batch = next(self.stream)
        if running is None or running.log.ok.is_ready():
            self.seconds_idle += self.stream.seconds_waited - before
        return batch

    def _meet_compiled(self, state: TrainState, batch: Batch) -> None:
        """Several processes compile the step first and then meet, so that all start it together.

        Compiling takes some of them minutes and others seconds, if they find the program in their cache.
        """
        lower = getattr(self.experiment.step, "lower", None)
        if jax.process_count() > 1 and lower is not None:
            lower(state, batch).compile()
        distributed.meet()

    def _after(self, done: _Done) -> dict[str, float]:
        values = self.progress.add(done.log)
        if not bool(done.log.ok):
            path = self._keep_bad(distributed.collect(done.batch), done.step)
            logging.warning("step %d was not finite and is skipped; its batch is kept in %s", done.step, path)
            limit = self.config.health.max_skipped_in_row
            health.stop_if_hopeless(int(done.log.skipped_in_row), done.step, values, path, limit)
        return values

    def _keep_bad(self, batch: Batch, step: int) -> pathlib.Path:
        kept = health.save_bad_batch(batch, step, self.workdir.path) if distributed.is_first() else None
        return pathlib.Path(distributed.gather(str(kept))[0])

    def _validate(self, state: TrainState, step: int) -> dict[str, float]:
        before = self.validator.seconds
        metrics = self.validator.run(state, step)
        self.progress.leave_out(self.validator.seconds - before)
        return metrics

    def _report(self, step: int, log: StepLog, validated: dict[str, float]) -> None:
        if self.writer is None:
            return
        scalars, line = self.progress.report(step, self.seconds_idle)
        scalars |= validated
        scalars["bad_images"] = self.stream.bad_images
        scalars["learning_rate"] = float(learning_rate(self.config)(step - 1))
        print(f"{line}  rate {scalars['learning_rate']:.1e}", flush=True)
        alarms = health.alarms(scalars, self.config)
        if step < self.config.log.every:  # an untrained network predicts one depth, and that is right
            alarms = {name: text for name, text in alarms.items() if name == health.OF_THE_DATA}
        for name in alarms.keys() - self.alarmed:  # said once, until the quantity has been healthy again
            logging.warning("%s", alarms[name])
        self.alarmed = set(alarms)
        self.writer.write_scalars(step, scalars)
        if step % self.config.log.images_every == 0 or step == self.config.optimizer.steps:
            shown = panels(log)
            self.writer.write_images(step, shown)
            if step == self.config.optimizer.steps and (picture := result_picture(shown)):
                picture.save(self.workdir.path / RESULT_FILE)
                print(f"a frame beside its depth: {self.workdir.path / RESULT_FILE}")
        self.writer.flush()

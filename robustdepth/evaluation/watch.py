"""Following a training job: each new checkpoint is evaluated as it appears."""

from __future__ import annotations

import json
import pathlib
import signal
import threading
import time
from functools import partial
from typing import Any

from absl import logging

from robustdepth.errors import UserError
from robustdepth.evaluation.report import REPORT, open_output
from robustdepth.evaluation.run import OTHER_TASKS, Options, evaluate_model, run_evaluation
from robustdepth.evaluation.tasks.masks import MASKS
from robustdepth.runtime import distributed
from robustdepth.runtime.bundle import task_of
from robustdepth.runtime.checkpoint import FOLDER, latest_step
from robustdepth.runtime.distributed import is_first
from robustdepth.runtime.inference import load_model
from robustdepth.runtime.integrity import patiently
from robustdepth.runtime.logging import keep_steps
from robustdepth.runtime.workdir import FINISHED_FILE

WATCH_FILE = "watch.jsonl"
LATE = 70.0  # seconds; network disks look again for what is new within a minute


def watch(workdir: str, output: str, options: Options, poll_seconds: float = 10.0) -> None:
    """Evaluates each new checkpoint of a training job into OUTPUT/step_N and appends its means to watch.jsonl.

    Returns when the training is finished and its last checkpoint evaluated, or at SIGTERM. Started again, it goes on
    after the steps that watch.jsonl holds. Where checkpoints come faster than they are evaluated, the newest is taken.
    In a job of several processes SIGTERM at any of them ends all.
    """
    folder, stop = open_output(output, overwrite=True), threading.Event()
    log = folder / WATCH_FILE
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    done = distributed.from_first(lambda: _begin(log))
    try:
        while not any(distributed.gather(stop.is_set())):
            finished, step = distributed.from_first(lambda: _look(workdir))
            if step is not None and step not in done:
                try:
                    distributed.together(partial(_await, workdir, step))
                    means = evaluate_step(workdir, step, folder / f"step_{step:08d}", options)
                except UserError as error:
                    if distributed.from_first(lambda: _newest(workdir)) == step:
                        raise
                    logging.warning("step %d is passed over, a newer one is there: %s", step, error)
                    continue  # most likely training removed it meanwhile
                distributed.on_first(partial(_append, log, {"step": step} | (means or {})))
                done.append(step)
            elif finished:
                return
            else:
                stop.wait(poll_seconds)
    finally:
        signal.signal(signal.SIGTERM, before)


def _begin(log: pathlib.Path) -> list[int]:
    """The steps that were evaluated before."""
    try:
        return keep_steps(log) if log.exists() else []
    except OSError as error:
        raise UserError(f"cannot read and write {log} ({error.strerror}): choose another --output.") from None


def _look(workdir: str) -> tuple[bool, int | None]:
    """Whether the training is finished, and its newest step."""
    finished = (pathlib.Path(workdir) / FINISHED_FILE).exists()  # looked at first: no later step can be missed
    return finished, _newest(workdir)


def _newest(workdir: str) -> int | None:
    """Its newest step. Raises UserError where the folder cannot be read, also when tried again."""
    return patiently(lambda: latest_step(workdir), f"{workdir} cannot be read")


def _await(workdir: str, step: int) -> None:
    """Waits until this process sees a step that process 0 has seen, or a newer one; disks of networks may be late."""
    until = time.monotonic() + LATE
    while not is_first() and (_newest(workdir) or -1) < step and time.monotonic() < until:
        time.sleep(1)


def _append(log: pathlib.Path, row: dict[str, Any]) -> None:
    try:
        with log.open("a") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {log} ({error.strerror}): mend this and start the same command again.") from None


def evaluate_step(workdir: str, step: int, folder: pathlib.Path, options: Options) -> dict[str, dict[str, Any]] | None:
    """Evaluates one checkpoint of a training of any task, with its report.

    Returns the report's means by protocol, on process 0.

    Raises UserError, also where the checkpoint is no longer there.
    """
    if distributed.together(lambda: task_of(workdir)) in OTHER_TASKS or MASKS in options.protocols:
        run_evaluation(str(pathlib.Path(workdir) / FOLDER / str(step)), str(folder), options, overwrite=True)
    else:
        model = distributed.together(lambda: load_model(workdir, step))
        evaluate_model(model, open_output(folder, overwrite=True), options)
    return distributed.on_first(lambda: _means(folder / REPORT))


def _means(report: pathlib.Path) -> dict[str, dict[str, Any]]:
    return {name: entry["metrics"] for name, entry in json.loads(report.read_text())["protocols"].items()}

"""Following a training job: each new checkpoint is evaluated as it appears."""

from __future__ import annotations

import json
import pathlib
import signal
import threading
from typing import Any

from robustdepth.errors import UserError
from robustdepth.evaluation.report import REPORT, open_output
from robustdepth.evaluation.run import OTHER_TASKS, Options, evaluate_model, run_evaluation
from robustdepth.evaluation.tasks.masks import MASKS
from robustdepth.runtime.bundle import task_of
from robustdepth.runtime.checkpoint import FOLDER, latest_step
from robustdepth.runtime.inference import load_model
from robustdepth.runtime.workdir import FINISHED_FILE

WATCH_FILE = "watch.jsonl"


def watch(workdir: str, output: str, options: Options, poll_seconds: float = 10.0) -> None:
    """Evaluates each new checkpoint of a training job into OUTPUT/step_N and appends its means to watch.jsonl.

    Returns when the training is finished and its last checkpoint evaluated, or at SIGTERM. Started again, it goes on
    after the steps that watch.jsonl holds. Where checkpoints come faster than they are evaluated, the newest is taken.
    """
    folder = pathlib.Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    log, stop = folder / WATCH_FILE, threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    done = {json.loads(line)["step"] for line in log.read_text().splitlines()} if log.exists() else set()
    try:
        while not stop.is_set():
            finished = (pathlib.Path(workdir) / FINISHED_FILE).exists()  # looked at first: no later step can be missed
            step = latest_step(workdir)
            if step is not None and step not in done:
                try:
                    means = evaluate_step(workdir, step, folder / f"step_{step:08d}", options)
                except UserError:
                    if latest_step(workdir) == step:
                        raise
                    continue  # training removed it meanwhile, having saved a newer one
                with log.open("a") as file:
                    file.write(json.dumps({"step": step} | means) + "\n")
                done.add(step)
            elif finished:
                return
            else:
                stop.wait(poll_seconds)
    finally:
        signal.signal(signal.SIGTERM, before)


def evaluate_step(workdir: str, step: int, folder: pathlib.Path, options: Options) -> dict[str, dict[str, Any]]:
    """Evaluates one checkpoint of a training of any task, with its report; returns the report's means by protocol.

    Raises UserError, also where the checkpoint is no longer there.
    """
    if task_of(workdir) in OTHER_TASKS or MASKS in options.protocols:
        run_evaluation(str(pathlib.Path(workdir) / FOLDER / str(step)), str(folder), options, overwrite=True)
    else:
        evaluate_model(load_model(workdir, step), open_output(folder, overwrite=True), options)
    report = json.loads((folder / REPORT).read_text())
    return {name: entry["metrics"] for name, entry in report["protocols"].items()}

"""Following a training job: each new checkpoint is evaluated as it appears."""

from __future__ import annotations

import json
import pathlib
import signal
import threading

from robustdepth.errors import UserError
from robustdepth.evaluation.report import open_output
from robustdepth.evaluation.run import Options, evaluate_model
from robustdepth.runtime.checkpoint import latest_step
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
                    model = load_model(workdir, step)
                except UserError:
                    if latest_step(workdir) == step:
                        raise
                    continue  # training removed it meanwhile, having saved a newer one
                results = evaluate_model(model, open_output(folder / f"step_{step:08d}", overwrite=True), options)
                with log.open("a") as file:
                    file.write(json.dumps({"step": step} | {r.name: r.metrics for r in results}) + "\n")
                done.add(step)
            elif finished:
                return
            else:
                stop.wait(poll_seconds)
    finally:
        signal.signal(signal.SIGTERM, before)

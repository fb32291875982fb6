"""Kills a training over and over: python -m benchmarks.kills [--kills=50] [--seed=0] [--output=FILE.json].

The training command, on the quickstart at 32x64, is started and killed with SIGKILL at random moments until --kills is
reached, then left to end. Half of the kills are aimed at a checkpoint's save, the others at the steps or at a start
(imports, compiling, restoring); whether one hit a save is read off the temporary folder that it left. One of ten starts
meets I/O errors when it restores its checkpoint (benchmarks/flaky_reads.py). The run counts as
unharmed when every array of its last checkpoint (parameters, statistics, optimiser state, counts), its data position
and the logged losses of all steps are bitwise those of a run that nobody disturbed.
"""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import numpy as np

from benchmarks.results import markdown, record
from benchmarks.workdirs import differences, last_logged, temporary
from robustdepth.errors import UserError, run_main
from robustdepth.runtime.checkpoint import latest_step

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
FLAKY = 0.1  # share of the starts whose first reads of a checkpoint fail
EVERY = 5  # steps between checkpoints
STEPS_PER_KILL = 10  # more than a life gets done on average
LONGEST_START, SAVE = 10.0, 0.1  # seconds: how long after the start, or after what was waited for, a kill comes at most
SMALL = (
    "--config.image_size=(32, 64)",
    "--config.batch_size=4",
    "--config.model.encoder=resnet_tiny",
    "--config.model.pretrained=",
    "--config.model.freeze_encoder=False",
    "--config.model.scales=1",
    "--config.optimizer.warmup_steps=0",
    f"--config.checkpoint.every={EVERY}",
    "--config.log.every=1",
)


class Kill(NamedTuple):
    """One life of the run and its end."""

    kill: int
    aim: str  # "start", "step" or "save"
    from_step: int  # of the checkpoint that it went on from
    at_step: int  # the last one that it logged
    while_saving: bool
    flaky: bool  # its reads of a checkpoint failed at first
    seconds: float  # that it lived


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", help="JSON file for docs/results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kills, differ = kill_and_compare(pathlib.Path(folder), options.kills, options.seed)
    print(markdown([kill._asdict() for kill in kills]))
    print(f"{len(differ)} differences from the undisturbed run {differ[:5]}")
    if options.output:
        record(options.output, f"{options.kills} kills of a short run", summary(kills, differ))
    if differ:
        raise UserError("the killed run ended differently.")


def kill_and_compare(folder: pathlib.Path, kills: int, seed: int) -> tuple[list[Kill], list[str]]:
    """Kills a run in `folder` that often; returns the kills and what differs at its end, [] being right."""
    steps, rng = STEPS_PER_KILL * kills, np.random.default_rng(seed)
    finish(start(folder / "undisturbed", steps), folder / "undisturbed")
    lives = []
    for number in range(1, kills + 1):
        lives.append(live(folder / "killed", steps, number, rng))
        print(f"kill {number}/{kills} at step {lives[-1].at_step}/{steps}", flush=True)
    finish(start(folder / "killed", steps), folder / "killed")
    return lives, differences(folder / "killed", folder / "undisturbed", steps)


def start(workdir: pathlib.Path, steps: int, flaky: bool = False) -> subprocess.Popen:
    """Starts the training command, whose first reads of a checkpoint may fail; what it prints goes to WORKDIR.log."""
    keep = {"JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "programs")} | os.environ
    keep["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command = [sys.executable, "-m", "benchmarks.flaky_reads" if flaky else "robustdepth.train"]
    command += ["--config=configs/world_quickstart.py", f"--workdir={workdir}", *SMALL]
    command += [f"--config.optimizer.steps={steps}"]
    with workdir.with_suffix(".log").open("a") as log:
        return subprocess.Popen(command, cwd=REPOSITORY, env=keep, stdout=log, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen, workdir: pathlib.Path) -> None:
    """Waits for the run's own end. Raises UserError where that is an error."""
    if process.wait():
        raise UserError(f"the run ended with {process.returncode}: {workdir.with_suffix('.log').read_text()[-2000:]}")


def live(workdir: pathlib.Path, steps: int, number: int, rng: np.random.Generator) -> Kill:
    """Starts the run, and kills it at a random moment."""
    began, from_step = time.time(), latest_step(workdir) or 0
    aim = "save" if number % 2 else str(rng.choice(["step", "step", "start"]))
    flaky = bool(rng.random() < FLAKY)
    process = start(workdir, steps, flaky)
    try:
        if aim == "step":
            wait_for_step(from_step + int(rng.integers(1, 2 * EVERY)), process, workdir, began)
        elif aim == "save":
            wait_for_saves(int(rng.integers(1, 3)), process, workdir, began)
        time.sleep(rng.uniform(0.0, LONGEST_START if aim == "start" else SAVE))
    finally:
        process.kill()
    if process.wait() != -signal.SIGKILL:
        finish(process, workdir)
        raise UserError(f"the run ended before kill {number}.")
    at_step, saving = max(from_step, last_logged(workdir, began)), bool(temporary(workdir, began))
    return Kill(number, aim, from_step, at_step, saving, flaky, round(time.time() - began, 1))


def wait_for_step(step: int, process: subprocess.Popen, workdir: pathlib.Path, since: float) -> None:
    """Returns once the run has logged this step, or has ended."""
    while process.poll() is None and last_logged(workdir, since) < step:
        time.sleep(0.002)


def wait_for_saves(count: int, process: subprocess.Popen, workdir: pathlib.Path, since: float) -> None:
    """Returns when the run begins its save number `count`, or has ended."""
    seen: set[str] = set()
    while process.poll() is None and len(seen) < count:
        seen |= temporary(workdir, since)
        time.sleep(0.001)


def summary(kills: list[Kill], differ: list[str]) -> list[dict]:
    """One row for each kind of moment."""
    rows = []
    for aim in ("start", "step", "save"):
        lives = [kill for kill in kills if kill.aim == aim]
        lost = [kill.at_step - kill.from_step for kill in lives]
        rows.append({"killed at": aim, "kills": len(lives), "while saving": sum(kill.while_saving for kill in lives)})
        rows[-1] |= {"with read errors": sum(kill.flaky for kill in lives)}
        rows[-1] |= {"steps of a life": f"{min(lost)} to {max(lost)}"} if lost else {}
    whole = {"killed at": "all", "kills": len(kills), "while saving": sum(kill.while_saving for kill in kills)}
    whole |= {"with read errors": sum(kill.flaky for kill in kills)}
    return [*rows, whole | {"arrays and losses that differ at the end": len(differ)}]


if __name__ == "__main__":
    run_main(main)

"""Seconds from the start of the training command to its first step: python -m benchmarks.restart [--output=FILE.json].

Each experiment is started with a new workdir and an empty folder for compiled programs (cold), stopped by SIGTERM,
which saves a checkpoint, and started again (warm), as after a preemption. Goal: under 60 s on two cores at 96x320.
The stages are those of the run, by the clock, and add up; tracing and compiling (or reading what was compiled) lie
within them.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from benchmarks.results import markdown, record
from robustdepth.errors import UserError, run_main

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
LARGER = ("--config.image_size=(96, 320)", "--config.batch_size=8")
ROWS = {
    "world_quickstart": ("configs/world_quickstart.py",),
    "world_quickstart 96x320": ("configs/world_quickstart.py", *LARGER),
    "world_structure 96x320": ("configs/world_structure.py", *LARGER),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help="of " + ", ".join(ROWS))
    parser.add_argument("--warm", type=int, default=2, help="warm starts, of which the faster counts")
    parser.add_argument("--output", help="JSON file for docs/results")
    options = parser.parse_args()
    table = [row for name in options.rows.split(",") for row in measure(name, options.warm)]
    print(markdown(table))
    if options.output:
        record(options.output, "Seconds from the start of the command to its first step", table)


def measure(name: str, repeats: int) -> list[dict]:
    """The cold start and the fastest warm one."""
    with tempfile.TemporaryDirectory() as folder:
        cold = first_step(ROWS[name], pathlib.Path(folder))
        warm = [first_step(ROWS[name], pathlib.Path(folder)) for _ in range(repeats)]
    fastest = min(warm, key=lambda found: found["seconds"])
    return [{"experiment": name, "start": "cold"} | cold, {"experiment": name, "start": "warm"} | fastest]


def first_step(flags: tuple[str, ...], folder: pathlib.Path) -> dict:
    """Starts the command and stops it after its first step; seconds in all and by stage."""
    clock = folder / "clock.json"
    clock.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.restart_worker", str(clock), str(time.time())]
    command += [f"--config={flags[0]}", *flags[1:], f"--workdir={folder / 'run'}"]
    log = folder / "log"
    with log.open("w") as opened:
        cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "programs")}
        process = subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | cache, stdout=opened, stderr=opened)
    while not clock.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    if process.wait():
        raise UserError(f"the command ended with {process.returncode}: {log.read_text()[-2000:]}")
    return {name: round(seconds, 1) for name, seconds in json.loads(clock.read_text()).items()}


if __name__ == "__main__":
    run_main(main)

"""Jobs of several real processes on this machine, over loopback."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np

from robustdepth.runtime.checkpoint import committed_steps, load_weights
from tests.conftest import REPOSITORY

DEVICES = 4  # of all processes together
STEPS = 8
SMALL = (
    "--config.image_size=(32, 64)",
    "--config.batch_size=8",
    "--config.data.threads=1",
    "--config.model.encoder=resnet_tiny",
    "--config.model.pretrained=",
    "--config.model.freeze_encoder=False",
    "--config.model.scales=1",
    "--config.optimizer.warmup_steps=0",
    f"--config.optimizer.steps={STEPS}",
    "--config.checkpoint.every=2",
    "--config.log.every=1",
    "--config.health.min_spread=0.0",
)
FOREVER = ("--config.optimizer.steps=1000000", "--config.checkpoint.every=20", "--config.log.every=20")
# tensorboardX spends seconds on importing torch where that is installed.
WITHOUT_TORCH = """
import runpy, sys
sys.modules["torch"] = None
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


class Ended(NamedTuple):
    status: int
    out: str
    err: str


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(
    clip: pathlib.Path,
    workdir: pathlib.Path,
    *extra: str,
    processes: int = 1,
    only: int | None = None,
    module: str = "tests.distributed_worker",
    own: dict[int, tuple[str, ...]] | None = None,
) -> list[subprocess.Popen]:
    """Starts a job: `extra` flags for all of its processes, `own` ones for some; with `only`, just that process."""
    devices = f"--xla_force_host_platform_device_count={DEVICES // processes}"
    port = free_port()
    started = []
    for process in range(processes) if only is None else [only]:
        job = (f"--coordinator=127.0.0.1:{port}", f"--processes={processes}", f"--process={process}")
        command = [sys.executable, "-c", WITHOUT_TORCH, module]
        command += ["--config=tests/clip_config.py", f"--workdir={workdir}"]
        command += [f"--config.data.root={clip}", *SMALL, *(job if processes > 1 else ()), *extra]
        started.append(
            subprocess.Popen(
                [*command, *(own or {}).get(process, ())],
                cwd=REPOSITORY,
                env=os.environ | {"XLA_FLAGS": devices},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def finish(job: list[subprocess.Popen]) -> list[Ended]:
    ended = []
    for process in job:
        out, err = process.communicate(timeout=240)
        ended.append(Ended(process.returncode, out, err))
    return ended


def succeed(job: list[subprocess.Popen]) -> list[Ended]:
    ended = finish(job)
    assert [process.status for process in ended] == [0] * len(job), ended
    return ended


def await_checkpoint(job: list[subprocess.Popen], workdir: pathlib.Path) -> None:
    while not committed_steps(workdir / "checkpoints"):
        assert all(process.poll() is None for process in job), finish(job)
        time.sleep(0.01)


def losses(workdir: pathlib.Path) -> list[float]:
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]


def kernel(workdir: pathlib.Path) -> np.ndarray:
    return load_weights(workdir, STEPS).params["depth"]["kernel"]

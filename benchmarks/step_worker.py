"""Training steps of one config on one number of devices, in a process of their own; see `measure`.

The number of devices of a process is fixed when JAX starts, and only a process of its own shows its largest memory.
"""

import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from robustdepth.errors import UserError

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def measure(overrides: dict, devices: int = 1, steps: int = 5) -> dict:
    """Losses, seconds, memory and collectives of the monocular recipe's step.

    Args:
      overrides: of configs/base.py, by dotted keys.
      devices: fake ones, which share this machine's cores.
      steps: how many are taken; the first compiles.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    worker = subprocess.run(
        [sys.executable, "-m", "benchmarks.step_worker", json.dumps({"overrides": overrides, "steps": steps})],
        cwd=REPOSITORY,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    if worker.returncode:
        raise UserError(f"the step cannot be measured: {worker.stderr[-2000:]}")
    return json.loads(worker.stdout.splitlines()[-1])


def main() -> None:
    options = json.loads(sys.argv[1])
    print(json.dumps(run(options["overrides"], options["steps"])))


def run(overrides: dict, steps: int) -> dict:
    """What `measure` returns, of all devices of this process."""
    from benchmarks.step_inputs import draw
    from benchmarks.step_jax import batch_of
    from configs import base
    from robustdepth.compiling.collectives import by_kind, collectives
    from robustdepth.runtime import sharding
    from robustdepth.training.setup import build

    config = base.get_config()
    config.update_from_flattened_dict({key: as_tuples(value) for key, value in overrides.items()})
    mesh = sharding.make_mesh(config.sharding.axis)
    experiment = build(config, mesh)
    state = experiment.initial_state()
    batch = sharding.put_batch(batch_of(draw(config.batch_size, *config.image_size)), mesh)
    step: Any = experiment.step  # jitted
    compiled = step.lower(state, batch).compile()
    seconds, losses, norms = [], [], []
    for _ in range(steps):
        began = time.perf_counter()
        state, log = compiled(state, batch)
        losses.append(float(log.terms["loss"].value))
        seconds.append(time.perf_counter() - began)
        norms.append(float(log.terms["gradient_norm"].value))
    memory, program = compiled.memory_analysis(), compiled.as_text()
    assert memory is not None, "this backend does not say what a program needs"
    assert program is not None, "this backend does not show its programs"
    return {
        "losses": losses,
        "gradient_norms": norms,
        "seconds": statistics.median(seconds[1:] or seconds),
        "state_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "collectives": {name: [kind.times, kind.bytes] for name, kind in by_kind(collectives(program)).items()},
    }


def as_tuples(value):
    """JSON's lists as the tuples that configs have."""
    return tuple(as_tuples(entry) for entry in value) if isinstance(value, list) else value


if __name__ == "__main__":
    main()

"""Runs the batch of a skipped step again and says what was not finite.

python -m robustdepth.training.replay WORKDIR/bad_batches/STEP.npz
"""

import argparse
import dataclasses
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustdepth.errors import UserError, run_main
from robustdepth.paths import command_line
from robustdepth.runtime import config as configs
from robustdepth.runtime import sharding
from robustdepth.runtime.checkpoint import Checkpointer
from robustdepth.training.restarts import Trial
from robustdepth.training.setup import build
from robustdepth.types import Batch, Camera


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batch", type=pathlib.Path, help="WORKDIR/bad_batches/STEP.npz")
    path = parser.parse_args(command_line()[1:]).batch.absolute()
    values = replay(path)
    for name, value in values.items():
        print(f"{name:<24}{value:.6g}")
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    print(f"not finite: {', '.join(broken)}" if broken else "all of it is finite with this checkpoint")


def replay(path: pathlib.Path) -> dict[str, float]:
    """The loss, its terms and the gradient's norm of a kept batch, with the networks of the newest checkpoint.

    Random numbers are those of the skipped step. Nothing is trained.

    Raises:
      UserError: no such batch, or its workdir cannot be read.
    """
    workdir = path.parent.parent
    if not path.is_file() or not path.stem.isdecimal():
        raise UserError(f"{path} is no kept batch: give WORKDIR/bad_batches/STEP.npz.")
    config = configs.read(workdir)
    mesh = sharding.make_mesh(config.sharding.axis)
    experiment = build(config, mesh)
    with Checkpointer(workdir, config.checkpoint.keep) as checkpointer:
        restored = checkpointer.restore(experiment.template)
    if restored is not None:  # the random numbers of a training that began again are others
        experiment = build(Trial.at(restored[1]).config(config), mesh)
    state = experiment.initial_state() if restored is None else restored[0]
    print(f"with the networks of step {int(state.step)}")
    state = dataclasses.replace(state, step=jnp.asarray(int(path.stem) - 1, state.step.dtype))
    _, log = experiment.step(state, sharding.put_batch(read_bad_batch(path), mesh))
    return {name: float(term.value) for name, term in jax.device_get(log.terms).items()}


def read_bad_batch(path: pathlib.Path) -> Batch:
    """The batch that `health.save_bad_batch` kept."""
    with np.load(path) as kept:
        arrays: dict[str, Any] = dict(kept)
    names = tuple(str(name) for name in arrays.pop("source_names"))
    camera = Camera(arrays.pop("focal"), arrays.pop("center"), arrays["target"].shape[1:3])
    return Batch(camera=camera, source_names=names, **arrays)


if __name__ == "__main__":
    run_main(main)

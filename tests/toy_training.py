"""A training of one kernel on a clip, with the real optimiser, data and checkpoints, which compiles in a moment."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from robustdepth.methods.method import Aux
from robustdepth.training import loop
from robustdepth.training.optimizer import make_optimizer
from robustdepth.training.setup import Experiment, make_state
from robustdepth.training.step import make_step
from robustdepth.types import Term
from tests.recordings import write_clip
from tests.tiny import tiny_config

RATE = 0.2


def toy_config(folder: pathlib.Path, steps: int) -> ConfigDict:
    """A training of a clip of nine examples, written into the folder, in batches of 4; a checkpoint every second step.

    The rate falls along a cosine from RATE.
    """
    write_clip(folder / "clip", count=9)
    config = tiny_config(("previous", "next"), steps)
    config.data.update(name="frames", root=str(folder / "clip"), world_share=0.0, threads=1)
    config.optimizer.update(learning_rate=RATE, warmup_steps=0, schedule="cosine")
    config.batch_size, config.checkpoint.every, config.checkpoint.keep = 4, 2, 9
    return config


def use_toy(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Lets `loop.train` train a linear map of colours; returns the list of the examples of every batch that it sees."""
    seen: list[list[int]] = []

    def build(config, mesh) -> Experiment:
        def loss(params, stats, batch, key, step):
            error = batch.target.astype(jnp.float32) / 255.0 @ params["depth"]["kernel"]
            return jnp.mean(jnp.square(error - 1.0)), Aux(stats, {"toy": Term(jnp.ones(()), jnp.ones(()))}, {}, {})

        optimizer = make_optimizer(config)
        jitted = jax.jit(make_step(config, loss, optimizer))

        def initial_state():
            return make_state(config, {"depth": {"params": {"kernel": jnp.zeros(3)}}}, optimizer)

        def step(state, batch):
            seen.append(np.asarray(batch.index).tolist())
            return jitted(state, batch)

        return Experiment(jax.eval_shape(initial_state), initial_state, step)

    monkeypatch.setattr(loop, "build", build)
    monkeypatch.setattr(loop, "save_median", lambda *_: None)  # renders for longer than all else takes
    monkeypatch.setattr(loop.sharding, "check_divides", lambda *_: None)  # eight devices, and batches of 4
    monkeypatch.setattr(loop.sharding, "put_batch", lambda batch, *_: batch)
    return seen

"""Checkpoints of untrained networks, for tests of everything that starts from one."""

import math
import pathlib
from contextlib import closing

import jax
import numpy as np
from ml_collections import ConfigDict

from robustdepth.runtime import config as configs
from robustdepth.runtime import sharding
from robustdepth.runtime.checkpoint import Checkpointer
from robustdepth.training.setup import build
from robustdepth.types import TrainState


def save_untrained(config: ConfigDict, workdir: pathlib.Path, step: int = 5) -> TrainState:
    """Writes config and a checkpoint with random weights for `config`; returns the state it holds.

    NumPy draws the weights: compiling the networks' own initialisation would take longer than the tests.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    configs.write(config, workdir)
    draw = np.random.default_rng(0)

    def fill(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = sharding.path_name(path).rsplit("/", 1)[-1]
        if name in ("scale", "var"):
            return np.ones(leaf.shape, leaf.dtype)
        spread = 1 / math.sqrt(math.prod(leaf.shape[:-1])) if name == "kernel" else 0.0
        return (spread * draw.standard_normal(leaf.shape)).astype(leaf.dtype)

    template = build(config, sharding.make_mesh(config.sharding.axis)).template
    state = jax.tree_util.tree_map_with_path(fill, template)
    with closing(Checkpointer(workdir, keep=1)) as checkpointer:
        checkpointer.save(state, {"step": step}, step)
    return state

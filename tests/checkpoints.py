"""Checkpoints of untrained networks and of toys, for tests of everything that starts from one."""

import math
import pathlib
from contextlib import closing

import jax
import jax.numpy as jnp
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


def small_state(value: float, step: int = 0, ema: bool = False) -> TrainState:
    weights = {"depth": {"kernel": jnp.full((4, 3), value), "bias": jnp.arange(3.0)}}
    stats = {"depth": {"mean": jnp.zeros(3)}}
    return TrainState(
        step=jnp.int32(step),
        params=weights,
        stats=stats,
        opt_state=(jnp.full((4, 3), -value),),
        ema=jax.tree.map(lambda w: w + 100.0, {"params": weights, "stats": stats}) if ema else {},
        skipped=jnp.int32(0),
        skipped_in_row=jnp.int32(0),
    )


def save_steps(workdir: pathlib.Path, steps: tuple[int, ...], ema: bool = False) -> None:
    with closing(Checkpointer(workdir, keep=2)) as checkpointer:
        for step in steps:
            checkpointer.save(small_state(float(step), step, ema), {"step": step}, step)


def restore(workdir: pathlib.Path, like: TrainState):
    with closing(Checkpointer(workdir, keep=2)) as checkpointer:
        return checkpointer.restore(template(like))


def template(state: TrainState):
    mesh = sharding.make_mesh("data")
    places = sharding.shardings_by_rules(state, ((".*", ()),), mesh)
    return jax.tree.map(lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), state, places)


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

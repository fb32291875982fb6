"""The training command with a network of three numbers, which compiles in a moment: all else is the real thing.

Its loss draws random numbers for every sample, so a sample that stands in another row is noticed.
"""

import dataclasses
import math
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import app, flags

from robustdepth import train
from robustdepth.errors import UserError
from robustdepth.evaluation import validation
from robustdepth.methods.method import Aux
from robustdepth.runtime import distributed, integrity, sharding
from robustdepth.runtime.best import Validation
from robustdepth.training import loop
from robustdepth.training.optimizer import make_optimizer
from robustdepth.training.setup import Experiment, make_state, weights_to_start_from
from robustdepth.training.step import make_step
from robustdepth.types import Term

_BROKEN_AFTER = flags.DEFINE_integer("broken_after", 1 << 30, "Losses are not finite from this step on.")
_COLLAPSES = flags.DEFINE_bool("collapses", False, "Depth collapses at step 3, with the config's own seed alone.")
_HOLDS = flags.DEFINE_string("holds", "", "A file: the validation of step 3 writes it, and ends once it is gone.")
_TEACHER = flags.DEFINE_string("teacher", "", "What this process has as its teacher; missing: none can be read.")
_WEIGHTS = flags.DEFINE_string("weights", "", "Likewise what it starts from.")
flags.DEFINE_integer("failing_reads", 0, "How many restores of a checkpoint fail at first.")


def toy_loss(params, stats, batch, key, step):
    """A linear map of the image's pixels against noise that belongs to the row of the sample in the batch."""
    images = batch.target.astype(jnp.float32) / 255.0
    keys = jax.random.split(key, images.shape[0])
    noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:3]))(keys)
    error = images @ params["depth"]["kernel"] - noise
    weight = jnp.arange(1.0, images.shape[0] + 1.0)
    loss = jnp.mean(weight * jnp.mean(jnp.square(error), axis=(1, 2)))
    loss = jnp.where(step < _BROKEN_AFTER.value, loss, jnp.nan)
    return loss, Aux(stats, {"toy": Term(loss, jnp.ones(()))}, {}, {"target": images})


def collapsing_loss(params, stats, batch, key, step):
    """`toy_loss`, at whose third step, and from then on, all depth is at its limit."""
    loss, aux = toy_loss(params, stats, batch, key, step)
    at_limit = Term((step >= 2).astype(jnp.float32), jnp.ones(()))
    return loss, dataclasses.replace(aux, watched={"at_min_depth": at_limit})


def build_toy(config, mesh) -> Experiment:
    optimizer = make_optimizer(config)
    collapses = _COLLAPSES.value and config.seed == flags.FLAGS.config.seed  # a restart has another one
    loss = collapsing_loss if collapses else toy_loss

    def init():
        kernel = jax.random.normal(jax.random.key(config.seed), (3,))
        return make_state(config, {"depth": {"params": {"kernel": kernel}}}, optimizer)

    places = jax.tree.map(lambda _: sharding.replicated(mesh), jax.eval_shape(init))
    teacher = sharding.put_replicated(read_weights(_TEACHER.value), mesh)
    template = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), jax.eval_shape(init), places
    )
    step = jax.jit(
        make_step(config, loss, optimizer),
        in_shardings=(places, sharding.batch_sharding(mesh)),
        out_shardings=(places, sharding.replicated(mesh)),
        donate_argnums=0,
    )

    def initial_state():
        weights_to_start_from(lambda: read_weights(_WEIGHTS.value))
        return jax.jit(init, out_shardings=places)()

    return Experiment(template, initial_state, step, teachers=teacher)


def read_weights(name: str) -> dict[str, np.ndarray]:
    """What a file of weights holds; its numbers are others for another name."""
    if name == "missing":
        raise UserError("the weights are missing.")
    return {"w": np.full(3, len(name), np.float32)}


def open_toy_validation(config, workdir) -> Validation:
    """The networks of step 6 are the best, those of step 3 are no good at all; judging these is held up if wished."""

    def judge(weights):
        if (held := _HOLDS.value) and weights.step == 3 and distributed.is_first():
            pathlib.Path(held).touch()
            while pathlib.Path(held).exists():
                time.sleep(0.01)
        return {"abs_rel": math.nan if weights.step == 3 else abs(weights.step - 6.0)}

    return Validation(judge, higher_is_better=False)


def restore_at_last(manager, step, **arguments):
    """Orbax's restore, after the failures that the flag asks for."""
    left = flags.FLAGS["failing_reads"]
    left.value -= 1
    if left.value >= 0:
        raise OSError(5, "Input/output error")
    return restore(manager, step, **arguments)


if __name__ == "__main__":
    restore, ocp.CheckpointManager.restore = ocp.CheckpointManager.restore, restore_at_last
    integrity.PAUSES = (0.1, 0.1, 0.1)
    loop.build = build_toy
    validation.open_validation = open_toy_validation
    loop.save_median = lambda *_: None  # renders for longer than all else takes
    train.define_flags()
    app.run(train.main, flags_parser=train.parse_flags)

"""One training step, pure: (state, batch) -> (state, log)."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from robustdepth.methods.method import LossFn, weighted_sum
from robustdepth.numerics import all_finite
from robustdepth.streams import step_key
from robustdepth.training.parts import accumulated, on_each_device
from robustdepth.types import Array, Batch, Term, TrainState


class StepLog(NamedTuple):
    """What one step reports; everything stays on the devices until the loop reads it."""

    ok: Array  # Bool: loss and gradients were finite and the update was applied
    skipped_in_row: Array  # Int
    terms: dict[str, Term]  # loss, every loss term, gradient norm, watched quantities
    images: dict[str, Array]  # [shard, ...]: of the first sample of every shard


def make_step(config: ConfigDict, loss_fn: LossFn, optimizer: optax.GradientTransformation, mesh: Mesh | None = None):
    """The training step of a config, for batches split over a mesh; None: one device has them.

    Randomness comes from the seed and the step alone, so a resumed run draws what the uninterrupted one would have
    drawn. A step whose loss or gradient is not finite leaves parameters, statistics and optimiser as they were.
    """
    decay = config.optimizer.ema_decay
    total, shards = partial(weighted_sum, config.loss), mesh.size if mesh else 1
    if mesh and config.sharding.statistics == "device":
        value_and_grad = on_each_device(loss_fn, mesh, total)
    else:
        value_and_grad = accumulated(loss_fn, config.optimizer.accumulate, total)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepLog]:
        key = step_key(config.seed, state.step)
        (loss, aux), gradients = value_and_grad(state.params, state.stats, batch, key, state.step)
        norm = optax.tree.norm(gradients)
        ok = all_finite(loss, norm, aux.stats)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        averaged = {"params": params, "stats": aux.stats}
        ema = state.ema
        if decay:
            ema = optax.incremental_update(averaged, ema, 1.0 - ema_decay(decay, state.step))
        new, old = (params, aux.stats, opt_state, ema), (state.params, state.stats, state.opt_state, state.ema)
        params, stats, opt_state, ema = jax.tree.map(lambda n, o: jnp.where(ok, n, o), new, old)
        skipped = 1 - ok.astype(jnp.int32)
        in_row = (state.skipped_in_row + 1) * skipped
        one = jnp.ones((), jnp.float32)
        terms = {"loss": Term(loss, one), "gradient_norm": Term(norm, one), **aux.losses, **aux.watched}
        state = TrainState(
            step=state.step + 1,
            params=params,
            stats=stats,
            opt_state=opt_state,
            ema=ema,
            skipped=state.skipped + skipped,
            skipped_in_row=in_row,
        )
        images = {name: first_rows(image, shards) for name, image in aux.images.items()}
        return state, StepLog(ok, in_row, terms, images)

    return step


def ema_decay(decay: float, step: Array) -> Array:
    """The decay of the averaged parameters at a step: at most `decay`, and at first so that they cover a tenth of it.

    Else a training shorter than 1 / (1 - decay) steps would end with averages that its first parameters fill.
    """
    taken = step.astype(jnp.float32)
    return jnp.minimum(decay, (1.0 + taken) / (10.0 + taken))


def first_rows(image: Array, shards: int) -> Array:
    """[batch, ...] to [shards, ...], without any row leaving its device."""
    return image.reshape(shards, image.shape[0] // shards, *image.shape[1:])[:, 0]

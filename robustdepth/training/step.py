"""One training step, pure: (state, batch) -> (state, log)."""

import flax.struct
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from robustdepth.methods.objective import LossFn
from robustdepth.numerics import all_finite
from robustdepth.types import Array, Batch, Term, TrainState


@flax.struct.dataclass
class StepLog:
    """What one step reports; everything stays on the devices until the loop reads it."""

    ok: Array  # Bool: loss and gradients were finite and the update was applied
    skipped_in_row: Array  # Int
    terms: dict[str, Term]  # loss, every loss term, gradient norm, watched quantities
    images: dict[str, Array]


def make_step(config: ConfigDict, loss_fn: LossFn, optimizer: optax.GradientTransformation):
    """The training step of a config.

    Randomness comes from the seed and the step alone, so a resumed run draws what the uninterrupted one would have
    drawn. A step whose loss or gradient is not finite leaves parameters, statistics and optimiser as they were.
    """
    decay = config.optimizer.ema_decay

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepLog]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        (loss, aux), gradients = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params, state.stats, batch, key, state.step
        )
        norm = optax.tree.norm(gradients)
        ok = all_finite(loss, norm, aux.stats)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = optax.incremental_update(params, state.ema, 1.0 - decay) if decay else state.ema
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
        return state, StepLog(ok, in_row, terms, {name: image[0] for name, image in aux.images.items()})

    return step

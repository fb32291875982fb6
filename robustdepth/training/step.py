"""One training step, pure: (state, batch) -> (state, log)."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from robustdepth.methods.method import Aux, LossFn, weighted_sum
from robustdepth.numerics import all_finite
from robustdepth.streams import step_key, stream
from robustdepth.types import Array, Batch, PyTree, Term, TrainState


class StepLog(NamedTuple):
    """What one step reports; everything stays on the devices until the loop reads it."""

    ok: Array  # Bool: loss and gradients were finite and the update was applied
    skipped_in_row: Array  # Int
    terms: dict[str, Term]  # loss, every loss term, gradient norm, watched quantities
    images: dict[str, Array]  # [shard, ...]: of the first sample of every shard


def make_step(config: ConfigDict, loss_fn: LossFn, optimizer: optax.GradientTransformation, shards: int = 1):
    """The training step of a config, for batches split into `shards` equal parts.

    Randomness comes from the seed and the step alone, so a resumed run draws what the uninterrupted one would have
    drawn. A step whose loss or gradient is not finite leaves parameters, statistics and optimiser as they were.
    """
    decay = config.optimizer.ema_decay
    value_and_grad = accumulated(loss_fn, config.optimizer.accumulate, partial(weighted_sum, config.loss))

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


def accumulated(loss_fn: LossFn, parts: int, total: Callable[[dict[str, Term], Array], Array]):
    """`jax.value_and_grad(loss_fn)` over `parts` equal parts of the batch one after another, for less memory.

    A term is a mean over the elements that count in the batch, v = sum_p c_p v_p / sum_p c_p, and parts may hold
    unequal numbers c_p of them: so each part's terms enter the loss with its share of the elements, and the gradient is
    that of the whole batch. The shares are known once all parts are counted, before the first gradient: parts run
    forwards to be counted, then forwards and backwards. XLA leaves out of the counting all that counts do not depend
    on, which is the networks, unless a term counts by what they predict; then a step takes up to a third longer.

    Batch statistics are those of a part (over all devices), and the running ones are updated once a part. Random draws
    are each part's own. Every part holds examples of every device, so that no example moves.

    Args:
      total: (terms, step) -> loss, linear in the terms' values.
    """
    if parts == 1:
        return jax.value_and_grad(loss_fn, has_aux=True)

    def loss_of_part(params: PyTree, stats: PyTree, part: Part, step: Array, counts: dict[str, Array]):
        _, aux = loss_fn(params, stats, part.examples, part.key, step)
        shares = {name: share_of(term, counts[name]) for name, term in aux.losses.items()}
        return total(shares, step), aux

    def all_parts(params: PyTree, stats: PyTree, batch: Batch, key: Array, step: Array):
        def count(part: Part) -> dict[str, Array]:
            _, aux = loss_fn(params, stats, part.examples, part.key, step)
            return {name: term.count for name, term in aux.losses.items()}

        def add_part(carry: tuple[PyTree, PyTree], part: Part):
            stats, gradients = carry
            (loss, aux), gradient = jax.value_and_grad(loss_of_part, has_aux=True)(params, stats, part, step, counts)
            return (aux.stats, jax.tree.map(jnp.add, gradients, gradient)), (loss, dataclasses.replace(aux, stats={}))

        keys = jax.vmap(partial(jax.random.fold_in, stream(key, "part")))(jnp.arange(parts))
        work = Part(keys, jax.tree.map(lambda leaf: split(leaf, parts), batch))
        counts = jax.tree.map(jnp.sum, jax.lax.map(count, work))
        zeros = jax.tree.map(jnp.zeros_like, params)
        (stats, gradients), (losses, aux) = jax.lax.scan(add_part, (stats, zeros), work)
        images = {name: image[0] for name, image in aux.images.items()}
        merged = Aux(stats, merge_parts(aux.losses), merge_parts(aux.watched), images)
        return (jnp.sum(losses), merged), gradients

    return all_parts


class Part(NamedTuple):
    """A part of a batch, with the random key of its draws."""

    key: Array
    examples: Batch


def share_of(term: Term, count: Array) -> Term:
    """What a part's term adds to the mean over all `count` elements of the batch."""
    return Term(term.value * jax.lax.stop_gradient(term.count / jnp.maximum(count, 1e-9)), term.count)


def split(leaf: Array, parts: int) -> Array:
    """[batch, ...] to [parts, batch / parts, ...]; neighbouring examples go to different parts."""
    leaf = jnp.asarray(leaf)
    return jnp.moveaxis(leaf.reshape(leaf.shape[0] // parts, parts, *leaf.shape[1:]), 1, 0)


def merge_parts(terms: dict[str, Term]) -> dict[str, Term]:
    """One mean of every term, whose value and count have one entry a part."""

    def merge(term: Term) -> Term:
        count = jnp.sum(term.count)
        return Term(jnp.sum(term.value * term.count) / jnp.maximum(count, 1e-9), count)

    return {name: merge(term) for name, term in terms.items()}

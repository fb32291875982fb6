"""One training step, pure: (state, batch) -> (state, log)."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from robustdepth.methods.method import Aux, LossFn
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
    value_and_grad = accumulated(loss_fn, config.optimizer.accumulate)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepLog]:
        key = step_key(config.seed, state.step)
        (loss, aux), gradients = value_and_grad(state.params, state.stats, batch, key, state.step)
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
        images = {name: first_rows(image, shards) for name, image in aux.images.items()}
        return state, StepLog(ok, in_row, terms, images)

    return step


def first_rows(image: Array, shards: int) -> Array:
    """[batch, ...] to [shards, ...], without any row leaving its device."""
    return image.reshape(shards, image.shape[0] // shards, *image.shape[1:])[:, 0]


def accumulated(loss_fn: LossFn, parts: int):
    """`jax.value_and_grad(loss_fn)` over `parts` equal parts of the batch one after another, for less memory.

    Loss and gradient are the means over the parts; logged terms are merged by their counts. Batch statistics are those
    of a part (over all devices), and the running ones are updated once a part. Every part holds examples of every
    device, so that no example moves.
    """
    one_part = jax.value_and_grad(loss_fn, has_aux=True)
    if parts == 1:
        return one_part

    def all_parts(params: PyTree, stats: PyTree, batch: Batch, key: Array, step: Array):
        part_key = stream(key, "part")

        def add_part(carry: tuple[PyTree, PyTree], part: tuple[Array, Batch]):
            stats, gradients = carry
            number, examples = part
            (loss, aux), gradient = one_part(params, stats, examples, jax.random.fold_in(part_key, number), step)
            gradients = jax.tree.map(lambda a, b: a + b / parts, gradients, gradient)
            return (aux.stats, gradients), (loss, dataclasses.replace(aux, stats={}))

        zeros = jax.tree.map(jnp.zeros_like, params)
        work = jnp.arange(parts), jax.tree.map(lambda leaf: split(leaf, parts), batch)
        (stats, gradients), (losses, aux) = jax.lax.scan(add_part, (stats, zeros), work)
        images = {name: image[0] for name, image in aux.images.items()}
        merged = Aux(stats, merge_parts(aux.losses), merge_parts(aux.watched), images)
        return (jnp.mean(losses), merged), gradients

    return all_parts


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

"""A batch in parts whose gradients are added: one after another, for less memory, or each on a device of its own.

Batch statistics are those of a part. A term of the loss is still the mean over the elements that count in the batch.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from robustdepth.methods.method import Aux, LossFn
from robustdepth.streams import stream
from robustdepth.types import Array, Batch, PyTree, Term

Total = Callable[[dict[str, Term], Array], Array]  # (terms, step) -> loss, linear in the terms' values


def accumulated(loss_fn: LossFn, parts: int, total: Total):
    """`jax.value_and_grad(loss_fn)` over `parts` equal parts of the batch one after another, for less memory.

    A term is a mean over the elements that count in the batch, v = sum_p c_p v_p / sum_p c_p, and parts may hold
    unequal numbers c_p of them: so each part's terms enter the loss with its share of the elements, and the gradient is
    that of the whole batch. The shares are known once all parts are counted, before the first gradient: parts run
    forwards to be counted, then forwards and backwards. XLA leaves out of the counting all that counts do not depend
    on, which is the networks, unless a term counts by what they predict; then a step takes up to a third longer.

    Batch statistics are those of a part (over all devices), and the running ones are updated once a part. Random draws
    are each part's own. Every part holds examples of every device, so that no example moves.
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


def on_each_device(loss_fn: LossFn, mesh: Mesh, total: Total):
    """`jax.value_and_grad(loss_fn)` of a batch split over the mesh, whose devices meet only to count and to add.

    Batch statistics are those of a device's rows, as with PyTorch's DistributedDataParallel without SyncBatchNorm. With
    those of the whole batch every layer that normalises waits for all devices, forwards and again backwards.

    Each device's terms enter the loss with their share of the elements that all have counted. Running statistics are
    the devices' mean. Random draws are each device's own, and so change with the number of devices.
    """
    (axis,) = mesh.axis_names

    def of_rows(params: PyTree, stats: PyTree, batch: Batch, key: Array, step: Array):
        own = jax.random.fold_in(stream(key, "device"), lax.axis_index(axis))

        def share(params: PyTree):
            _, aux = loss_fn(params, stats, batch, own, step)
            counts = lax.psum({name: term.count for name, term in aux.losses.items()}, axis)
            return total({name: share_of(term, counts[name]) for name, term in aux.losses.items()}, step), aux

        (loss, aux), gradients = jax.value_and_grad(share, has_aux=True)(params)
        loss, gradients = lax.psum((loss, gradients), axis)
        losses, watched = joined(aux.losses, axis), joined(aux.watched, axis)
        return loss, gradients, lax.pmean(aux.stats, axis), losses, watched, aux.images

    whole, rows = P(), P(axis)
    split = jax.shard_map(
        of_rows,
        mesh=mesh,
        in_specs=(whole, whole, rows, whole, whole),
        out_specs=(whole, whole, whole, whole, whole, rows),
        check_vma=False,  # gradients are to be added here, at the end, and not wherever a parameter is used
    )

    def value_and_grad(params: PyTree, stats: PyTree, batch: Batch, key: Array, step: Array):
        loss, gradients, *seen = split(params, stats, batch, key, step)
        return (loss, Aux(*seen)), gradients

    return value_and_grad


def joined(terms: dict[str, Term], axis: str) -> dict[str, Term]:
    """The devices' terms as one mean of each."""
    sums = lax.psum({name: (term.value * term.count, term.count) for name, term in terms.items()}, axis)
    return {name: Term(value / jnp.maximum(count, 1e-9), count) for name, (value, count) in sums.items()}

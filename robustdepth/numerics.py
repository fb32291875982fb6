"""Arithmetic that stays finite, also under differentiation, where the plain form would not."""

import jax
import jax.numpy as jnp
from jax import lax

from robustdepth.types import Array, PyTree

TINY = 1e-12


def safe_div(numerator: Array, denominator: Array, floor: float = 1e-7) -> Array:
    """`numerator / denominator` with the denominator kept at least `floor` in the positive direction.

    Meant for denominators that are positive by nature (depths, counts); the gradient through a floored one is 0.
    """
    return numerator / jnp.maximum(denominator, floor)


def safe_log(x: Array, floor: float = 1e-7) -> Array:
    """`log(max(x, floor))`: finite with a zero gradient below the floor."""
    return jnp.log(jnp.maximum(x, floor))


def safe_sqrt(x: Array) -> Array:
    """`sqrt(x)` whose gradient at 0 is 0 instead of infinite."""
    positive = x > TINY
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def safe_norm(x: Array, axis: int = -1, keepdims: bool = False) -> Array:
    """Euclidean norm whose gradient at the zero vector is 0 instead of NaN."""
    return safe_sqrt(jnp.sum(jnp.square(x), axis=axis, keepdims=keepdims))


def unstack(x: Array) -> list[Array]:
    """The slices of the last axis: the inverse of `jnp.stack(slices, axis=-1)`, also under differentiation.

    The gradient is one concatenation, so that in `jit` it cancels against a stack; indexing would pad and add.
    """
    return [jnp.squeeze(part, -1) for part in lax.split(x, (1,) * x.shape[-1], axis=x.ndim - 1)]


def all_finite(*trees) -> Array:
    """True where every number of every floating-point leaf is finite."""
    leaves = [leaf for tree in trees for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def computed_once(values: PyTree) -> PyTree:
    """The values, which a CPU's program computes once and keeps; accelerators fuse them into what uses them."""
    return lax.platform_dependent(values, cpu=lax.optimization_barrier, default=lambda same: same)

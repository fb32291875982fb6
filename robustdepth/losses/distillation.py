"""How far a student is from its teacher: edges by divergence, nodes by direction (METHOD.md 3.4 and 3.5)."""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float

from robustdepth.losses.consistency import masked_mean
from robustdepth.numerics import safe_norm
from robustdepth.types import Array, Term


def edge_divergence(
    teacher: Float[Array, "*batch row column"], student: Float[Array, "*batch row column"]
) -> Float[Array, ""]:
    """mean over rows of KL(sg teacher || student) in nats; 0 where both agree (Hinton et al., 2015).

    Both are log-probabilities over the columns of each row. A column adds nothing where the teacher's probability is 0.
    It makes the divergence infinite, by definition, where only the student's is 0.
    """
    return jnp.mean(_divergences(teacher, student))


def masked_divergence(
    teacher: Float[Array, "*shape bin"], student: Float[Array, "*shape bin"], mask: Bool[Array, "*shape"]
) -> Term:
    """`edge_divergence` over the masked rows (0 where there are none) and how many they are."""
    return masked_mean(_divergences(teacher, student), mask)


def _divergences(teacher: Array, student: Array) -> Array:
    teacher = lax.stop_gradient(teacher).astype(jnp.float32)
    probability = jnp.exp(teacher)
    surplus = jnp.where(probability > 0, probability * (teacher - student.astype(jnp.float32)), 0.0)
    return jnp.sum(surplus, axis=-1)


def row_entropy(log_probability: Float[Array, "*batch row column"]) -> Float[Array, ""]:
    """Mean entropy of the rows, as a share of the largest possible: 1 for uniform rows, 0 for one-hot ones."""
    probability = jnp.exp(log_probability)
    terms = jnp.where(probability > 0, probability * log_probability, 0.0)
    return -jnp.mean(jnp.sum(terms, axis=-1)) / math.log(max(2, log_probability.shape[-1]))


def direction(x: Float[Array, "*shape channel"]) -> Float[Array, "*shape channel"]:
    """x / |x| in float32; a zero vector has no direction: it stays zero and gets no gradient."""
    x = x.astype(jnp.float32)
    length = safe_norm(x, keepdims=True)
    exists = length > 0
    return jnp.where(exists, x / jnp.where(exists, length, 1.0), 0.0)


def cosine_distance(a: Float[Array, "*shape channel"], b: Float[Array, "*shape channel"]) -> Float[Array, ""]:
    """mean 1 - cos(a, b) over vectors, in [0, 2]; 1, without a gradient, where either is the zero vector."""
    return jnp.mean(_distances(a, b))


def masked_cosine_distance(
    a: Float[Array, "*shape channel"], b: Float[Array, "*shape channel"], mask: Bool[Array, "*shape"]
) -> Term:
    """`cosine_distance` over the masked vectors (0 where there are none) and how many they are."""
    return masked_mean(_distances(a, b), mask)


def _distances(a: Array, b: Array) -> Array:
    return 1.0 - jnp.sum(direction(a) * direction(b), axis=-1)

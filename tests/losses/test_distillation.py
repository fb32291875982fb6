"""Distillation losses against SciPy, and where they must not blow up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cosine
from scipy.special import log_softmax, rel_entr, softmax

from robustdepth.losses.distillation import (
    cosine_distance,
    direction,
    edge_divergence,
    masked_cosine_distance,
    row_entropy,
)

DRAW = np.random.default_rng(3)
LOGITS = DRAW.normal(0, 3, (2, 2, 5, 7))  # teacher and student, 2 samples, 5 rows, 7 columns
TEACHER, STUDENT = (jnp.asarray(log_softmax(logits, axis=-1), jnp.float32) for logits in LOGITS)
VECTORS = DRAW.normal(0, 1, (2, 3, 4, 6))
A, B = (jnp.asarray(vectors, jnp.float32) for vectors in VECTORS)


def test_edge_divergence_is_the_kullback_leibler_divergence():
    expected = rel_entr(*softmax(LOGITS, axis=-1)).sum(-1).mean()
    assert float(edge_divergence(TEACHER, STUDENT)) == pytest.approx(expected, rel=1e-5)
    assert float(edge_divergence(TEACHER, TEACHER)) == 0.0


def test_edge_divergence_pulls_the_student_alone():
    def loss(teacher, logits):
        return edge_divergence(teacher, jax.nn.log_softmax(logits))

    to_teacher, to_student = jax.grad(loss, argnums=(0, 1))(TEACHER, jnp.asarray(LOGITS[1], jnp.float32))
    np.testing.assert_array_equal(to_teacher, 0.0)
    teacher, student = softmax(LOGITS, axis=-1)  # d KL / d logits = student - teacher, a mean over 10 rows
    np.testing.assert_allclose(to_student, (student - teacher) / 10, atol=1e-6)


def test_edges_that_the_teacher_rules_out_add_nothing():
    teacher = jnp.log(jnp.array([[0.5, 0.5, 0.0]]))
    student = jnp.log(jnp.array([[0.25, 0.25, 0.5]]))
    value, gradient = jax.value_and_grad(edge_divergence, argnums=1)(teacher, student)
    assert float(value) == pytest.approx(np.log(2), rel=1e-6)
    np.testing.assert_allclose(gradient, [[-0.5, -0.5, 0.0]])
    assert np.isfinite(edge_divergence(jnp.array([[0.0, -200.0]]), jnp.array([[-200.0, 0.0]])))


def test_row_entropy_of_known_rows():
    assert float(row_entropy(jnp.full((2, 3, 8), -np.log(8)))) == pytest.approx(1.0, rel=1e-6)
    assert float(row_entropy(jnp.log(jnp.eye(4)))) == 0.0
    assert float(row_entropy(jnp.log(jnp.array([[0.5, 0.5, 0.0, 0.0]])))) == pytest.approx(0.5, rel=1e-6)
    assert float(row_entropy(jnp.zeros((1, 1)))) == 0.0  # a single node


def test_cosine_distance_is_that_of_scipy_whatever_the_lengths():
    expected = np.mean([cosine(a, b) for a, b in zip(*VECTORS.reshape(2, 12, 6), strict=True)])
    assert float(cosine_distance(A, B)) == pytest.approx(expected, rel=1e-5)
    assert float(cosine_distance(1e4 * A, 1e-4 * B)) == pytest.approx(expected, rel=1e-5)
    assert float(cosine_distance(A, A)) == pytest.approx(0.0, abs=1e-6)
    assert float(cosine_distance(A, -A)) == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-7])
def test_a_vector_without_length_has_no_direction_and_no_gradient(scale):
    nothing = scale * A
    assert float(cosine_distance(nothing, B)) == 1.0
    for gradient in jax.grad(cosine_distance, argnums=(0, 1))(nothing, B):
        np.testing.assert_array_equal(gradient, 0.0)
    np.testing.assert_array_equal(direction(nothing), 0.0)


def test_the_gradient_of_the_cosine_turns_and_does_not_stretch():
    gradient = jax.grad(cosine_distance)(A, B)
    np.testing.assert_allclose(jnp.sum(gradient * A, axis=-1), 0.0, atol=1e-6)
    assert float(jnp.min(jnp.linalg.norm(gradient, axis=-1))) > 1e-3


def test_the_masked_distance_counts_masked_vectors_only():
    mask = jnp.zeros((3, 4), bool).at[0, 1].set(True).at[2, 3].set(True)
    term = masked_cosine_distance(A, B, mask)
    expected = (cosine(VECTORS[0, 0, 1], VECTORS[1, 0, 1]) + cosine(VECTORS[0, 2, 3], VECTORS[1, 2, 3])) / 2
    assert float(term.value) == pytest.approx(expected, rel=1e-5)
    assert float(term.count) == 2
    gradient = jax.grad(lambda a: masked_cosine_distance(a, B, mask).value)(A)
    np.testing.assert_array_equal(jnp.any(gradient != 0, axis=-1), mask)
    value, gradient = jax.value_and_grad(lambda a: masked_cosine_distance(a, B, mask & False).value)(A)
    assert float(value) == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


def test_half_precision_is_compared_in_single():
    half = [x.astype(jnp.bfloat16) for x in (A, B, TEACHER, STUDENT)]
    for value in (cosine_distance(half[0], half[1]), edge_divergence(half[2], half[3])):
        assert value.dtype == jnp.float32
    exact = cosine_distance(half[0].astype(jnp.float32), half[1].astype(jnp.float32))
    assert float(cosine_distance(half[0], half[1])) == float(exact)

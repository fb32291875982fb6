"""What the student copies of a stereo network: values in NumPy, and who gets a gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from robustdepth.errors import UserError
from robustdepth.methods import transfer as method
from robustdepth.methods.transfer import init_transfer, student_stride, transfer_for
from robustdepth.types import Batch, Camera
from tests.tiny import tiny_config

DRAW = np.random.default_rng(1)
GRID, STUDENT, GEOMETRY, BINS = (2, 3), 5, 4, 6
DECODED = {s: jnp.asarray(DRAW.normal(size=(2, 8 // s, 12 // s, STUDENT)), jnp.float32) for s in (2, 4)}
SEEN = jnp.asarray(DRAW.normal(size=(2, *GRID, GEOMETRY)), jnp.float32)
BELIEVED = jnp.asarray(softmax(3 * DRAW.normal(size=(2, *GRID, BINS)), axis=-1), jnp.float32)
TERMS = ("transfer_feature", "transfer_distribution")


def config_of(feature=0.1, distribution=0.05):
    config = tiny_config()
    config.loss.transfer_feature, config.loss.transfer_distribution = feature, distribution
    return config


def make_batch(there=(True, True), geometry=SEEN, distribution=BELIEVED) -> Batch:
    return Batch(
        target=jnp.zeros((2, 8, 12, 3)),
        sources=jnp.zeros((2, 1, 8, 12, 3)),
        source_valid=jnp.array(there)[:, None],
        camera=Camera(jnp.ones((2, 2)), jnp.ones((2, 2)), (8, 12)),
        baseline=jnp.ones(2),
        speed=jnp.zeros((2, 1)),
        index=jnp.arange(2, dtype=jnp.int32),
        source_names=("stereo",),
        geometry=geometry,
        distribution=distribution,
    )


def init(config):
    transfer = transfer_for(config.loss, GEOMETRY, BINS)
    shapes = {stride: maps.shape for stride, maps in DECODED.items()}
    return transfer, jax.jit(lambda: init_transfer(transfer, shapes, jax.random.key(0)))()


TRANSFER, PARAMS = init(config_of())
PARAMS["distribution"] = jax.tree.map(
    lambda x: x + 0.3 * jnp.cos(7.0 * jnp.arange(x.size).reshape(x.shape).astype(jnp.float32)), PARAMS["distribution"]
)


@jax.jit
def values(params, decoded, batch):
    return {name: term.value for name, term in method.terms(TRANSFER, params, decoded, batch).losses.items()}


def reference(params, features, geometry, distribution) -> dict[str, float]:
    """Both losses of one sample in float64."""
    features = np.asarray(features, np.float64).reshape(-1, STUDENT)
    projected = features @ np.asarray(params["geometry"]["kernel"], np.float64)
    taught = np.asarray(geometry, np.float64).reshape(-1, GEOMETRY)
    cosine = (projected * taught).sum(-1) / np.linalg.norm(projected, axis=-1) / np.linalg.norm(taught, axis=-1)
    head = {name: np.asarray(leaf, np.float64) for name, leaf in params["distribution"].items()}
    student = log_softmax(features @ head["kernel"] + head["bias"], axis=-1)
    p = np.asarray(distribution, np.float64).reshape(-1, BINS)
    logs = np.log(p, where=p > 0, out=np.zeros_like(p))
    return {"transfer_feature": np.mean(1 - cosine), "transfer_distribution": np.mean((p * (logs - student)).sum(-1))}


@pytest.mark.parametrize("there", [(True, True), (False, True)])
def test_both_losses_equal_float64_over_the_samples_that_have_a_pair(there):
    certain = BELIEVED.at[1, 0, 0].set(jnp.eye(BINS)[2])  # probabilities of 0 add nothing
    rows = [reference(PARAMS, DECODED[4][i], SEEN[i], certain[i]) for i in range(2) if there[i]]
    expected = {name: np.mean([row[name] for row in rows]) for name in TERMS}
    found = values(PARAMS, DECODED, make_batch(there, distribution=certain))
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-4)


def test_the_stereo_network_never_learns_from_its_student():
    def run(params, decoded, geometry, distribution):
        return values(params, decoded, make_batch(geometry=geometry, distribution=distribution))

    found = jax.jit(jax.jacrev(run, argnums=(0, 1, 2, 3)))(PARAMS, DECODED, SEEN, BELIEVED)
    for name, moved in (("transfer_feature", "geometry"), ("transfer_distribution", "distribution")):
        params, decoded, geometry, distribution = found[name]
        assert {head for head, leaves in params.items() if np.any(leaves["kernel"] != 0)} == {moved}
        assert np.linalg.norm(decoded[4]) > 1e-3
        for still in (decoded[2], geometry, distribution):
            np.testing.assert_array_equal(still, 0)


def test_nothing_counts_without_pairs():
    terms = method.terms(TRANSFER, PARAMS, DECODED, make_batch((False, False))).losses
    for name in TERMS:
        assert (float(terms[name].value), float(terms[name].count)) == (0.0, 0.0)
    assert float(method.terms(TRANSFER, PARAMS, DECODED, make_batch((True, False))).losses[TERMS[0]].count) == 6


@pytest.mark.parametrize(
    ("weights", "names"), [((0.1, 0.0), {"transfer_feature"}), ((0.0, 0.05), {"transfer_distribution"})]
)
def test_only_what_has_a_weight_is_there(weights, names):
    transfer, params = init(config_of(*weights))
    terms = jax.eval_shape(lambda: method.terms(transfer, params, DECODED, make_batch()).losses)
    assert terms.keys() == {f"transfer_{'feature' if name == 'geometry' else name}" for name in params} == names


def test_the_student_s_nearest_stride_is_resized_to_the_stereo_network_s_grid():
    assert student_stride({1: 0, 2: 0, 4: 0, 8: 0, 16: 0}) == 4
    assert student_stride({8: 0, 16: 0}) == 8
    flat = {8: jnp.broadcast_to(DECODED[4][:, :1, :1], (2, 1, 2, STUDENT))}
    found = values(PARAMS, flat, make_batch())
    spread = jnp.broadcast_to(DECODED[4][:, :1, :1], (2, *GRID, STUDENT))
    for name, value in values(PARAMS, {4: spread}, make_batch()).items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-5)


def test_half_precision_gives_losses_in_single():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (DECODED, SEEN, BELIEVED))
    found = jax.eval_shape(lambda: values(PARAMS, half[0], make_batch(geometry=half[1], distribution=half[2])))
    assert {value.dtype for value in found.values()} == {jnp.dtype("float32")}


def test_a_batch_that_no_stereo_network_has_seen_is_refused():
    with pytest.raises(UserError, match="none has seen the batch"):
        values(PARAMS, DECODED, make_batch(geometry=None))

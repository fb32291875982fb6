"""The masks of selective distillation and the loss that trains them, against cases worked out by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.methods.selective import (
    ARGMIN,
    FAILED,
    HOLD,
    INDEPENDENT,
    LEARNED,
    OFF,
    SMOOTH,
    UNKNOWN,
    Errors,
    Masks,
    binary_masks,
    mask_loss,
)

DRAW = np.random.default_rng(3)
KEY = jax.random.key(5)
LOGITS = jnp.asarray(DRAW.normal(size=(1, 4, 6, 2)), jnp.float32)
KNOWN = jnp.asarray(DRAW.random((1, 4, 6)) < 0.7)
THERE = jnp.ones(1, bool)
GREY = jnp.full((1, 4, 6, 3), 0.5)
EDGES = 1e3 * jnp.broadcast_to(jnp.asarray(np.indices((4, 6)).sum(0) % 2, jnp.float32)[None, ..., None], (1, 4, 6, 3))
NOTHING = jnp.zeros((1, 4, 6), bool)


def make_errors(proxy, own, still=0.5, known=True) -> Errors:
    """Errors of one sample from numbers or maps [height, width]."""
    planes = [jnp.broadcast_to(jnp.asarray(e, jnp.float32), (1, 4, 6)) for e in (proxy, own, still)]
    known = jnp.broadcast_to(jnp.asarray(known), (1, 4, 6))
    return Errors(jnp.where(known, planes[0], planes[0] + UNKNOWN), planes[1], planes[2], known)


def test_masks_that_do_not_learn_are_exact():
    errors = make_errors(jnp.linspace(0.0, 1.0, 24).reshape(4, 6), 0.5, known=KNOWN)
    off, argmin = binary_masks(None, errors, OFF), binary_masks(None, errors, ARGMIN)
    np.testing.assert_array_equal(off.proxy, KNOWN)
    expected = (np.linspace(0, 1, 24).reshape(1, 4, 6) < 0.5) & np.asarray(KNOWN)
    assert 0 < expected.sum() < 12
    np.testing.assert_array_equal(argmin.proxy, expected)
    for masks in (off, argmin):
        np.testing.assert_array_equal(masks.proxy + masks.own, 1.0)
    with pytest.raises(UserError, match="did you mean learned"):
        binary_masks(None, errors, "learnt")


@pytest.mark.parametrize("mode", [LEARNED, INDEPENDENT])
@pytest.mark.parametrize("key", [KEY, None])
def test_learned_masks_are_binary_and_never_take_an_unknown_proxy(mode, key):
    errors = make_errors(0.2, 0.2, known=KNOWN)
    masks = jax.jit(lambda z: binary_masks(z, errors, mode, 0.7, key))(LOGITS)
    for mask in (masks.proxy, masks.own):
        assert set(np.unique(mask)) == {0.0, 1.0}
    assert not np.asarray(masks.proxy)[~np.asarray(KNOWN)].any()
    both = np.asarray(masks.proxy + masks.own)
    if mode == LEARNED:
        np.testing.assert_array_equal(both, 1.0)
    else:
        assert 0.0 in both


def test_masks_in_evaluation_are_the_larger_logit_every_time():
    errors = make_errors(0.2, 0.2)
    first, second = (binary_masks(LOGITS, errors, LEARNED, tau) for tau in (1.0, 0.3))
    np.testing.assert_array_equal(first.proxy, LOGITS[..., 0] > LOGITS[..., 1])
    np.testing.assert_array_equal(first.proxy, second.proxy)
    apart = binary_masks(LOGITS, errors, INDEPENDENT)
    np.testing.assert_array_equal(apart.proxy, LOGITS[..., 0] > 0)
    np.testing.assert_array_equal(apart.own, LOGITS[..., 1] > 0)


@pytest.mark.parametrize("mode", [LEARNED, INDEPENDENT])
def test_the_gradient_of_a_mask_is_that_of_the_soft_choice(mode):
    errors, tau, weights = make_errors(0.2, 0.2), 0.6, jnp.arange(24.0).reshape(1, 4, 6)

    def hard(z):
        masks = binary_masks(z, errors, mode, tau, KEY)
        return jnp.sum(weights * masks.proxy) + jnp.sum(masks.own)

    def soft(z):
        noise = (jax.random.gumbel if mode == LEARNED else jax.random.logistic)(KEY, z.shape)
        pi = (jax.nn.softmax if mode == LEARNED else jax.nn.sigmoid)((z + noise) / tau)
        return jnp.sum(weights * pi[..., 0]) + jnp.sum(pi[..., 1])

    found, expected = (jax.jit(jax.grad(f))(LOGITS) for f in (hard, soft))
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_noise_takes_each_source_with_its_probability_at_every_temperature():
    logits = jnp.broadcast_to(jnp.array([0.8, -0.4]), (1, 100, 100, 2))
    planes = [jnp.zeros((1, 100, 100))] * 3
    errors = Errors(*planes, jnp.ones((1, 100, 100), bool))
    for tau in (1.0, 0.3):  # Gumbel-max: P(first) = softmax(z)_1
        share = float(jnp.mean(binary_masks(logits, errors, LEARNED, tau, KEY).proxy))
        assert share == pytest.approx(1 / (1 + math.exp(-1.2)), abs=0.015)
    share = float(jnp.mean(binary_masks(logits, errors, INDEPENDENT, 0.3, KEY).own))
    assert share == pytest.approx(1 / (1 + math.exp(0.4)), abs=0.015)


def test_the_mask_loss_by_hand():
    known = jnp.ones((1, 4, 6), bool).at[0, 0].set(False)
    errors = make_errors(0.3, 0.1, known=known)
    taken = jnp.zeros((1, 4, 6)).at[0, 1].set(1.0)  # of 18 known pixels 6 take the proxy
    failed = NOTHING.at[0, 1, :3].set(True).at[0, 0].set(True)
    soft = jnp.stack([taken, 1.0 - taken], axis=-1)
    found = mask_loss(Masks(soft, taken, 1.0 - taken, 4.0 * taken), errors, failed, THERE, GREY, LEARNED)
    rough = 2 * 6 / 18  # two steps of 1 in each of 6 columns, of 3 differences each; no edges in the guide
    expected = (6 * 0.3 + 12 * 0.1 + FAILED * 3) / 18 + SMOOTH * rough + HOLD * 4.0 * 6 / 24
    assert float(total(found)) == pytest.approx(expected, rel=1e-6)
    assert {name: float(term.count) for name, term in found.items()} == {"mask": 18, "mask/smooth": 1, "mask/hold": 24}


def total(terms):
    return sum(term.value for term in terms.values())


def slope_of(errors, mode=LEARNED, failed=NOTHING, key=KEY, logits=LOGITS):
    """The gradient of the mask loss with respect to the logits; the guide's edges switch smoothness off."""

    def loss(z):
        return total(mask_loss(binary_masks(z, errors, mode, 1.0, key), errors, failed, THERE, EDGES, mode))

    return np.asarray(jax.jit(jax.grad(loss))(logits))


FLAT = jnp.zeros((1, 4, 6, 2))


@pytest.mark.parametrize(("proxy", "own"), [(0.1, 0.4), (0.4, 0.1)])
def test_the_mask_loss_prefers_the_smaller_error(proxy, own):
    slope = slope_of(make_errors(proxy, own), logits=FLAT)
    assert np.all(np.sign(slope[..., 0]) == np.sign(proxy - own))  # descent raises the logit of the smaller error
    np.testing.assert_allclose(slope[..., 0], -slope[..., 1], rtol=1e-5)


def test_a_failed_check_speaks_against_the_proxy():
    slope = slope_of(make_errors(0.2, 0.25), failed=NOTHING.at[0, 2].set(True), logits=FLAT)
    assert np.all(slope[0, 2, :, 0] > 0)
    assert np.all(slope[0, [0, 1, 3], :, 0] < 0)


@pytest.mark.parametrize("mode", [LEARNED, INDEPENDENT])
def test_masks_that_have_taken_one_source_for_good_can_still_change_their_mind(mode):
    """Far from zero no noise reaches the other source and its error has no gradient: the square of the logits has."""
    far = FLAT.at[..., 0].set(500.0).at[..., 1].set(-500.0)
    slope = slope_of(make_errors(0.4, 0.1), mode, logits=far)
    np.testing.assert_allclose(slope, HOLD * far / (4 * 6), rtol=1e-5)  # d mean(z^2) over two logits, 24 pixels
    assert np.all(np.sign(slope) == np.sign(far))  # descent leads back, whatever the weight


@pytest.mark.parametrize("mode", [LEARNED, INDEPENDENT])
def test_unknown_proxies_neither_count_nor_blow_the_loss_up(mode):
    errors = make_errors(0.3, 0.2, known=KNOWN)
    slope = slope_of(errors, mode, logits=FLAT)
    unknown = ~np.asarray(KNOWN)
    assert unknown.any()
    np.testing.assert_array_equal(slope[unknown], 0)
    assert 0 < np.linalg.norm(slope) < 0.5
    none = mask_loss(
        binary_masks(FLAT, make_errors(0.3, 0.2, known=False), mode, 1.0, KEY), errors, NOTHING, THERE, GREY, mode
    )
    assert np.isfinite(total(none))


@pytest.mark.parametrize(
    ("proxy", "own", "still", "wanted"),
    [(0.1, 0.2, 0.3, (1, 0)), (0.2, 0.1, 0.3, (0, 1)), (0.3, 0.2, 0.1, (0, 0)), (0.1, 0.3, 0.2, (1, 0))],
)
def test_independent_masks_take_the_best_source_or_none(proxy, own, still, wanted):
    slope = slope_of(make_errors(proxy, own, still), INDEPENDENT, logits=FLAT)
    for channel in (0, 1):
        assert np.all(slope[..., channel] < 0 if wanted[channel] else slope[..., channel] > 0)


@pytest.mark.parametrize("mode", [LEARNED, INDEPENDENT])
def test_logits_that_descend_end_at_the_better_source(mode):
    better = np.zeros((1, 4, 6), bool)
    better[..., :3] = True
    errors = make_errors(np.where(better, 0.1, 0.3), 0.2)

    def loss(z, key):
        return total(mask_loss(binary_masks(z, errors, mode, 1.0, key), errors, NOTHING, THERE, GREY, mode))

    def step(z, key):
        return z - 50.0 * jax.grad(loss)(z, key), None

    descend = jax.jit(lambda z: jax.lax.scan(step, z, jax.random.split(KEY, 150))[0])
    masks = binary_masks(descend(FLAT), errors, mode)
    np.testing.assert_array_equal(masks.proxy, better)
    np.testing.assert_array_equal(masks.own, ~better)

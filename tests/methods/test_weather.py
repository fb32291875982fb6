"""Training under weather: who teaches whom, what passes gradients, and what is left alone when it is off."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.geometry.depth import DepthRange, disparity_to_depth
from robustdepth.methods import reprojection, second_view, weather
from robustdepth.methods.augment import augment
from robustdepth.methods.objective import make_loss_fn
from robustdepth.methods.reprojection import motions_of
from robustdepth.methods.second_view import pseudo_supervision
from robustdepth.methods.weather import TYPICAL, in_metres
from robustdepth.models.depth_net import DepthOutput
from tests.tiny import random_batch, tiny_config

CLEAR = {"flip": False, "strength": (0.0, 0.0, 0.0, 0.0), "grey": 0.0}
DRAW = np.random.default_rng(5)
TERMS = ("weather_photometric", "weather_consistency")


class ToyNet(nn.Module):
    """Disparity from the brightness of each pixel; two parameters, no batch statistics but a counter of calls."""

    @nn.compact
    def __call__(self, image, train):
        slope = self.param("slope", nn.initializers.constant(-2.0), ())
        bias = self.param("bias", nn.initializers.constant(-2.0), ())
        calls = self.variable("batch_stats", "calls", lambda: jnp.float32(0.0))
        if train:
            calls.value = calls.value + 1.0
        disparity = nn.sigmoid(slope * image.mean(-1) + bias)
        coarse = disparity.reshape(disparity.shape[0], 16, 2, 32, 2).mean((2, 4))
        return DepthOutput((disparity, coarse), {}, {})


class ToyPose(nn.Module):
    """The same small motion for every pair."""

    @nn.compact
    def __call__(self, first, second, train):
        self.variable("batch_stats", "calls", lambda: jnp.float32(0.0))
        motion = self.param("motion", nn.initializers.constant(0.05), (6,))
        return jnp.broadcast_to(motion, (first.shape[0], 6))


def toy_config():
    config = tiny_config(("next",))
    config.batch_size = 2
    config.data.jitter = (0.0, 0.0, 0.0, 0.0)
    config.loss.smoothness = 0.0
    config.weather.spec = "fog|sensor_noise"
    return config


@pytest.fixture
def config():
    return toy_config()


def state():
    image = jnp.zeros((1, 32, 64, 3))
    depth = ToyNet().init(jax.random.key(0), image, train=False)
    pose = ToyPose().init(jax.random.key(0), image, image, train=False)
    params = {"depth": depth["params"], "pose": pose["params"]}
    return params, {"depth": depth["batch_stats"], "pose": pose["batch_stats"]}


def experiment(config, weights: dict[str, float | str]):
    """The toy experiment's loss function and its arguments."""
    with config.ignore_type():  # a schedule is text
        config.loss.update(weights)
    params, stats = state()
    arguments = params, stats, random_batch(config), jax.random.key(3), jnp.int32(0)
    return make_loss_fn(config, ToyNet(), ToyPose()), arguments


def evaluate(config, weights: dict[str, float | str]):
    """Loss, terms and gradients of the toy experiment."""
    loss_fn, arguments = experiment(config, weights)
    return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(*arguments)


@pytest.fixture(scope="module")
def without_weather():
    return evaluate(toy_config(), dict.fromkeys(TERMS, 0.0))


def test_pseudo_supervision_equals_its_formula_in_float64():
    first, second = ([DRAW.uniform(0.1, 0.9, (2, 8 // s, 12 // s)).astype(np.float32) for s in (1, 2)] for _ in "ab")
    better = (DRAW.random((2, 8, 12)) < 0.5).astype(np.float32)
    term = pseudo_supervision(first, second, jnp.asarray(better), DepthRange(0.1, 100.0))
    expected = 0.0
    for k, m in enumerate((better, None)):
        a, b = (np.log(1 / (0.01 + 9.99 * d[k].astype(np.float64))) for d in (first, second))
        expected += np.mean(np.abs(a - b)) / 2**k / 2  # both directions have the same value; m sorts gradients
        assert m is None or m.min() == 0.0
    assert float(term.value) == pytest.approx(expected, rel=1e-5)
    assert float(term.count) == 2


def test_the_better_depth_teaches_and_is_not_taught():
    better = jnp.zeros((1, 4, 4)).at[:, :, :2].set(1.0)

    def loss(first, second):
        return pseudo_supervision([first], [second], better, DepthRange(0.1, 100.0)).value

    first, second = jnp.full((1, 4, 4), 0.3), jnp.full((1, 4, 4), 0.2)
    to_first, to_second = jax.grad(loss, argnums=(0, 1))(first, second)
    np.testing.assert_array_equal(to_first[:, :, :2], 0.0)
    np.testing.assert_array_equal(to_second[:, :, 2:], 0.0)
    # D = 1 / (0.01 + 9.99 d): d|log D - log D'| / dd = -9.99 / (0.01 + 9.99 d) towards the other, mean over 16 pixels
    np.testing.assert_allclose(to_first[:, :, 2:], 9.99 / (0.01 + 9.99 * 0.3) / 16, rtol=1e-4)
    np.testing.assert_allclose(to_second[:, :, :2], -9.99 / (0.01 + 9.99 * 0.2) / 16, rtol=1e-4)


def test_the_mask_is_the_photometric_error_and_poses_get_no_gradient(config):
    views = augment(random_batch(config), jax.random.key(0), **CLEAR)
    first, second = (jnp.asarray(DRAW.uniform(0.02, 0.2, (2, 32, 64)), jnp.float32) for _ in "ab")
    key, forward = jax.random.key(1), jnp.full((2, 6), 0.02)
    settings, base = second_view.Settings.of(config), reprojection.Settings.of(config)

    def terms(second, forward):
        motions = motions_of(views.clean, forward)
        error = reprojection.terms(base, [first], motions, views.clean, key).images["error"]
        found = second_view.terms(settings, "fog", [first], [second], motions, views.clean, error, key)
        return found.losses, error

    found, error = jax.jit(terms)(second, forward)
    motions = motions_of(views.clean, forward)
    alone, _, images = reprojection.terms(base, [second], motions, views.clean, key)
    assert float(found["fog_photometric"].value) == pytest.approx(float(alone["photometric"].value), rel=1e-6)
    photometric = jax.grad(lambda s, f: terms(s, f)[0]["fog_photometric"].value, argnums=(0, 1))
    to_second, to_motion = jax.jit(photometric)(second, forward)
    assert float(jnp.max(jnp.abs(to_second))) > 0
    np.testing.assert_array_equal(to_motion, 0.0)
    taught = jax.jit(jax.grad(lambda s: terms(s, forward)[0]["fog_consistency"].value))(second) != 0
    np.testing.assert_array_equal(taught, (error <= images["error"]) & (first != second))
    assert 0.1 < float(taught.mean()) < 0.95


def test_weather_off_leaves_the_step_as_it_was(config, without_weather):
    (off, aux), gradients = without_weather
    assert not set(TERMS) & aux.losses.keys()
    assert "weather" not in aux.images
    assert float(aux.stats["depth"]["calls"]) == 1
    (on, both), _ = evaluate(config, {"weather_photometric": 0.5, "weather_consistency": "0:1:10"})  # this is step 0
    assert float(both.stats["depth"]["calls"]) == 1  # running statistics are those of the clear view alone
    for name in aux.losses:
        np.testing.assert_allclose(aux.losses[name].value, both.losses[name].value, rtol=1e-6)
    assert float(both.losses["weather_consistency"].value) > 1e-3
    assert float(on) == pytest.approx(float(off) + 0.5 * float(both.losses["weather_photometric"].value), rel=1e-5)
    assert float(jnp.max(jnp.abs(both.images["weather"] - both.images["target"]))) > 0.05
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_weather_of_no_severity_agrees_with_the_clear_view(config, without_weather):
    config.weather.spec = "fog(0-0)|sensor_noise(0-0)"
    # of two depths that differ by rounding alone the sign is chance, so consistency weighs nothing at this step
    (_, aux), gradients = evaluate(config, {"weather_photometric": 1.0, "weather_consistency": "0:1:10"})
    np.testing.assert_array_equal(aux.images["weather"], aux.images["target"])
    assert float(aux.losses["weather_consistency"].value) < 1e-7  # the rounding of two logarithms
    assert float(aux.losses["weather_photometric"].value) == pytest.approx(float(aux.losses["photometric"].value))
    _, alone = without_weather
    np.testing.assert_allclose(gradients["pose"]["motion"], alone["pose"]["motion"], rtol=1e-4, atol=1e-7)
    for name in ("slope", "bias"):  # the photometric gradient twice
        np.testing.assert_allclose(gradients["depth"][name], 2.0 * alone["depth"][name], rtol=1e-3)


def test_each_weather_loss_may_be_on_alone(config):
    for name in TERMS:
        loss_fn, arguments = experiment(config, dict.fromkeys(TERMS, 0.0) | {name: 1.0})
        found = []

        def names(*arguments, loss_fn=loss_fn, found=found):
            loss, aux = loss_fn(*arguments)
            found += aux.losses
            return loss

        jax.eval_shape(names, *arguments)
        assert set(TERMS) & set(found) == {name}


def test_the_weather_view_follows_depth_without_gradient(config):
    views = augment(random_batch(config), jax.random.key(0), **CLEAR)
    config.data.views = ("stereo",)
    config.weather.spec = "fog(1-1)"
    settings = weather.Settings.of(config)

    def view(disparity):
        return weather.view(settings, views, disparity, jax.random.key(2), jnp.int32(0))

    near, far = (view(jnp.full((2, 16, 32), d)) for d in (0.05, 0.001))  # half the size: networks may end at stride 2
    assert float(jnp.std(far)) < 0.3 * float(jnp.std(near))
    gradient = jax.grad(lambda d: jnp.sum(view(d)))(jnp.full((2, 16, 32), 0.05))
    np.testing.assert_array_equal(gradient, 0.0)


def test_grey_networks_get_grey_weather(config):
    config.data.grey = 1.0
    views = augment(random_batch(config), jax.random.key(0), **CLEAR | {"grey": 1.0})
    config.weather.spec = "glare(1-1)"
    disparity = jnp.full((2, 32, 64), 0.05)
    image = weather.view(weather.Settings.of(config), views, disparity, jax.random.key(2), jnp.int32(0))
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_depth_without_a_scale_becomes_that_of_a_street():
    depth = jnp.asarray(DRAW.uniform(0.5, 4.0, (3, 8, 8)), jnp.float32)
    metres = in_metres(depth, is_metric=False)
    np.testing.assert_allclose(np.exp(np.log(metres).mean((1, 2))), TYPICAL, rtol=1e-5)
    ratio = np.asarray(metres / depth)
    np.testing.assert_allclose(ratio.max((1, 2)), ratio.min((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(in_metres(depth, is_metric=True), depth)
    assert float(disparity_to_depth(jnp.ones(()), 0.1, 100.0)) == pytest.approx(0.1, rel=1e-5)


def test_an_unknown_condition_stops_before_training(config):
    config.weather.spec = "fgo"
    with pytest.raises(UserError, match="did you mean fog"):
        evaluate(config, {"weather_photometric": 1.0})

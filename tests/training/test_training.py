"""The training step, its health checks and the loop, on the smallest real experiment."""

import dataclasses
import re
from functools import partial
from operator import itemgetter

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.methods.method import Aux, weighted_sum
from robustdepth.methods.objective import make_loss_fn
from robustdepth.models.depth_net import DepthOutput
from robustdepth.runtime import sharding
from robustdepth.training import health
from robustdepth.training.loop import _Done, _Loop
from robustdepth.training.optimizer import learning_rate, make_optimizer
from robustdepth.training.parts import accumulated, on_each_device, split
from robustdepth.training.replay import read_bad_batch
from robustdepth.training.setup import make_state
from robustdepth.training.step import StepLog, make_step
from robustdepth.types import Batch, Term, TrainState
from tests.tiny import random_batch, tiny_config

pytestmark = pytest.mark.usefixtures("compiled_for_real")
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def optax_promotes_types():
    """Optax multiplies Python floats with its integer step count, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_learning_rate_warms_up_and_drops():
    config = tiny_config(steps=100)
    config.optimizer.update(learning_rate=0.1, warmup_steps=10, drops=(0.5, 0.9), drop_factor=0.1)
    rate = learning_rate(config)
    np.testing.assert_allclose(
        [rate(0), rate(9), rate(49), rate(51), rate(91)], [0.01, 0.1, 0.1, 0.01, 0.001], rtol=1e-5
    )


def test_training_stops_with_the_cause_after_too_many_bad_steps(tmp_path):
    batch = dataclasses.replace(
        unequal_batch(tiny_config()), expert=np.ones((8, 2, 4, 3), np.float32), labels=np.zeros((8, 32, 64), np.int32)
    )
    path = health.save_bad_batch(batch, 7, tmp_path)
    again = read_bad_batch(path)
    assert (again.source_names, again.camera.size) == (batch.source_names, batch.camera.size)
    jax.tree.map(np.testing.assert_array_equal, again, batch)  # every field
    terms = {"loss": float("nan"), "photometric": float("nan"), "smoothness": 0.1}
    health.stop_if_hopeless(4, 7, terms, path, limit=5)
    with pytest.raises(UserError, match=r"5 steps in a row up to step 7 .*\(loss, photometric\).*replay .*7.npz"):
        health.stop_if_hopeless(5, 7, terms, path, limit=5)


def test_a_step_that_is_not_finite_changes_nothing_but_the_counts():
    config = tiny_config()
    optimizer = make_optimizer(config)

    def loss_fn(params, stats, batch, key, step):
        mean = jnp.mean(batch.baseline)
        return params["w"] * mean, Aux({"mean": mean}, {}, {}, {})

    step = jax.jit(make_step(config, loss_fn, optimizer))
    whole = random_batch(config)
    broken = dataclasses.replace(whole, baseline=np.full_like(whole.baseline, np.nan))
    params, zero = {"w": jnp.ones(())}, jnp.int32(0)
    state = TrainState(zero, params, {"mean": jnp.float32(0)}, optimizer.init(params), {}, zero, zero)
    good, log = step(state, whole)
    assert bool(log.ok)
    assert good.params["w"] < 1
    bad, log = step(good, broken)
    assert not bool(log.ok)
    assert (int(bad.step), int(bad.skipped), int(bad.skipped_in_row)) == (2, 1, 1)
    for name in ("params", "stats", "opt_state"):
        jax.tree.map(np.testing.assert_array_equal, getattr(bad, name), getattr(good, name))
    better, log = step(bad, whole)
    assert bool(log.ok)
    assert (int(better.skipped), int(better.skipped_in_row)) == (1, 0)
    assert better.params["w"] < bad.params["w"]


def quadratic(params, stats, batch, key, step):
    """A loss that differs from example to example, counted by them."""
    error = batch.baseline * params["w"] - jnp.mean(batch.target.astype(jnp.float32) / 255.0, axis=(1, 2, 3))
    count = jnp.float32(error.shape[0])
    term = Term(jnp.mean(jnp.square(error)), count)
    images = {"target": batch.target[:, :1]}
    return term.value, Aux({"seen": stats["seen"] + count}, {"square": term}, {"error": term}, images)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_one_after_another_give_the_whole_batchs_gradient(parts):
    config = tiny_config()
    batch = random_batch(config)
    batch = dataclasses.replace(batch, baseline=np.linspace(0.1, 0.9, config.batch_size, dtype=np.float32))
    arguments = {"w": jnp.float32(0.7)}, {"seen": jnp.float32(0)}, batch, jax.random.key(0), jnp.int32(0)
    total = partial(weighted_sum, config.loss)
    (loss, aux), gradient = jax.jit(accumulated(quadratic, 1, total))(*arguments)
    (mean, merged), summed = jax.jit(accumulated(quadratic, parts, total))(*arguments)
    np.testing.assert_allclose([mean, summed["w"]], [loss, gradient["w"]], rtol=1e-6)
    assert float(merged.stats["seen"]) == float(aux.stats["seen"]) == config.batch_size
    for name in ("losses", "watched"):
        (term,), (whole,) = getattr(merged, name).values(), getattr(aux, name).values()
        np.testing.assert_allclose([term.value, term.count], [whole.value, whole.count], rtol=1e-6)
    assert merged.images["target"].shape[0] == config.batch_size // parts


class Lookup(nn.Module):
    """A depth network that computes in a moment: disparity from nearby colours, perhaps with batch statistics."""

    normalises: bool = False

    @nn.compact
    def __call__(self, image, train):
        image = nn.BatchNorm(not train, momentum=0.9)(image) if self.normalises else image
        first = nn.sigmoid(nn.Conv(1, (3, 3))(image)[..., 0])
        return DepthOutput([first, first[:, ::2, ::2]], {}, None)


def unequal_batch(config: ConfigDict) -> Batch:
    """A batch whose parts hold unequal numbers of everything that can be missing.

    Of the even samples (the first of two parts) half have no stereo view, and the others few proxies.
    """
    batch, size = random_batch(config), config.batch_size
    disparity = np.random.default_rng(1).uniform(1, 8, (size, *config.image_size)).astype(np.float32)
    disparity[::2, 3:] = 0.0
    valid = np.ones((size, 1), bool)
    valid[::4] = False
    return dataclasses.replace(batch, source_valid=valid, disparity=disparity)


@pytest.mark.parametrize("how", ["in turns", "on devices"])
def test_parts_give_the_gradient_of_the_whole_batch_also_where_they_hold_unequal_counts(how):
    config = tiny_config()
    config.data.flip, config.data.jitter = False, (0.0,) * 4  # random draws are each part's own
    config.reprojection.auto_mask = False  # it draws noise
    config.loss.update(geometric=0.1, proxy=0.1, smoothness=0.1)
    config.selective.update(proxy="truth", mask="off")
    batch = unequal_batch(config)
    params = {"depth": Lookup().init(KEY, jnp.zeros((1, *config.image_size, 3)), train=True)["params"]}
    loss_fn, total = make_loss_fn(config, Lookup(), None), partial(weighted_sum, config.loss)
    mesh = sharding.make_mesh("data", jax.devices()[:4])
    parted = accumulated(loss_fn, 2, total) if how == "in turns" else on_each_device(loss_fn, mesh, total)
    arguments = params, {"depth": {}}, batch, KEY, jnp.int32(0)
    (loss, aux), gradient = jax.jit(accumulated(loss_fn, 1, total))(*arguments)
    (joined, merged), summed = jax.jit(parted)(*arguments)
    np.testing.assert_allclose(joined, loss, rtol=1e-5)
    assert merged.losses.keys() == aux.losses.keys() == {"photometric", "smoothness", "geometric", "proxy"}
    for name, term in aux.losses.items():
        np.testing.assert_allclose(merged.losses[name].value, term.value, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(merged.losses[name].count, term.count, rtol=1e-5, err_msg=name)
    norm = optax.tree.norm(gradient)
    assert norm > 1e-3
    assert optax.tree.norm(jax.tree.map(jnp.subtract, summed, gradient)) < 1e-5 * norm


def test_on_devices_every_one_normalises_by_its_own_rows():
    """Against the loss of each device's rows by itself; and running statistics are the mean of what each would keep."""
    config = tiny_config()
    config.data.flip, config.data.jitter = False, (0.0,) * 4
    config.reprojection.auto_mask = False
    batch, total = random_batch(config), partial(weighted_sum, config.loss)
    batch = dataclasses.replace(batch, target=batch.target // np.arange(1, 9, dtype=np.uint8)[:, None, None, None])
    variables = Lookup(True).init(KEY, jnp.zeros((1, *config.image_size, 3)), train=True)
    params, stats = ({"depth": variables[name]} for name in ("params", "batch_stats"))
    loss_fn = make_loss_fn(config, Lookup(True), None)
    mesh = sharding.make_mesh("data", jax.devices()[:4])
    (loss, merged), gradient = jax.jit(on_each_device(loss_fn, mesh, total))(params, stats, batch, KEY, jnp.int32(0))
    of_rows = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    each = [
        of_rows(params, stats, jax.tree.map(itemgetter(slice(first, first + 2)), batch), KEY, jnp.int32(0))
        for first in range(0, 8, 2)
    ]
    mean = partial(jax.tree.map, lambda *leaves: np.mean([np.asarray(leaf, np.float64) for leaf in leaves], axis=0))
    close = partial(jax.tree.map, partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7))
    np.testing.assert_allclose(loss, np.mean([value for (value, _), _ in each]), rtol=1e-5)
    close(gradient, mean(*[one for _, one in each]))
    close(merged.stats, mean(*[aux.stats for (_, aux), _ in each]))
    _, of_batch = of_rows(params, stats, batch, KEY, jnp.int32(0))
    difference = optax.tree.norm(jax.tree.map(jnp.subtract, gradient, of_batch))
    assert difference > 0.01 * optax.tree.norm(of_batch)  # by the whole batch's statistics it is another one
    assert jax.tree.leaves(merged.images)[0].shape[0] == config.batch_size


def test_batch_statistics_are_those_of_the_clear_view_alone():
    """A second view has others: with their mixture the network would be used as it never was."""
    config = tiny_config()
    variables = Lookup(True).init(KEY, jnp.zeros((1, *config.image_size, 3)), train=True)
    found = []
    for weight in (0.0, 1.0):
        config.loss.texture_photometric = weight
        loss_fn = jax.jit(make_loss_fn(config, Lookup(True), None))
        trees = ({"depth": variables[name]} for name in ("params", "batch_stats"))
        found.append(loss_fn(*trees, random_batch(config), KEY, jnp.int32(0))[1])
    clear, both = found
    assert both.losses.keys() - clear.losses.keys() == {"texture_photometric"}
    jax.tree.map(np.testing.assert_array_equal, both.stats, clear.stats)
    assert float(jnp.max(jnp.abs(clear.stats["depth"]["BatchNorm_0"]["mean"]))) > 0.01


def test_statistics_are_averaged_as_parameters_are():
    config = tiny_config()
    config.optimizer.update(ema_decay=0.75, warmup_steps=0)
    optimizer = make_optimizer(config)

    def loss_fn(params, stats, batch, key, step):
        return jnp.square(params["w"]), Aux({"mean": stats["mean"] + 1.0}, {}, {}, {})

    state = make_state(
        config, {"net": {"params": {"w": jnp.float32(1)}, "batch_stats": {"mean": jnp.float32(0)}}}, optimizer
    )
    state = state.replace(
        params=state.params["net"], stats=state.stats["net"], opt_state=optimizer.init({"w": jnp.float32(1)})
    )
    state = state.replace(ema={name: state.ema[name]["net"] for name in ("params", "stats")})
    step = jax.jit(make_step(config, loss_fn, optimizer))
    weight, mean = 1.0, 0.0
    for decay, count in [(0.1, 1), (2 / 11, 2)]:  # (1 + step) / (10 + step), below 0.75 until step 26
        state, _ = step(state, random_batch(config))
        weight = decay * weight + (1 - decay) * float(state.params["w"])
        mean = decay * mean + (1 - decay) * count
    assert float(state.ema["stats"]["mean"]) == pytest.approx(mean)
    assert float(state.ema["params"]["w"]) == pytest.approx(weight)
    state, _ = step(state.replace(step=jnp.int32(30)), random_batch(config))
    assert float(state.ema["stats"]["mean"]) == pytest.approx(0.75 * mean + 0.25 * 3)


def test_a_batch_that_does_not_divide_into_the_devices_parts_is_refused_at_the_start():
    sharding.check_divides(16, 8, 2)
    with pytest.raises(UserError, match=r"=8 does not divide by 8 devices in 2 parts each \(.*\); use 16\."):
        sharding.check_divides(8, 8, 2)
    with pytest.raises(UserError, match=r"=24 does not divide by 8 devices in 2 parts .*; use 16 or 32\."):
        sharding.check_divides(24, 8, 2)


def test_no_example_moves_to_another_device_for_accumulation():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    leaf = jnp.arange(8, dtype=jnp.float32)
    placed = jax.device_put(leaf, sharding.batch_sharding(mesh))
    assert split(leaf, 2).tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    program = jax.jit(lambda x: jax.lax.map(jnp.sin, split(x, 2))).lower(placed).compile().as_text()
    assert not re.search(r"all-to-all|all-gather|collective-permute", program)


class Reader:
    """A stream whose every batch takes a second to read."""

    seconds_waited = 0.0

    def __next__(self) -> Batch:
        self.seconds_waited += 1.0
        return random_batch(tiny_config())


class Running:
    def __init__(self, ended: bool):
        self.is_ready = lambda: ended


def test_reading_counts_as_waiting_only_where_the_devices_had_nothing_to_do():
    loop = object.__new__(_Loop)  # without all that reading needs nothing of
    loop.stream, loop.seconds_idle = Reader(), 0.0
    idle = []
    for ended in (None, False, True):
        loop._next(None if ended is None else _Done(0, StepLog(Running(ended), None, {}, {}), None))
        idle.append(loop.seconds_idle)
    assert idle == [1.0, 1.0, 2.0]

"""Depth near that of the starting networks: its term against NumPy, who looks at what, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import adapt
from robustdepth.errors import UserError
from robustdepth.methods.augment import mirror, to_float
from robustdepth.methods.objective import make_loss_fn
from robustdepth.methods.start import start_term
from robustdepth.models.build import build_networks
from robustdepth.runtime import config as configs
from robustdepth.runtime import init_from, sharding
from robustdepth.runtime.checkpoint import Weights
from robustdepth.teachers.starting_network import load_starting_network
from robustdepth.training.setup import build, init_variables
from tests.tiny import random_batch, tiny_config


def maps(count: int) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.uniform(1.0, 80.0, (3, 6, 8)).astype(np.float32) for _ in range(count)]


def drawn(config, networks):
    """Random variables of the networks, by one program: operation by operation, compiling takes the most time."""
    return jax.jit(lambda: init_variables(config, networks))()


def predicted(network, variables, batch) -> np.ndarray:
    """Disparities of the batch's targets; Float32 [batch, height, width]."""
    images = np.asarray(batch.target, np.float32) / 255
    return np.asarray(jax.jit(lambda v, x: network.apply(v, x, train=False).disparities[0])(variables, images))


def test_only_samples_without_any_true_depth_are_compared():
    depth, start = maps(2)
    truth = np.zeros_like(depth)
    truth[1, 2, 3] = 5.0
    error = np.abs(np.log(depth.astype(np.float64)) - np.log(start.astype(np.float64)))
    found = start_term(jnp.asarray(depth), jnp.asarray(start), jnp.asarray(truth))
    np.testing.assert_allclose(found.value, error[[0, 2]].mean(), rtol=1e-5)
    assert found.count == 2 * 6 * 8
    everywhere = start_term(jnp.asarray(depth), jnp.asarray(start), None)
    np.testing.assert_allclose(everywhere.value, error.mean(), rtol=1e-5)


def test_the_gradient_pulls_depth_towards_the_start():
    depth, start = (jnp.asarray(values) for values in maps(2))
    gradient = jax.grad(lambda d: start_term(d, start, None).value)(depth)
    np.testing.assert_array_equal(jnp.sign(gradient), jnp.sign(depth - start))


def test_the_starting_network_teaches_what_it_predicts(monkeypatch):
    config = tiny_config()
    config.init_from, config.image_size = "runs/earlier", (32, 32)
    network = build_networks(config)["depth"]
    own = drawn(config, {"depth": network})["depth"]
    config.seed = 1
    earlier = drawn(config, {"depth": network})["depth"]
    weights = Weights(config, {"depth": earlier["params"]}, {"depth": earlier["batch_stats"]}, 7)
    monkeypatch.setattr(init_from, "read_model", lambda path: weights)
    mesh = sharding.make_mesh("data")
    batch = sharding.put_batch(random_batch(config), mesh)
    taught = load_starting_network(config, network, own, mesh).teach(batch)
    disparity = predicted(network, earlier, batch)
    low, high = 1 / config.model.max_depth, 1 / config.model.min_depth
    np.testing.assert_allclose(1 / taught.start, low + (high - low) * np.asarray(disparity), rtol=1e-4)
    assert np.std(taught.start) > 0.01


def test_a_mirrored_sample_has_a_mirrored_start():
    batch = random_batch(tiny_config())
    start = np.random.default_rng(1).uniform(1.0, 9.0, batch.target.shape[:3]).astype(np.float32)
    chosen = jnp.arange(8) % 2 == 1
    found = mirror(to_float(dataclasses.replace(batch, start=jnp.asarray(start))), chosen).start
    np.testing.assert_array_equal(found[0], start[0])
    np.testing.assert_array_equal(found[1], start[1][:, ::-1])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"init_from": ""}, "name them in config.init_from"), ({"data.world_share": 1.0}, "leaves none of them")],
)
def test_a_start_that_nothing_could_teach_is_refused(changes, sentence):
    config = adapt.get_config()
    config.data.root = "footage"
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=sentence):
        configs.check(config)


def test_with_frozen_statistics_training_begins_at_the_start():
    """Without jitter the first depth is then that of evaluation, and statistics stay as they were loaded."""
    config = tiny_config(("next",))
    config.data.jitter, config.data.flip = (0.0, 0.0, 0.0, 0.0), False
    networks = build_networks(config)
    variables = drawn(config, networks)
    stats = {name: jax.tree.map(lambda x: x + 0.3, tree["batch_stats"]) for name, tree in variables.items()}
    params = {name: tree["params"] for name, tree in variables.items()}
    batch = random_batch(config)
    wanted = predicted(networks["depth"], {"params": params["depth"], "batch_stats": stats["depth"]}, batch)
    shown = {}
    for frozen in (True, False):
        config.model.freeze_statistics = frozen
        loss_fn = jax.jit(make_loss_fn(config, networks["depth"], networks["pose"]))
        shown[frozen] = loss_fn(params, stats, batch, jax.random.key(0), jnp.int32(0))[1]
    np.testing.assert_allclose(shown[True].images["disparity"], wanted, rtol=1e-5)
    assert np.max(np.abs(shown[False].images["disparity"] / wanted - 1)) > 1e-3
    jax.tree.map(np.testing.assert_array_equal, shown[True].stats, stats)
    assert not np.allclose(jax.tree.leaves(shown[False].stats)[0], jax.tree.leaves(stats)[0])


def test_a_training_begins_at_its_start_and_is_held_there(monkeypatch):
    """Without jitter and mirrors, by frozen statistics, the term is 0 at the first step, and then enters the loss."""
    config = tiny_config(("next",))
    config.init_from, config.model.freeze_statistics, config.loss.start = "runs/earlier", True, 10.0
    config.data.update(name="frames", root="footage", world_share=0.0, jitter=(0.0, 0.0, 0.0, 0.0), flip=False)
    config.image_size, config.optimizer.learning_rate = (32, 32), 1e-2
    variables = drawn(config, build_networks(config))
    weights = Weights(
        config,
        {name: tree["params"] for name, tree in variables.items()},
        {name: tree["batch_stats"] for name, tree in variables.items()},
        7,
    )
    monkeypatch.setattr(init_from, "read_model", lambda path: weights)
    mesh = sharding.make_mesh("data")
    experiment = build(config, mesh)
    state, batch, logs = experiment.initial_state(), sharding.put_batch(random_batch(config), mesh), []
    for _ in range(2):
        with jax.numpy_dtype_promotion("standard"):  # for optax
            state, log = experiment.step(state, batch)
        logs.append({name: float(term.value) for name, term in log.terms.items()})
    assert logs[0]["start"] < 1e-6
    assert logs[1]["start"] > 1e-3
    others = sum(config.loss[name] * logs[1][name] for name in ("photometric", "smoothness"))
    assert logs[1]["loss"] == pytest.approx(others + 10.0 * logs[1]["start"], rel=1e-4)

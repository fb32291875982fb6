"""Where arrays live: rules, a training whose parameters are split, and what devices say to each other meanwhile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from configs import world_selective, world_structure
from robustdepth.compiling.collectives import Kind, by_kind, collectives
from robustdepth.errors import UserError
from robustdepth.methods.method import Aux
from robustdepth.runtime import sharding
from robustdepth.training.optimizer import make_optimizer
from robustdepth.training.setup import build
from robustdepth.training.step import make_step
from robustdepth.types import NEXT, PREVIOUS, STEREO, Term, TrainState
from tests.conftest import takes_minutes
from tests.fixtures.make_sharding_golden import CONFIGS, FOLDER, SPLIT, lines_of
from tests.tiny import random_batch, shrink, tiny_config


@pytest.fixture(autouse=True)
def as_in_production():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh("data")


def tree():
    shapes = {"kernel": (3, 3, 64, 128), "odd": (3, 3, 5, 7), "bias": (128,), "square": (256, 256)}
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()} | {"step": jnp.int32(0)}


def specs(rules, mesh) -> dict[str, P]:
    return {name: place.spec for name, place in sharding.shardings_by_rules(tree(), rules, mesh).items()}


def test_longest_splits_large_arrays_along_an_axis_that_divides(mesh):
    whole, last = P(), P(None, None, None, "data")
    assert specs(SPLIT, mesh) == {
        "kernel": last,
        "odd": whole,
        "bias": whole,
        "square": P(None, "data"),
        "step": whole,
    }


def test_the_first_matching_rule_counts(mesh):
    found = specs((("kernel", (None, None, "data")), ("square|odd", ()), (".*", ("data",))), mesh)
    assert (found["kernel"], found["square"], found["bias"]) == (P(None, None, "data"), P(), P("data"))


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ((("kernel", ()),), 'no sharding rule .* matches "bias"'),
        ((("kernels", ()), (".*", ())), '"kernels" of config.sharding.rules matches no parameter'),
        ((("bias", (None, "data")), (".*", ())), r'"bias" to bias, whose 1 axes \(None, \'data\'\) does not fit'),
        ((("bias", ("model",)), (".*", ())), "the mesh has data"),
        ((("odd", ("data",)), (".*", ())), "its axis 0 of 3 does not divide by the 8 devices"),
        ((("odd", "shortest"), (".*", ())), 'gives "shortest"'),
    ],
)
def test_rules_that_cannot_be_right_are_refused(mesh, rules, sentence):
    with pytest.raises(UserError, match=sentence):
        sharding.shardings_by_rules(tree(), rules, mesh)


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_lie_where_they_lay(name, mesh):
    """Splitting moves only on purpose: python -m tests.fixtures.make_sharding_golden writes these files."""
    lines = lines_of(name, mesh)
    assert lines == (FOLDER / f"{name}.txt").read_text().splitlines()
    large = [line for line in lines if np.prod([int(n) for n in line.split()[1].split("x")]) >= sharding.SMALLEST]
    split = sum("data" in line for line in large)
    assert split > 0.9 * len(large)


def linear(params, stats, batch, key, step):
    """A loss of one large matrix."""
    rows = batch.target.reshape(batch.target.shape[0], -1)[:, :256].astype(jnp.float32) / 255.0
    value = jnp.mean(jnp.square(rows @ params["depth"]["kernel"]))
    return value, Aux(stats, {"square": Term(value, jnp.float32(rows.shape[0]))}, {}, {})


def trained(rules, mesh, steps: int = 3):
    """Losses of a few steps, the last state, and the program of the step."""
    config = tiny_config()
    optimizer = make_optimizer(config)
    kernel = 0.1 * jax.random.normal(jax.random.key(0), (256, 256))
    zero = jnp.int32(0)
    params = {"depth": {"kernel": kernel}}
    state = TrainState(zero, params, {}, optimizer.init(params), {}, zero, zero)
    places = sharding.shardings_by_rules(state, rules, mesh)
    step = jax.jit(
        make_step(config, linear, optimizer),
        in_shardings=(places, sharding.batch_sharding(mesh)),
        out_shardings=(places, sharding.replicated(mesh)),
    )
    state, losses = jax.device_put(state, places), []
    batch = sharding.put_batch(random_batch(config), mesh)
    program = step.lower(state, batch).compile().as_text()
    for _ in range(steps):
        state, log = step(state, batch)
        losses.append(float(log.terms["loss"].value))
    return losses, state, set(by_kind(collectives(program)))


def test_split_parameters_learn_the_same_and_devices_say_what_they_must(mesh):
    losses, state, said = trained(((".*", ()),), mesh)
    split_losses, split_state, split_said = trained(SPLIT, mesh)
    assert losses[2] < losses[0]
    np.testing.assert_allclose(split_losses, losses, rtol=1e-5)
    of_device = [
        sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(s)) for s in (split_state, state)
    ]
    assert of_device[0] < of_device[1] / 7  # parameters and both moments of Adam, on 8 devices
    assert said == {"all-reduce"}  # of gradients and means: nothing else leaves a device
    assert "all-gather" in split_said  # of parameters, before they are used
    assert not split_said & {"all-to-all", "collective-permute"}


def exchanged(config, mesh) -> dict[str, Kind]:
    """What the devices exchange in the real step of a config, by kind."""
    config.batch_size = 2 * mesh.size  # so that the rows of one device are more than one
    batch = sharding.put_batch(random_batch(config), mesh)
    experiment = build(config, mesh)
    program = experiment.step.lower(experiment.template, batch).compile().as_text()
    return by_kind(collectives(program))


def test_real_step_exchanges_means_alone(mesh):
    """Gradients, batch statistics and logged means: no image leaves the device that holds its sample."""
    assert set(exchanged(tiny_config((PREVIOUS, NEXT)), mesh)) == {"all-reduce"}


def test_with_statistics_of_each_device_the_real_step_meets_a_few_times(mesh):
    """To count, and to add gradients, running statistics and logged means; elsewhere at every layer, each way."""
    alone = tiny_config((PREVIOUS, NEXT))
    alone.sharding.statistics = "device"
    found = exchanged(alone, mesh)
    assert set(found) == {"all-reduce"}
    assert found["all-reduce"].times <= 8


@takes_minutes
def test_steps_of_both_methods_exchange_means_alone(mesh):
    """But for the interfering texture, which is another sample's: the first of the next device."""
    parts = tiny_config((PREVIOUS, NEXT, STEREO))
    parts.optimizer.accumulate = 2
    assert set(exchanged(parts, mesh)) == {"all-reduce"}
    structured = shrink(world_structure.get_config())
    structured.semantics.stride = 8
    selected = shrink(world_selective.get_config("distribution"))
    for config, others in ((structured, {"collective-permute": 1}), (selected, {})):
        found = exchanged(config, mesh)
        assert {kind: total.times for kind, total in found.items() if kind != "all-reduce"} == others
    assert set(found) == {"all-reduce"}

"""Random streams: what a step draws, and what its networks start from, never share a key."""

import collections
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import world_selective, world_structure
from robustdepth.conditions.spec import CONDITIONS
from robustdepth.methods.objective import METHODS, SECOND_VIEWS, make_loss_fn
from robustdepth.methods.semantics import graph_for, init_graph
from robustdepth.methods.stereo_training import make_stereo_loss
from robustdepth.methods.transfer import init_transfer, transfer_for
from robustdepth.models.build import build_networks
from robustdepth.streams import initial_key, step_key, stream
from robustdepth.training.setup import decoded_shapes, init_variables
from robustdepth.types import Camera
from tests.tiny import random_batch, shrink, tiny_config

SAMPLERS = ("uniform", "normal", "bernoulli", "categorical", "choice", "randint", "gumbel", "logistic", "bits")


class Keys:
    """Which keys are used up (drawn from, or split), and into which names and numbers are folded."""

    def __init__(self, monkeypatch):
        self.used: collections.Counter = collections.Counter()
        self.folded: set = set()
        self.unknown: jax.Array | None = None
        for name in SAMPLERS:
            monkeypatch.setattr(jax.random, name, self._watch(self._hide(getattr(jax.random, name)), self._count))
        monkeypatch.setattr(jax.random, "split", self._watch(jax.random.split, self._count))
        monkeypatch.setattr(jax.random, "fold_in", self._watch(jax.random.fold_in, self.folded.add))

    def use(self, key) -> None:
        self._count(self._value(key))

    def trace(self, function, *arguments) -> None:
        """Runs a function on shapes alone; random keys have values, what is drawn from them has none."""

        def run(unknown, *arguments):
            self.unknown = unknown
            with jax.ensure_compile_time_eval():
                return function(*arguments)

        jax.eval_shape(run, jnp.uint32(0), *arguments)
        self.unknown = None

    def _hide(self, sampler):
        """The sampler, which is only traced while a function is: compiling all of them takes most of the time."""

        def hidden(key, *arguments, **options):
            if self.unknown is not None:
                key = jax.random.wrap_key_data(jax.random.key_data(key) ^ self.unknown)
            return sampler(key, *arguments, **options)

        return hidden

    def _count(self, value: tuple[int, ...]) -> None:
        self.used[value] += 1

    @staticmethod
    def _value(key) -> tuple[int, ...]:
        return tuple(jax.random.key_data(key).tolist())  # fails where the key has no value yet

    def _watch(self, function, note):
        def watched(key, *arguments, **options):
            note(self._value(key))
            return function(key, *arguments, **options)

        return watched

    def check(self, shared: tuple = ()) -> None:
        """No key has two uses, but for those that are `shared` on purpose, and none that is used is folded into."""
        allowed = {self._value(key) for key in shared}
        assert not [key for key, times in self.used.items() if times > 1 and key not in allowed]
        assert not self.folded & self.used.keys()


def everything():
    """Both papers, weather and true depth at once: the objective with all that draws, parameters and a batch."""
    config = world_structure.get_config("full")
    config.update_from_flattened_dict(world_selective.ROWS["distribution"])
    config.loss.weather_photometric = config.loss.weather_consistency = config.loss.truth = 0.1
    config = shrink(config)
    config.batch_size, config.data.grey, config.data.camera_effects = 2, 0.3, 1.0
    config.data.views = ("next", "stereo")
    config.weather.spec = "fog|rain+night"
    networks = build_networks(config)
    learnt = {"semantics": graph_for(config.semantics, 6), "transfer": transfer_for(config.loss, 4, 6)}
    batch = random_batch(config)
    maps = {name: np.zeros((2, 8, 16, c), np.float32) for name, c in (("geometry", 4), ("distribution", 6))}
    batch = batch.replace(expert=np.zeros((2, 4, 8, 6), np.float32), disparity=np.ones((2, 32, 64), np.float32), **maps)
    shapes = decoded_shapes(config, networks["depth"])
    key = jax.random.key(0)
    params = {
        "semantics": jax.eval_shape(lambda: init_graph(learnt["semantics"], shapes[8], (1, 4, 8, 6), key)),
        "transfer": jax.eval_shape(lambda: init_transfer(learnt["transfer"], shapes, key)),
    }
    return config, networks, make_loss_fn(config, networks["depth"], networks["pose"], learnt), params, batch


def stereo():
    """The stereo teacher with cameras that differ."""
    config = tiny_config()
    config.task, config.batch_size = "stereo", 2
    config.data.grey, config.stereo.exposure, config.stereo.noise = 0.3, 0.2, 0.1
    networks = build_networks(config)
    return config, networks, make_stereo_loss(config, networks["stereo"]), {}, random_batch(config)


@pytest.mark.parametrize("make", [everything, stereo])
def test_no_key_is_used_twice_in_a_step_and_in_what_networks_start_from(make, monkeypatch):
    config, networks, loss_fn, params, batch = make()
    variables = jax.eval_shape(lambda: init_variables(config, networks))
    params |= {name: tree["params"] for name, tree in variables.items()}
    stats = {name: tree.get("batch_stats", {}) for name, tree in variables.items()}
    key, keys = step_key(config.seed, jnp.int32(1)), Keys(monkeypatch)
    for name in params:
        keys.use(initial_key(config.seed, name))
    auto_mask = stream(key, "auto_mask")  # all views of a target meet the same mask
    keys.trace(lambda *arguments: loss_fn(*arguments, key, jnp.int32(1))[0], params, stats, batch)
    keys.check(shared=(auto_mask,))
    assert len(keys.used) > (40 if make is everything else 10)


def test_no_key_is_used_twice_in_any_condition(monkeypatch):
    image, depth, severity = jnp.zeros((2, 32, 64, 3)), jnp.ones((2, 32, 64)), jnp.ones(2)
    camera = Camera(jnp.full((2, 2), 40.0), jnp.full((2, 2), 16.0), (32, 64))
    roots = [jax.random.key(number) for number in range(len(CONDITIONS))]
    keys = Keys(monkeypatch)
    for root, condition in zip(roots, CONDITIONS.values(), strict=True):
        keys.trace(lambda *maps, c=condition, k=root: c(*maps, camera, k, severity), image, depth)
    keys.check()


def test_a_key_that_serves_two_purposes_is_found(monkeypatch):
    key = jax.random.key(0)
    clash = jax.random.fold_in(key, 1)
    for use in (lambda: jax.random.normal(jax.random.split(key)[1]), lambda: jax.random.fold_in(clash, 7)):
        with monkeypatch.context() as patch:
            keys = Keys(patch)
            keys.trace(lambda: jax.random.uniform(clash))
            keys.check()
            keys.trace(use)
            with pytest.raises(AssertionError):
                keys.check()


def test_steps_and_parts_of_a_batch_draw_their_own():
    keys = [step_key(0, jnp.int32(step)) for step in range(5)]
    keys += [jax.random.fold_in(stream(keys[0], "part"), number) for number in range(5)]
    keys += [initial_key(0, name) for name in ("depth", "pose")]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == len(keys)
    assert step_key(1, jnp.int32(0)) != keys[0]


def test_names_are_far_from_the_numbers_that_keys_are_folded_with():
    names = ["initial", "step", "part", "augment", "mirror", "jitter", "grey", "camera", "auto_mask", "cameras"]
    names += [*METHODS, *SECOND_VIEWS]
    constants = {zlib.crc32(name.encode()) for name in names}
    assert len(constants) == len(names)
    assert min(constants) > 1e6

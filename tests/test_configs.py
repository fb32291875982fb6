"""Every experiment file: loads, can be run as it stands, and takes a training step when shrunk."""

import dataclasses
import importlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict

from configs import real_streets, world_bundled, world_selective, world_structure
from robustdepth.methods.method import weight_at
from robustdepth.runtime import config as configs
from robustdepth.runtime import sharding
from robustdepth.teachers.stereo_teacher import load_teacher
from robustdepth.training import setup
from robustdepth.training.setup import build
from robustdepth.training.step import StepLog
from tests.conftest import REPOSITORY, takes_minutes
from tests.tiny import random_batch, shrink

NAMES = sorted(path.stem for path in (REPOSITORY / "configs").glob("*.py") if path.stem != "__init__")
GOLDEN = REPOSITORY / "tests" / "golden"
LARGE = ("kitti_structure_resnet18", "kitti_structure_selective_resnet50", "kitti_structure_vits")  # minutes to compile
# At the tests' size their step has the terms of another one's, which is taken.
ALIKE = {
    "real_clip": "base",
    "real_clip_structure": "world_structure",
    "kitti_weather_resnet18": "world_weather",
    "kitti_selective_resnet18": "kitti_selective_resnet50",
    "world_stereo_teacher_fine": "world_stereo_teacher",
    "overfit_clip": "adapt",
    "kitti_mono_stereo_resnet18": "real_streets",
    "kitti_stereo_resnet18": "kitti_selective_resnet50",
    "real_clip_selective": "world_selective",
}
TAKEN = [name for name in NAMES if name not in (*LARGE, *ALIKE)]


@pytest.fixture(autouse=True)
def as_in_production():
    """Types promote as usual: optax multiplies floats with its integer count."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def small_teacher(*args, **options):
    """The package's stereo network matches these small pairs as they are: at its training's width it takes minutes."""
    return dataclasses.replace(load_teacher(*args, **options), trained_at=0)


@pytest.fixture(autouse=True)
def teacher_at_the_tests_size(monkeypatch):
    monkeypatch.setattr(setup, "load_teacher", small_teacher)


def shrunken(name: str) -> ConfigDict:
    """The experiment, checked as it stands, at the tests' size."""
    config = importlib.import_module(f"configs.{name}").get_config()
    assert config.name == name
    if config.data.name == "none":
        config.data.world_share = 1.0  # base.py itself names no data
    config.data.root = config.selective.folder = "given on the command line"
    configs.check(config)
    return shrink(config)


def values_of(log: StepLog) -> dict[str, float]:
    return {name: float(term.value) for name, term in log.terms.items()}


def one_device() -> Mesh:
    return jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])


@pytest.mark.parametrize("name", LARGE)
def test_step_of_a_large_config_can_be_traced(name):
    config = shrunken(name)
    experiment = build(config, one_device())
    lowered = experiment.step.lower(experiment.template, random_batch(config))
    (_, log) = lowered.out_info
    wanted = {term for term, weight in config.loss.items() if weight and term in log.terms}
    assert {"photometric", "texture_consistency", "semantics_edge"} <= wanted


@pytest.mark.parametrize("name", ALIKE)
def test_what_is_not_taken_is_like_what_is(name):
    ours, others = (
        {term for term, weight in shrunken(n).loss.items() if weight_at(weight, jnp.int32(10**6))}
        for n in (name, ALIKE[name])
    )
    assert ALIKE[name] in TAKEN
    assert ours <= others
    assert shrunken(name).task == shrunken(ALIKE[name]).task
    assert shrunken(name).data.views in [shrunken(other).data.views for other in TAKEN]


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in TAKEN else takes_minutes) for n in NAMES])
def test_config_can_be_run_and_takes_a_step(name):
    config, mesh = shrunken(name), one_device()
    experiment = build(config, mesh)
    state = experiment.initial_state()
    before = jax.device_get(state.params)
    state, log = experiment.step(state, sharding.put_batch(random_batch(config), mesh))
    assert bool(log.ok)
    # Losses change on purpose only: python -m tests.fixtures.make_step_golden writes this file.
    known = json.loads((GOLDEN / "steps.json").read_text()).get(name)
    assert known is None or values_of(log) == pytest.approx(known, rel=1e-3, abs=1e-6)
    # Photometric terms of up to three views and log metres to a proxy; log(12) for 12 classes; pixels of two heads.
    limit = {"depth": 6, "segmentation": 3, "stereo": 30}[config.task]
    assert 0 < float(log.terms["loss"].value) < limit
    moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), before, jax.device_get(state.params))
    assert all(np.isfinite(jax.tree.leaves(moved)))
    main = moved[config.task]
    last, first = ("aggregation", "features") if config.task == "stereo" else ("decoder", "encoder")
    assert max(jax.tree.leaves(main[last])) > 0
    assert (max(jax.tree.leaves(main[first])) == 0) == config.model.freeze_encoder


def test_a_loss_weight_may_be_a_schedule_and_other_options_keep_their_type():
    config = importlib.import_module("configs.world_quickstart").get_config()
    config.loss.smoothness = "0:1e-3:1000"
    configs.check(config)
    assert weight_at(config.loss.smoothness, jnp.int32(500)) == pytest.approx(5e-4)
    with pytest.raises(TypeError):
        config.optimizer.steps = "many"


@pytest.mark.parametrize("family", [world_structure, world_selective, real_streets, world_bundled])
def test_every_row_of_a_family_is_another_experiment_that_can_be_run(family):
    seen = {}
    for row in family.ROWS:
        config = family.get_config(row)
        assert config.name.endswith(row) or config == family.get_config()
        config.data.root = "given on the command line"
        configs.check(config)
        seen[row] = config.to_json_best_effort()
    assert len(set(seen.values())) == len(seen)


def test_geometric_consistency_works_on_disparities_coarser_than_the_image():
    config = shrink(world_structure.get_config("geometric"))
    assert config.model.output_stride == 2
    mesh = one_device()
    experiment = build(config, mesh)
    _, log = experiment.step(experiment.initial_state(), sharding.put_batch(random_batch(config), mesh))
    assert 0 < float(log.terms["geometric"].value) < 1

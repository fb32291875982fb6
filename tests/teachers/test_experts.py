"""Semantic experts in use: what they look at, where their weights come from, and the cache of their features."""

import jax
import numpy as np
import pytest

from robustdepth.data.stream import train_stream
from robustdepth.errors import UserError
from robustdepth.models.experts import EXPERTS, nearest_stride
from robustdepth.runtime import sharding
from robustdepth.teachers.experts import load_expert, open_expert_cache
from tests.recordings import config_for, write_kitti_raw
from tests.tiny import random_batch, tiny_config

SIZE = (32, 96)


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh("data")


@pytest.fixture(scope="module")
def expert(mesh):
    semantics = tiny_config().semantics
    semantics.stride = 8
    return load_expert(semantics, SIZE, mesh)


def test_the_expert_of_the_package_looks_at_batches_on_the_devices(expert, mesh):
    config = tiny_config()
    config.image_size = SIZE
    batch = sharding.put_batch(random_batch(config), mesh)
    taught = expert.teach(batch)
    assert taught.expert.shape == (8, *expert.shape(jax.ShapeDtypeStruct((1, *SIZE, 3), np.float32))[1:])
    assert taught.expert.shape[1:3] == (4, 12)
    assert taught.expert.dtype == np.float32
    assert taught.expert.sharding.spec[0] == "data"
    floats = np.asarray(batch.target, np.float32) / 255
    np.testing.assert_allclose(expert.look(floats), taught.expert, rtol=1e-4, atol=1e-4)
    assert expert.teach(taught) is taught  # features that are there are not computed again


def test_cached_features_are_those_of_the_step_up_to_half_precision(expert, tmp_path):
    write_kitti_raw(tmp_path / "drive", numbers=range(5), sides="l", suffix=".jpg")
    config = config_for("kitti_raw", tmp_path / "drive", size=SIZE, batch=3)
    config.semantics.stride = 8
    config.semantics.cache = str(tmp_path / "cache")
    batch = next(train_stream(config, expert_cache=open_expert_cache(config, expert)))
    plain = next(train_stream(config))
    np.testing.assert_array_equal(batch.target, plain.target)
    assert plain.expert is None
    wanted = np.asarray(expert.look(batch.target))
    np.testing.assert_allclose(batch.expert, wanted, rtol=2e-3, atol=2e-3 * np.abs(wanted).max())
    assert np.std(wanted) > 0.01
    config.image_size = (64, 192)
    with pytest.raises(UserError, match="image"):
        open_expert_cache(config, expert)


def test_missing_weights_are_named_with_their_origin(mesh, tmp_path):
    assert {"dinov2_vits14", "depth_anything_v2_small", "segformer_b0", "espnetv2"} < set(EXPERTS)
    semantics = tiny_config().semantics
    for name, kind in EXPERTS.items():
        semantics.expert, semantics.weights = name, str(tmp_path / "none.pth")
        with pytest.raises(UserError, match=r"none\.pth.*download") as error:
            load_expert(semantics, SIZE, mesh)
        assert kind.weights in str(error.value)
    semantics.expert = "dinov2_vits"
    with pytest.raises(UserError, match="did you mean dinov2"):
        load_expert(semantics, SIZE, mesh)


def test_a_stride_that_no_resizing_can_bridge_is_refused():
    assert nearest_stride((4, 8, 16), 8, "x") == 8
    assert nearest_stride((16,), 8, "x") == 16
    with pytest.raises(UserError, match="does not fit the expert x"):
        nearest_stride((16,), 4, "x")

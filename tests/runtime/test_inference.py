"""A checkpoint in use: the same numbers as the networks' own, and refusal of weights that do not belong to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from robustdepth.errors import UserError
from robustdepth.geometry.se3 import matrix_from_vector
from robustdepth.models.build import build_depth_net, build_pose_net
from robustdepth.runtime import config as configs
from robustdepth.runtime import inference, sharding
from robustdepth.runtime.inference import load_model
from tests.checkpoints import save_untrained
from tests.tiny import tiny_config

SIZE = (64, 96)


@pytest.fixture(scope="module")
def config():
    return compact(("previous", "stereo"))


def compact(views):
    config = tiny_config(views)
    config.image_size = SIZE
    return config


@pytest.fixture(scope="module")
def saved(config, tmp_path_factory):
    """A workdir and the state that its checkpoint holds."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, save_untrained(config, workdir)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((8, *SIZE, 3), dtype=np.float32)


def test_inverse_depth_is_that_of_the_saved_network(saved, config, images):
    workdir, state = saved
    model = load_model(workdir)
    assert (model.step, model.image_size, model.scale, model.path) == (5, SIZE, "metric", str(workdir))
    variables = {"params": state.params["depth"], "batch_stats": state.stats["depth"]}
    output = jax.jit(lambda v, x: build_depth_net(config.model).apply(v, x, train=False))(variables, images)
    disparity = np.asarray(output.disparities[0], np.float64)
    expected = 1 / 100 + (1 / 0.1 - 1 / 100) * disparity
    np.testing.assert_allclose(model.inverse_depth(images), expected, rtol=2e-5)
    assert np.std(expected) > 0


def test_one_step_of_a_workdir_can_be_named(saved):
    workdir, _ = saved
    assert load_model(workdir / "checkpoints" / "5").step == load_model(workdir, step=5).step == 5
    with pytest.raises(UserError, match="no checkpoint of step 6"):
        load_model(workdir / "checkpoints" / "6")


def test_relative_pose_is_that_of_the_saved_network(saved, config, images):
    workdir, state = saved
    variables = {"params": state.params["pose"], "batch_stats": state.stats["pose"]}
    net = build_pose_net(config.model)
    vector = jax.jit(lambda v, a, b: net.apply(v, a, b, train=False))(variables, images, images[::-1])
    pose = load_model(workdir).relative_pose(images, images[::-1])
    assert pose.shape == (8, 4, 4)
    np.testing.assert_allclose(pose, matrix_from_vector(vector[:, :3], vector[:, 3:]), atol=1e-7)
    np.testing.assert_allclose(pose[:, :3, 3], vector[:, 3:], atol=1e-7)


def test_loading_twice_compiles_once_and_shards_with_its_images(saved, images):
    workdir, _ = saved
    first = load_model(workdir).inverse_depth(images)
    compiled = inference._inverse_depth._cache_size()
    np.testing.assert_array_equal(load_model(workdir).inverse_depth(images), first)
    assert inference._inverse_depth._cache_size() == compiled
    spread = jax.device_put(images, sharding.batch_sharding(sharding.make_mesh("data")))
    result = load_model(workdir).inverse_depth(spread)
    assert result.sharding.spec[0] == P("data")[0]
    np.testing.assert_allclose(result, first, rtol=1e-5)


def test_stereo_alone_has_no_pose_and_temporal_views_alone_no_metres(tmp_path, images):
    save_untrained(compact(("stereo",)), tmp_path / "stereo")
    with pytest.raises(UserError, match="has no pose network"):
        load_model(tmp_path / "stereo").relative_pose(images, images)
    save_untrained(compact(("next",)), tmp_path / "mono")
    assert load_model(tmp_path / "mono" / "checkpoints").scale == "relative"
    assert load_model(tmp_path / "mono" / "checkpoints" / "5").step == 5
    with pytest.raises(UserError, match="no checkpoint of step 6"):
        load_model(tmp_path / "mono" / "checkpoints" / "6")


@pytest.mark.parametrize("loss", ["velocity", "truth"])
def test_a_camera_whose_speed_or_depth_was_known_gives_metres(tmp_path, loss):
    config = compact(("next",))
    config.loss[loss] = 1.0
    save_untrained(config, tmp_path)
    assert load_model(tmp_path).scale == "metric"


def test_weights_of_another_model_are_refused_with_the_first_array_that_differs(tmp_path):
    config = compact(("stereo",))
    save_untrained(config, tmp_path)
    config.model.decoder_width = 0.5
    configs.write(config, tmp_path)
    with pytest.raises(
        UserError, match=r"depth network in .* belong to another model .* arrays differ, first .*decoder"
    ):
        load_model(tmp_path)
    config.model.encoder = "resnet18"
    configs.write(config, tmp_path)
    with pytest.raises(UserError, match="belong to another model"):
        load_model(tmp_path)


def triangle_shrink(image: np.ndarray, factor: int, axis: int) -> np.ndarray:
    """Antialiased bilinear shrinking by a whole factor in float64: triangles of half-width `factor`."""
    length = image.shape[axis]
    x = np.arange(length)
    middles = (np.arange(length // factor) + 0.5) * factor - 0.5
    weights = np.maximum(0, 1 - np.abs(x - middles[:, None]) / factor)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.moveaxis(np.tensordot(weights, image, (1, axis)), 0, axis)


def test_prepare_shrinks_with_antialiasing_to_the_unit_range(saved):
    model = load_model(saved[0])
    image = np.random.default_rng(1).integers(0, 256, (192, 192, 3), dtype=np.uint8)
    prepared = model.prepare(image)
    expected = triangle_shrink(triangle_shrink(image.astype(np.float64), 3, 0), 2, 1) / 255
    assert prepared.dtype == np.float32
    assert prepared.shape == (*SIZE, 3)
    np.testing.assert_allclose(prepared, expected, atol=1.01 / 255)  # Pillow rounds to 8 bits after each axis
    same = image[:64, :96]
    np.testing.assert_array_equal(model.prepare(same), same.astype(np.float32) / np.float32(255))


def test_a_finite_network_gives_positive_finite_depth_for_black_and_white(saved):
    extremes = np.zeros((8, *SIZE, 3), np.float32)
    extremes[4:] = 1
    inverse_depth = load_model(saved[0]).inverse_depth(jnp.asarray(extremes))
    assert bool(jnp.isfinite(inverse_depth).all())
    assert float(inverse_depth.min()) > 1 / 101
    assert float(inverse_depth.max()) < 10.001

"""The stereo teacher in use: what it answers for either camera, where it fails its check, and which files it takes."""

import dataclasses
import functools
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from robustdepth.errors import UserError
from robustdepth.geometry.stereo import fails_check
from robustdepth.models.stereo_net import STEREO_NETWORKS
from robustdepth.runtime import sharding
from robustdepth.teachers.stereo_teacher import StereoTeacher, load_teacher, read_pretrained
from tests.stereo_fakes import BlockMatcher, batch_of, mirrored_by_hand, noise_pair
from tests.tiny import tiny_config

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
SIZE = (32, 64)
BACKGROUND, BLOCK = 2.0, 8.0


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh("data")


@pytest.fixture(scope="module")
def teacher():
    matcher = BlockMatcher()
    return StereoTeacher(matcher, matcher.initial())


def disparities() -> np.ndarray:
    truth = np.full(SIZE, BACKGROUND, np.float32)
    truth[8:24, 28:44] = BLOCK
    return truth


@pytest.fixture(scope="module")
def pairs():
    """Eight noise pairs of a block before a wall, and what the right camera does not see."""
    truth = disparities()
    lefts, rights, hidden = zip(*(noise_pair(truth, seed) for seed in range(8)), strict=True)
    return batch_of(np.stack(lefts), np.stack(rights)), hidden[0]


def look(teacher, batch):
    return jax.device_get(teacher.look(batch.target, batch.sources[:, 0], batch.baseline))


def test_the_check_is_that_of_a_slow_version():
    draw = np.random.default_rng(0)
    surface = np.linspace(1, 30, 40) * np.array([0.2, 1.0])[:, None, None]
    left, right = (surface + draw.normal(0, 1, (2, 2, 5, 40))).clip(0).astype(np.float32)
    failed = np.asarray(fails_check(left, right))
    for b, y, x in np.ndindex(left.shape):
        match = x - left[b, y, x]
        fails = match < 0
        if not fails:
            there = np.interp(match, np.arange(40), right[b, y])
            fails = abs(left[b, y, x] - there) > max(1.0, 0.05 * left[b, y, x])
        assert failed[b, y, x] == fails, (b, y, x)
    assert 0.1 < failed.mean() < 0.9


def test_hidden_pixels_fail_the_check_and_seen_ones_pass(teacher, pairs):
    batch, hidden = pairs
    seen, truth = look(teacher, batch), disparities()
    inner = np.zeros(SIZE, bool)
    inner[3:-3, 5:-3] = True
    edge = np.zeros(SIZE, bool)  # windows that mix both surfaces
    edge[5:27, 19:47] = True
    edge[11:21, 31:41] = False
    sure = inner & ~edge
    assert np.abs(seen.disparity - truth)[:, sure].max() < 0.1
    assert not seen.failed[:, sure].any()
    assert seen.failed[:, :, :2].all()  # matches left of the right image
    core = hidden & (np.arange(SIZE[1]) > 20)  # the block's shadow
    core[[8, 9, 22, 23]] = False
    assert core.sum() == 12 * 6
    assert seen.failed[:, core].mean() > 0.8


def test_either_camera_may_be_the_target(teacher, pairs):
    batch, _ = pairs
    chosen = np.arange(8) % 2 == 1
    straight, turned = look(teacher, batch), look(teacher, mirrored_by_hand(batch, chosen))
    for before, after in zip(straight, turned, strict=True):
        np.testing.assert_array_equal(after[~chosen], before[~chosen])
        np.testing.assert_array_equal(after[chosen], np.flip(before, 2)[chosen])


def test_uint8_images_and_any_size_are_fine(teacher, pairs):
    batch, _ = pairs
    left, right = (np.round(x[:1, :27, :50] * 255).astype(np.uint8) for x in (batch.target, batch.sources[:, 0]))
    baseline = batch.baseline[:1]
    seen = jax.device_get(teacher.look(left, right, baseline))
    assert seen.disparity.shape == seen.failed.shape == (1, 27, 50)
    assert seen.geometry.shape[:3] == seen.distribution.shape[:3] == (1, 7, 13)
    border = ((0, 0), (0, 5), (0, 14), (0, 0))
    padded = (np.pad(x, border, mode="edge").astype(np.float32) / 255 for x in (left, right))
    whole = teacher.module.apply(teacher.variables, *padded, train=False)
    np.testing.assert_allclose(seen.disparity, whole.disparities[-1][:, :27, :50], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(seen.distribution, whole.distribution[:, :7, :13], rtol=1e-5, atol=1e-6)


def test_a_batch_on_many_devices_stays_there_and_sees_the_same(teacher, pairs, mesh):
    batch, _ = pairs
    there = np.ones((8, 1), bool)
    there[3] = False
    batch = dataclasses.replace(mirrored_by_hand(batch, np.arange(8) > 5), source_valid=there)
    teaching = dataclasses.replace(teacher, transfer=True)
    single = teaching.teach(batch)
    placed = dataclasses.replace(teaching, variables=jax.device_put(teaching.variables, sharding.replicated(mesh)))
    taught = placed.teach(sharding.put_batch(batch, mesh))
    for name in ("disparity", "disparity_failed", "geometry", "distribution"):
        found, wanted = getattr(taught, name), np.asarray(getattr(single, name))
        assert found.sharding.is_equivalent_to(sharding.batch_sharding(mesh), found.ndim), name
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6, err_msg=name)
        assert not wanted[3].any()  # no stereo view
        assert wanted[4].any()


def test_a_batch_is_taught_only_what_it_lacks(teacher, pairs):
    batch, _ = pairs
    taught = teacher.teach(batch)
    assert taught.geometry is None
    assert taught.distribution is None
    assert taught.disparity_failed.dtype == bool
    assert teacher.teach(taught) is taught
    stored = dataclasses.replace(batch, disparity=np.full((8, *SIZE), 5.0, np.float32))
    assert teacher.teach(stored) is stored
    both = dataclasses.replace(teacher, transfer=True).teach(stored)
    assert both.disparity is stored.disparity
    assert both.disparity_failed is None
    assert both.geometry.shape == (8, 8, 16, 3)
    assert teacher.shapes(SIZE) == (3, 16)
    with pytest.raises(UserError, match="needs pairs"):
        teacher.teach(dataclasses.replace(batch, source_names=("next",)))


@functools.cache
def untrained():
    """A "light" network and its random variables."""
    image = jnp.zeros((1, 32, 64, 3))
    network = STEREO_NETWORKS["light"](max_disparity=16)
    return network, jax.jit(lambda key: network.init(key, image, image, train=False))(jax.random.key(5))


def write_stereo(path, changes=None, width: int = 64):
    """A model file of that network, which a config with these changes claims to describe."""
    config = tiny_config()
    config.task = "stereo"
    config.image_size = (32, width)
    config.update_from_flattened_dict(changes or {})
    variables = untrained()[1]
    tree = {"params": variables["params"], "batch_stats": variables["batch_stats"]}
    tensors = {f"stereo/{key}": np.asarray(value) for key, value in flatten_dict(tree, sep="/").items()}
    path.write_bytes(safetensors.numpy.save(tensors, {"config": json.dumps(config.to_dict()), "step": "7"}))


def test_a_model_file_answers_as_the_network_in_it(mesh, pairs, tmp_path, capsys):
    batch, _ = pairs
    network, variables = untrained()
    write_stereo(tmp_path / "teacher.safetensors")
    teacher = load_teacher(tmp_path / "teacher.safetensors", SIZE, mesh, transfer=True)
    assert "light" in capsys.readouterr().out
    assert teacher.transfer
    seen = look(teacher, jax.tree.map(lambda leaf: leaf[:1], batch))
    wanted = jax.jit(lambda v, *x: network.apply(v, *x, train=False))(variables, batch.target[:1], batch.sources[:1, 0])
    np.testing.assert_allclose(seen.disparity, wanted.disparities[-1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(seen.geometry, wanted.geometry, rtol=1e-4, atol=1e-4)
    channels, bins = teacher.shapes(SIZE)
    assert seen.geometry.shape == (1, 8, 16, channels)
    assert seen.distribution.shape == (1, 8, 16, bins) == (1, 8, 16, 4)


def test_its_range_grows_with_the_width_of_the_images(mesh, tmp_path):
    path = tmp_path / "teacher.safetensors"
    write_stereo(path, width=320)
    assert load_teacher(path, (32, 320), mesh).module.max_disparity == 64  # 192 of 1242, in steps of 16
    assert load_teacher(path, (375, 1242), mesh).module.max_disparity == 192
    write_stereo(path, {"stereo.max_disparity": 96}, width=320)
    assert load_teacher(path, (32, 320), mesh).module.max_disparity == 96
    assert load_teacher(path, (32, 640), mesh).module.max_disparity == 192
    assert load_teacher(path, (32, 336), mesh).module.max_disparity == 112


def test_without_a_file_the_package_delivers_the_network(mesh):
    teacher = load_teacher("", (64, 208), mesh)
    assert teacher.trained_at == 320
    assert teacher.module.max_disparity == 48


@pytest.mark.parametrize(("trained_at", "matched_at"), [(0, 64), (64, 64), (40, 64), (16, 32), (128, 128)])
def test_pairs_are_matched_at_one_to_two_times_the_width_of_the_training(trained_at, matched_at):
    seen_sizes = []

    class Watching(BlockMatcher):
        def __call__(self, left, right, train):
            seen_sizes.append(left.shape[2])
            return super().__call__(left, right, train)

    matcher = Watching()
    teacher = StereoTeacher(matcher, matcher.initial(), trained_at=trained_at)
    seen_sizes.clear()  # of the initialisation
    image = jax.ShapeDtypeStruct((1, *SIZE, 3), jnp.float32)
    seen = jax.eval_shape(teacher.look, image, image, jax.ShapeDtypeStruct((1,), jnp.float32))
    assert set(seen_sizes) == {matched_at}
    assert seen.disparity.shape == seen.failed.shape == (1, *SIZE)
    assert seen.disparity.dtype == jnp.float32
    assert seen.failed.dtype == bool


def test_a_pair_matched_at_another_width_has_the_disparities_of_its_own(pairs):
    batch, _ = pairs
    matcher = BlockMatcher()
    plain, finer = (StereoTeacher(matcher, matcher.initial(), trained_at=width) for width in (0, 128))
    own, other = look(plain, batch).disparity, look(finer, batch).disparity
    wall = np.zeros(SIZE, bool)
    wall[3:-3, 52:-3] = True
    assert np.abs(own - BACKGROUND)[:, wall].mean() < 0.1
    assert np.abs(other - BACKGROUND)[:, wall].mean() < 0.3


def test_files_that_hold_no_such_network_are_refused(mesh, tmp_path):
    path = tmp_path / "teacher.safetensors"
    with pytest.raises(UserError, match="does not exist"):
        load_teacher(path, SIZE, mesh)
    with pytest.raises(UserError, match="does not exist"):
        load_teacher(tmp_path / "gwcnet.pth", SIZE, mesh)
    with pytest.raises(UserError, match='holds no stereo network but one of task "depth"'):
        load_teacher("bundled", SIZE, mesh)
    shutil.copy(FIXTURES / "zip.pth", tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="not of a GwcNet"):
        load_teacher(tmp_path / "other.ckpt", SIZE, mesh)
    write_stereo(path, {"stereo.network": "gwcnet_g"})
    with pytest.raises(UserError, match=r'does not fit the stereo network "gwcnet_g".*has shape'):
        load_teacher(path, SIZE, mesh)
    write_stereo(path, {"stereo.network": "huge"})
    with pytest.raises(UserError, match='"huge", which is none of'):
        load_teacher(path, SIZE, mesh)


def test_training_starts_from_weights_of_its_own_network_alone(tmp_path):
    stereo = tiny_config().stereo
    stereo.pretrained = str(tmp_path / "teacher.safetensors")
    write_stereo(tmp_path / "teacher.safetensors")
    jax.tree.map(np.testing.assert_array_equal, read_pretrained(stereo), dict(untrained()[1]))
    stereo.network = "gwcnet_g"
    with pytest.raises(UserError, match='is of the stereo network "light", not "gwcnet_g"'):
        read_pretrained(stereo)

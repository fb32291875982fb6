"""Corruptions as a batched function: independent of the batch, seeded, rising with severity, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.conditions.corruptions.benchmark import (
    BENCHMARK,
    SEVERITIES,
    batches_by_size,
    check_corruptions,
    check_severities,
    check_size,
    corrupt,
    corruption_keys,
)
from robustdepth.errors import UserError
from tests.fixtures.make_corruption_fixtures import make_image

DETERMINISTIC = {"brightness", "contrast", "defocus", "zoom", "color_quant", "pixelate", "jpeg"}
IMAGES = np.stack([make_image(), make_image()[::-1], 255 - make_image(), make_image()[:, ::-1]])


@pytest.mark.parametrize("name", BENCHMARK)
def test_an_image_is_corrupted_alike_in_every_batch(name):
    keys = corruption_keys(name, 3, [7, 8, 9, 7])
    whole = np.asarray(corrupt(IMAGES, name, 3, keys))
    assert whole.dtype == np.uint8
    assert whole.shape == IMAGES.shape
    order = [2, 0, 3, 1]
    np.testing.assert_array_equal(corrupt(IMAGES[order], name, 3, keys[np.array(order)]), whole[order])
    same = np.asarray(corrupt(np.stack([IMAGES[0]] * 4), name, 3, corruption_keys(name, 3, [7, 8, 9, 7])))
    np.testing.assert_array_equal(same[0], whole[0])
    np.testing.assert_array_equal(same[3], whole[0])  # the same image and key at another place
    assert (same[0] == same[1]).all() == (name in DETERMINISTIC)


@pytest.mark.parametrize("name", BENCHMARK)
def test_damage_grows_with_severity(name):
    """Pixelation of texture saturates and frost differs by photograph, so only the ends are compared."""
    images = np.stack([IMAGES[0]] * 4)
    errors = []
    for severity in (1, 5):
        result = np.asarray(corrupt(images, name, severity, corruption_keys(name, severity, range(4))), np.float64)
        errors.append(np.abs(result - images).mean())
    assert 0 < errors[0] < errors[1]


def test_floating_point_images_are_taken_as_8_bit_ones():
    keys = corruption_keys("snow", 2, range(4))
    stored = np.asarray(corrupt(IMAGES, "snow", 2, keys))
    floating = corrupt(jnp.asarray(IMAGES / np.float32(255) + np.float32(0.3 / 255)), "snow", 2, keys)
    assert floating.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(floating) * 255, stored, atol=1e-4)


def test_one_key_serves_a_batch():
    same = np.stack([IMAGES[0]] * 4)
    first, second = (np.asarray(corrupt(same, "gaussian", 1, jax.random.key(5))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first[0] != first[1]).any()


def test_keys_differ_by_corruption_severity_and_image():
    keys = [corruption_keys(name, severity, [0, 1, 2]) for name in ("fog", "snow") for severity in SEVERITIES]
    data = np.concatenate([jax.random.key_data(key) for key in keys])
    assert len(np.unique(data, axis=0)) == 2 * 5 * 3
    np.testing.assert_array_equal(jax.random.key_data(corruption_keys("fog", 1, [2])), data[2:3])


def test_a_batch_is_corrupted_on_all_devices_as_on_one():
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4], axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    keys = corruption_keys("motion", 1, range(4))
    result = corrupt(jax.device_put(jnp.asarray(IMAGES), sharding), "motion", 1, jax.device_put(keys, sharding))
    assert len(result.sharding.device_set) == 4
    np.testing.assert_array_equal(result, corrupt(IMAGES, "motion", 1, keys))


def test_black_images_stay_finite():
    """No colour to scale, no range to stretch, no brightness to keep."""
    black = np.zeros_like(IMAGES)
    np.testing.assert_array_equal(corrupt(black, "brightness", 5, jax.random.key(0)), 127)  # 127.5 truncated
    assert np.asarray(corrupt(black, "dark", 5, jax.random.key(0))).mean() < 0.05 * 255
    assert not np.asarray(corrupt(black, "fog", 5, jax.random.key(0))).any()


def test_bad_input_is_refused():
    key = jax.random.key(0)
    with pytest.raises(UserError, match="unknown corruption 'gausian': did you mean gaussian"):
        corrupt(IMAGES, "gausian", 1, key)
    with pytest.raises(UserError, match="severity 6 does not exist: severities are 1, 2, 3, 4 and 5"):
        corrupt(IMAGES, "fog", 6, key)
    with pytest.raises(UserError, match="need images of 32x32 pixels or more, got 31x40"):
        corrupt(np.zeros((1, 40, 31, 3), np.uint8), "fog", 1, key)


def test_lists_of_names_and_severities():
    assert check_corruptions(["all"]) == BENCHMARK
    assert len(BENCHMARK) == 18
    assert check_corruptions(["jpeg", "fog", "jpeg"]) == ("fog", "jpeg")
    assert check_severities(["3", 1, " 3"]) == (1, 3)
    with pytest.raises(UserError, match="no corruption is named: known: all, brightness"):
        check_corruptions([])
    with pytest.raises(UserError, match="severity '0' does not exist"):
        check_severities(["0"])
    with pytest.raises(UserError, match="no severity is named"):
        check_severities([])


def test_sizes_at_which_to_corrupt():
    assert check_size([]) is None
    assert check_size(["192", " 640"]) == (192, 640)
    for wrong in (["192"], ["192", "wide"], ["16", "640"], [1, 2, 3]):
        with pytest.raises(UserError, match="is not HEIGHT,WIDTH of 32 or more: KITTI-C's is 192,640"):
            check_size(wrong)


def test_full_batches_of_one_size_come_first():
    sizes = [(3, 4), (5, 6), (3, 4), (3, 4), (5, 6), (3, 4), (3, 4)]
    batches = batches_by_size(enumerate(sizes), 2, lambda item: item[1])
    assert [[index for index, _ in batch] for batch in batches] == [[0, 2], [1, 4], [3, 5], [6]]

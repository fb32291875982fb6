"""Worlds rendered by several devices together have the numbers of one device."""

import jax
import numpy as np

from robustdepth.world.generate import render_examples, rendering_devices

SIZE = (16, 64)


def render(indices, devices=()):
    return render_examples(
        np.array(indices), seed=5, split="train", size=SIZE, views=("stereo",), devices=tuple(devices)
    )


def test_two_devices_share_the_examples_and_give_the_numbers_of_one():
    batch, scene = render([0, 1], jax.devices()[:2])
    whole = jax.device_get((batch, scene))
    for pixels in (batch.target, batch.sources, scene.depth, scene.labels):
        assert len(pixels.sharding.device_set) == 2
        assert pixels.addressable_shards[0].data.shape[0] == 1
    for i in range(2):
        alone = jax.device_get(render([i]))
        jax.tree.map(lambda field, own, i=i: np.testing.assert_array_equal(field[i], own[0]), whole, alone)


def test_what_does_not_divide_is_rendered_by_one_device():
    batch, _ = render([0], jax.devices()[:2])
    assert len(batch.target.sharding.device_set) == 1


def test_devices_of_a_cpu_share_its_cores_and_gain_nothing():
    assert rendering_devices() == jax.local_devices()[:1]

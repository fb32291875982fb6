"""Alarms name what is wrong with a training."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from robustdepth.methods import reprojection
from robustdepth.methods.reprojection import constant
from robustdepth.training import health
from tests.tiny import random_batch, tiny_config


def test_alarms_name_what_collapsed():
    config = tiny_config()
    assert health.alarms({"depth_spread": 0.4, "auto_mask": 0.3, "translation": 0.5}, config) == {}
    sick = health.alarms({"depth_spread": 0.001, "auto_mask": 0.999, "translation": 50.0}, config)
    assert len(sick) == 3
    assert "collapsed" in sick["depth_spread"]


def test_alarms_name_depth_at_its_limits_and_images_that_show_nothing():
    config = tiny_config()
    assert health.alarms({"at_min_depth": 0.3, "at_max_depth": 0.0, "constant_frames": 0.0}, config) == {}
    sick = health.alarms({"at_min_depth": 0.65, "at_max_depth": 0.4, "constant_frames": 0.5}, config)
    assert "65% of depth is at config.model.min_depth=0.1" in sick["at_min_depth"]
    assert "40% of depth is at config.model.max_depth=100.0" in sick["at_max_depth"]
    assert "50% of the images are black or of one colour" in sick[health.OF_THE_DATA]


def test_black_frames_are_seen_and_their_error_is_never_below_zero():
    config = tiny_config()
    batch = random_batch(config)
    black = np.zeros((8, 32, 64, 3), np.float32)
    noisy = np.random.default_rng(0).integers(60, 63, black.shape).astype(np.float32) / 255.0
    images = np.concatenate([black[:2], noisy[:3], batch.target[:3] / np.float32(255)])
    np.testing.assert_array_equal(constant(jnp.asarray(images)), [True] * 5 + [False] * 3)
    batch = dataclasses.replace(batch, target=black, sources=black[:, None])
    motions = [jnp.tile(jnp.eye(4), (8, 1, 1))]
    found = jax.jit(partial(reprojection.terms, reprojection.Settings.of(config)))(
        [jnp.full((8, 32, 64), 0.5)], motions, batch, jax.random.key(0)
    )
    assert float(found.watched["constant_frames"].value) == 1.0
    assert float(jnp.min(found.images["error"])) == 0.0
    assert float(found.losses["photometric"].value) >= 0.0
    assert float(found.watched["at_min_depth"].value) == 0.0  # sigmoid 0.5 is at 0.2 m


def test_an_alarm_tells_a_collapsed_semantic_graph_from_a_uniform_one():
    config = tiny_config()
    assert config.health.graph_entropy == (0.3, 0.85)
    assert health.alarms({"graph_entropy": 0.3}, config) == health.alarms({"graph_entropy": 0.85}, config) == {}
    (collapsed,), (uniform,) = (health.alarms({"graph_entropy": entropy}, config).values() for entropy in (0.2, 0.9))
    assert "few edges" in collapsed
    assert "20%" in collapsed
    assert "almost uniform" in uniform


def test_an_alarm_tells_masks_that_take_everything_from_masks_that_take_nothing():
    config = tiny_config()
    assert health.alarms({"mask_proxy": 0.5}, config) == {}
    (all_of_it,), (nothing,) = (health.alarms({"mask_proxy": share}, config).values() for share in (0.99, 0.01))
    assert "99%" in all_of_it
    assert "1%" in nothing

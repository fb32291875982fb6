"""How long a training is: steps that follow from epochs, and the rate that follows from the batch."""

import re

import pytest

from configs import base, kitti_mono_resnet18, kitti_stereo_resnet18, kitti_stereo_teacher, world_quickstart
from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime import length
from tests.recordings import config_for, write_kitti_raw


@pytest.mark.parametrize(
    ("recipe", "examples", "batch", "steps", "rate"),
    [
        (kitti_mono_resnet18, 39_810, 12, 66_350, 1e-4),
        (kitti_mono_resnet18, 39_810, 96, 8_294, 1e-4 * 8**0.5),
        (kitti_stereo_resnet18, 45_200, 12, 75_333, 1e-4),
        (kitti_stereo_teacher, 45_200, 32, 14_125, 2e-3),
    ],
)
def test_kitti_recipes_make_as_many_epochs_with_any_batch(monkeypatch, recipe, examples, batch, steps, rate):
    monkeypatch.setattr(length, "build_source", lambda config, keep: range(examples))
    config = recipe.get_config()
    config.data.root, config.batch_size = "elsewhere", batch
    configs.check(config)
    settled = length.settled(config)
    assert settled.optimizer.steps == steps
    assert settled.optimizer.learning_rate == pytest.approx(rate, rel=1e-12)
    configs.check(settled)
    assert length.settled(settled) == settled
    assert (config.optimizer.steps, config.batch_size) == (0, batch)  # the caller's is left as it was


@pytest.mark.parametrize(("world_share", "steps"), [(0.0, 12), (0.5, 25)])
def test_epochs_are_passes_over_the_recorded_examples(tmp_path, world_share, steps):
    write_kitti_raw(tmp_path, numbers=range(5), sides="l")
    config = config_for("kitti_raw", tmp_path, batch=4, views=("previous", "next"))
    config.data.world_share = world_share
    config.optimizer.steps, config.optimizer.epochs = 0, 10.0
    assert length.settled(config).optimizer.steps == steps  # 5 frames, each with a neighbour, 10 times in fours or twos


def test_a_length_and_a_rate_that_are_given_stay():
    config = world_quickstart.get_config()
    assert length.settled(config) == config


@pytest.mark.parametrize(
    ("steps", "epochs", "sentence"),
    [
        (5, 2.0, "config.optimizer.steps=5 and config.optimizer.epochs=2: give one of them, and set the other to 0."),
        (0, 0.0, "config.optimizer.steps=0 and config.optimizer.epochs=0: give one of them, and set the other to 0."),
        (0, 2.0, "config.optimizer.epochs counts passes over recordings, and the procedural world has no end"),
    ],
)
def test_no_length_two_lengths_and_passes_over_nothing_are_refused(steps, epochs, sentence):
    config = base.get_config()
    config.data.world_share = 1.0
    config.optimizer.steps, config.optimizer.epochs = steps, epochs
    with pytest.raises(UserError, match=re.escape(sentence)):
        configs.check(config)

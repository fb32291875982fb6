"""What a training prints as it goes, and shows at its end."""

import time

import jax.numpy as jnp
import numpy as np

from robustdepth.training.progress import Progress, result_picture
from robustdepth.training.step import StepLog
from robustdepth.types import Term


def test_the_result_stands_beside_its_input_near_bright():
    target = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    disparity = np.repeat(np.linspace(0, 255, 16).astype(np.uint8)[:, None, None], 24, axis=1).repeat(3, axis=2)
    picture = result_picture({"target": target, "disparity": disparity, "error": target})
    assert picture is not None
    shown = np.asarray(picture)
    assert shown.shape == (32, 96, 3)
    np.testing.assert_array_equal(shown[:, :48], target)
    brightness = shown[:, 48:].mean(axis=(1, 2))
    assert brightness[-1] > 200 > 60 > brightness[0]


def test_other_networks_have_none():
    assert result_picture({"left": np.zeros((8, 8, 3), np.uint8)}) is None


def step_log(loss: float, count: float, ok: bool = True) -> StepLog:
    return StepLog(jnp.bool_(ok), jnp.int32(not ok), {"loss": Term(jnp.float32(loss), jnp.float32(count))}, {})


def test_progress_weighs_means_by_counts_leaves_out_skipped_steps_and_tells_who_waits(monkeypatch):
    clock = iter((0.0, 30.0, 30.0, 40.0, 40.0, 50.0, 50.0))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    progress = Progress(first_step=0, last_step=100, batch_size=4, losses=("mask",))
    progress.add(step_log(1.0, 1.0))
    progress.add(StepLog(jnp.bool_(True), jnp.int32(0), {"mask": Term(jnp.float32(-1e-9), jnp.float32(1))}, {}))
    scalars, line = progress.report(1, seconds_waited=0.0)
    assert "loss 1.0000  mask 0.0000" in line
    assert "first step after 30 s" in line
    assert "images_per_second" not in scalars
    for log in (step_log(1.0, 1.0), step_log(2.0, 3.0), step_log(float("nan"), 1.0, ok=False)):
        progress.add(log)
    scalars, line = progress.report(21, seconds_waited=1.0)
    assert scalars == {"loss": 1.75, "images_per_second": 8.0, "waiting_for_data": 0.1}
    assert "0:00:40 left" in line
    assert "input-bound" not in line
    progress.add(step_log(1.0, 1.0))
    assert "input-bound: 50% of the time" in progress.report(31, seconds_waited=6.0)[1]

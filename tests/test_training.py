"""The training step, its health checks and the loop, on the smallest real experiment."""

import jax
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.training import health
from robustdepth.training.optimizer import learning_rate
from tests.conftest import REPOSITORY
from tests.tiny import random_batch, tiny_config

CONFIGS = sorted(path for path in (REPOSITORY / "configs").glob("*.py") if path.stem not in ("__init__", "base"))
MONO = ("previous", "next")


@pytest.fixture(autouse=True)
def optax_promotes_types():
    """Optax multiplies Python floats with its integer step count, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_learning_rate_warms_up_and_drops():
    config = tiny_config(steps=100)
    config.optimizer.update(learning_rate=0.1, warmup_steps=10, drops=(0.5, 0.9), drop_factor=0.1)
    rate = learning_rate(config)
    np.testing.assert_allclose(
        [rate(0), rate(9), rate(49), rate(51), rate(91)], [0.01, 0.1, 0.1, 0.01, 0.001], rtol=1e-5
    )


def test_alarms_name_what_collapsed():
    config = tiny_config()
    assert health.alarms({"depth_spread": 0.4, "auto_mask": 0.3, "translation": 0.5}, config) == []
    sick = health.alarms({"depth_spread": 0.001, "auto_mask": 0.999, "translation": 50.0}, config)
    assert len(sick) == 3
    assert "collapsed" in sick[0]


def test_training_stops_with_the_cause_after_too_many_bad_steps(tmp_path):
    path = health.save_bad_batch(random_batch(tiny_config()), 7, tmp_path)
    assert np.load(path)["target"].shape == (8, 32, 64, 3)
    terms = {"loss": float("nan"), "photometric": float("nan"), "smoothness": 0.1}
    health.stop_if_hopeless(4, 7, terms, path, limit=5)
    with pytest.raises(UserError, match=r"5 steps in a row up to step 7 .*\(loss, photometric\).*7.npz"):
        health.stop_if_hopeless(5, 7, terms, path, limit=5)

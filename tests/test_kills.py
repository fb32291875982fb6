"""A run that is killed again and again, while it saves too, ends bitwise as one that nobody disturbed."""

import json

import jax.numpy as jnp
import numpy as np

from benchmarks.kills import kill_and_compare
from benchmarks.workdirs import differences
from robustdepth.runtime.checkpoint import Checkpointer
from robustdepth.types import TrainState
from tests.conftest import takes_minutes


def save(workdir, kernel: float, moment: float, position: int, loss: float) -> None:
    """A workdir at step 1 of a run."""
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(zero + 1, {"kernel": jnp.float32(kernel)}, {}, {"mu": jnp.float32(moment)}, {}, zero, zero)
    with Checkpointer(workdir, keep=1) as checkpointer:
        checkpointer.save(state, {"step": position}, 1)
    (workdir / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": loss}) + "\n")


def test_the_smallest_difference_between_two_runs_is_found(tmp_path):
    save(tmp_path / "a", 1.0, 2.0, 1, 0.5)
    save(tmp_path / "b", np.nextafter(np.float32(1), np.float32(2)), 2.0, 1, 0.5)
    save(tmp_path / "c", 1.0, -2.0, 3, 0.25)
    assert differences(tmp_path / "a", tmp_path / "a", 1) == []
    assert differences(tmp_path / "a", tmp_path / "b", 1) == ["['params']['kernel']"]
    found = differences(tmp_path / "a", tmp_path / "c", 1)
    assert found == ["['opt_state']['mu']", "position of the data", "loss of step 1"]


@takes_minutes
def test_a_run_killed_three_times_ends_bitwise_as_the_undisturbed_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")  # one device
    kills, differ = kill_and_compare(tmp_path, kills=3, seed=0)
    assert len(kills) == 3
    assert any(kill.while_saving for kill in kills)
    assert differ == []

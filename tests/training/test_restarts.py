"""A training that surely collapses begins again, at most as often as the config says, and resumes exactly."""

import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.runtime.checkpoint import committed_steps, load_weights
from robustdepth.streams import step_key
from robustdepth.training import health, loop
from robustdepth.training.restarts import CollapsedError, Trial
from robustdepth.training.setup import Experiment
from robustdepth.training.step import StepLog
from robustdepth.types import Term, TrainState
from tests.recordings import write_clip
from tests.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("compiled_for_real")
STEPS = 8


def test_collapse_is_sure_only_far_beyond_the_alarms():
    config = tiny_config()
    for healthy in ({}, {"depth_spread": 0.015}, {"at_min_depth": 0.55}, {"depth_spread": float("nan")}):
        assert health.collapsed(healthy, config) is None
    assert "spread" in health.collapsed({"depth_spread": 0.005}, config)
    assert health.collapsed({"at_max_depth": 0.7}, config) == "70% of it is at config.model.max_depth=100.0"


def test_two_looks_in_a_row_or_one_at_the_end_are_needed_and_none_before_the_warm_up_is_over():
    config = tiny_config(steps=100)
    config.optimizer.warmup_steps = 10
    sick = {"at_min_depth": 0.9}
    assert Trial().look(sick, 50, config) == Trial()  # restarts are off
    config.health.restarts = 1
    assert Trial().look(sick, 10, config) == Trial()
    once = Trial().look(sick, 20, config)
    assert Trial.at({"step": 20} | once.position()) == once != Trial()
    assert once.look({"at_min_depth": 0.1}, 30, config) == Trial()
    with pytest.raises(CollapsedError, match=r"at step 30: 90% of it is at config.model.min_depth"):
        once.look(sick, 30, config)
    with pytest.raises(CollapsedError, match="at step 100"):
        Trial().look(sick, 100, config)


def build_one_parameter(config, mesh) -> Experiment:
    """A network of one parameter that falls by the rate, and random numbers: under 0 all depth is at its limit."""
    rate = config.optimizer.learning_rate

    def initial_state() -> TrainState:
        zero = jnp.zeros((), jnp.int32)
        return TrainState(zero, {"depth": {"w": jnp.ones(())}}, {"depth": {}}, {}, {}, zero, zero)

    @jax.jit
    def step(state, batch):
        fall = rate * jax.random.uniform(step_key(config.seed, state.step), minval=0.9, maxval=1.0)
        w = state.params["depth"]["w"] - fall + 0.0 * jnp.mean(batch.target.astype(jnp.float32))
        terms = {"loss": w, "at_min_depth": (w < 0.0).astype(jnp.float32)}
        log = StepLog(jnp.bool_(True), jnp.int32(0), {k: Term(v, jnp.ones(())) for k, v in terms.items()}, {})
        return state.replace(step=state.step + 1, params={"depth": {"w": w}}), log

    return Experiment(jax.eval_shape(initial_state), initial_state, step)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A training whose depth collapses in its first trial, at step 5, and not at half the rate."""
    write_clip(tmp_path / "clip", count=6)
    monkeypatch.setattr(loop, "build", build_one_parameter)
    config = tiny_config(("previous", "next"), STEPS)
    config.data.update(name="frames", root=str(tmp_path / "clip"), world_share=0.0, threads=1)
    config.optimizer.update(learning_rate=0.24, warmup_steps=0)
    config.checkpoint.every, config.checkpoint.keep, config.health.restarts = 2, 9, 2
    config.model.pretrained = config.model.pose_pretrained = ""
    return config


def weight(workdir) -> np.ndarray:
    return np.asarray(load_weights(workdir).params["depth"]["w"])


def test_a_collapsed_training_begins_again_and_a_stopped_one_ends_bitwise_the_same(config, tmp_path, capsys):
    loop.train(config, tmp_path / "whole")
    out = capsys.readouterr().out
    assert out.count("begins again") == 1
    assert "rate of 1.2e-01 (restart 1 of 2)" in out
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))  # of the trial that counts
    for at in (("before", 0, 5), ("after", 1, 3)):
        name, trial, step = at
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                loop._Loop, "_stops", lambda self, now, t=trial, s=step: self.trial.restarts == t and now == s
            )
            loop.train(config, tmp_path / name)
        assert committed_steps(tmp_path / name / "checkpoints")[-1] == step
        assert "stopped" in capsys.readouterr().out
        loop.train(config, tmp_path / name)
        out = capsys.readouterr().out
        assert f"going on from the checkpoint of step {step}" in out
        assert out.count("begins again") == (trial == 0)  # in its second trial it does not collapse anew
        np.testing.assert_array_equal(weight(tmp_path / name), weight(tmp_path / "whole"))


def test_a_training_that_collapses_again_and_again_ends_with_a_sentence(config, tmp_path, capsys):
    config.optimizer.learning_rate = 8.0
    with pytest.raises(UserError, match=r"depth has collapsed at step 2: .*, after 2 restarts too: check the footage"):
        loop.train(config, tmp_path / "run")
    assert capsys.readouterr().out.count("begins again") == 2
    assert not (tmp_path / "run" / "finished").exists()


def test_sigterm_in_the_last_step_is_told_to_the_caller(config, tmp_path, monkeypatch):
    config.health.restarts, report = 0, loop._Loop._report

    def asked_meanwhile(self, step, *values):
        report(self, step, *values)
        if step == STEPS:
            signal.raise_signal(signal.SIGTERM)

    assert loop.train(config, tmp_path / "undisturbed")
    monkeypatch.setattr(loop._Loop, "_report", asked_meanwhile)
    assert not loop.train(config, tmp_path / "run")
    assert (tmp_path / "run" / "finished").exists()
    np.testing.assert_array_equal(weight(tmp_path / "run"), weight(tmp_path / "undisturbed"))


def test_without_restarts_a_collapsed_training_goes_on_as_before(config, tmp_path, capsys):
    config.health.restarts = 0
    loop.train(config, tmp_path / "run")
    assert "begins again" not in capsys.readouterr().out
    assert weight(tmp_path / "run") < 0

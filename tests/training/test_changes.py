"""A run that has begun goes on with another length or batch, by saying so: exactly, and with nothing else changed."""

import json
import math

import jax
import numpy as np
import pytest

from robustdepth.data.stream import train_stream
from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime.checkpoint import committed_steps, load_weights
from robustdepth.training import loop
from tests.toy_training import RATE, toy_config, use_toy

pytestmark = pytest.mark.usefixtures("compiled_for_real")
STEPS = 4


@pytest.fixture(autouse=True)
def optax_promotes_types():
    """Optax multiplies Python floats with its integer step count, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def seen(monkeypatch) -> list[list[int]]:
    """The examples of every batch that was trained on."""
    return use_toy(monkeypatch)


@pytest.fixture
def config(tmp_path, seen):
    return toy_config(tmp_path, STEPS)


def rows(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def kernel(workdir) -> np.ndarray:
    return np.asarray(load_weights(workdir).params["depth"]["kernel"])


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


def in_order(config, count: int) -> list[int]:
    """The first examples of an undisturbed run."""
    stream = train_stream(config)
    return [index for _ in range(-(-count // config.batch_size)) for index in next(stream).index.tolist()][:count]


def test_a_finished_run_is_extended_and_a_stopped_extension_ends_bitwise_the_same(config, tmp_path, seen, capsys):
    short = config.copy_and_resolve_references()
    config.optimizer.steps, told = 6, {}
    for name in ("whole", "stopped"):
        loop.train(short, tmp_path / name)
        assert (tmp_path / name / "finished").read_text() == "4\n"
        capsys.readouterr()
        if name == "stopped":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(loop._Loop, "_stops", lambda self, now: now == 5)
                loop.train(config, tmp_path / name, change=["optimizer.steps"])
            assert committed_steps(tmp_path / name / "checkpoints")[-1] == 5
            assert not (tmp_path / name / "finished").exists()
            capsys.readouterr()
        loop.train(config, tmp_path / name, change=["optimizer.steps"])  # a command that is given again, too
        told[name] = capsys.readouterr().out
    assert "from step 4 on this run has 6 steps, not 4\n" in told["whole"]
    assert '"cosine" is laid over 6 steps and goes on at step 4: the learning rate was 2.9e-02' in told["whole"]
    assert "from step" not in told["stopped"]
    np.testing.assert_array_equal(kernel(tmp_path / "stopped"), kernel(tmp_path / "whole"))
    rates = [RATE * 0.5 * (1 + math.cos(math.pi * n / length)) for n, length in enumerate([4, 4, 4, 4, 6, 6])]
    for name in ("whole", "stopped"):
        assert [row["step"] for row in rows(tmp_path / name)] == [1, 2, 3, 4, 5, 6]
        np.testing.assert_allclose([row["learning_rate"] for row in rows(tmp_path / name)], rates, rtol=1e-5)
        assert configs.read(tmp_path / name).optimizer.steps == 6
        assert (tmp_path / name / "finished").read_text() == "6\n"
    assert flat(seen[:6]) == in_order(config, 24)
    (record,) = (tmp_path / "whole" / "changes.jsonl").read_text().splitlines()
    assert json.loads(record) == {"step": 4, "changed": ["optimizer.steps (4 there, 6 now)"]}


def test_another_batch_goes_on_with_the_examples_that_come_next(config, tmp_path, seen, capsys):
    """4 + 4 examples, then 7 + 7 + 7: by then every one of the nine was seen three times and two a fourth time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Loop, "_stops", lambda self, now: now == 2)
        loop.train(config, tmp_path / "run")
    undisturbed = in_order(config, 29)
    config.batch_size, config.optimizer.steps = 7, 5
    loop.train(config, tmp_path / "run", change=["batch_size", "optimizer.steps"])
    assert [len(batch) for batch in seen] == [4, 4, 7, 7, 7]
    assert flat(seen) == undisturbed
    assert sorted(undisturbed[:27]) == sorted([*range(9)] * 3)
    out = capsys.readouterr().out
    assert "from step 2 on this run has 5 steps, not 4 and 7 examples in a batch, not 4\n" in out
    assert (
        "8 recorded and 0 rendered examples were seen: the order goes on with the next ones, and 21 are to come" in out
    )


def test_the_rate_follows_the_batch_where_the_config_says_so(config, tmp_path):
    config.optimizer.rate_batch = 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Loop, "_stops", lambda self, now: now == 2)
        loop.train(config, tmp_path / "run")
    config.batch_size = 1
    loop.train(config, tmp_path / "run", change=["batch_size"])
    assert configs.read(tmp_path / "run").optimizer.learning_rate == RATE / 2
    config.optimizer.rate_batch, config.batch_size = 0, 2
    config.optimizer.steps = 6
    with pytest.raises(UserError, match=r"optimizer.learning_rate \(0.1 there, 0.2 now\)"):
        loop.train(config, tmp_path / "run", change=["batch_size", "optimizer.steps"])


@pytest.mark.parametrize(
    ("values", "change", "sentence"),
    [
        ({"steps": 6}, (), r"steps \(4 there, 6 now\).* or let this run change with --change=optimizer.steps\.$"),
        ({"learning_rate": 0.5}, ("optimizer.steps",), r"learning_rate \(0.2 there, 0.5 now\).*these networks\.$"),
        ({"steps": 6, "learning_rate": 0.5}, ("optimizer.steps",), r"learning_rate \(0.2 there, 0.5 now\)\. Give"),
        ({"steps": 3}, ("optimizer.steps",), "optimizer.steps=3, and step 4 is done: give more"),
        ({}, ("optimizer.learning_rate",), "--change=optimizer.learning_rate: a run that has begun can change opt"),
    ],
)
def test_what_is_not_said_or_cannot_be_changed_is_refused_and_changes_nothing(
    config, tmp_path, values, change, sentence
):
    loop.train(config, tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    config.optimizer.update(values)
    with pytest.raises(UserError, match=sentence):
        loop.train(config, tmp_path / "run", change=change)
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    assert (tmp_path / "run" / "finished").exists()


def test_a_shorter_length_of_a_larger_batch_is_told_how_many_steps_keep_the_examples(config, tmp_path):
    config.optimizer.steps = 20
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Loop, "_stops", lambda self, now: now == 4)
        loop.train(config, tmp_path / "run")
    config.batch_size, config.optimizer.steps = 8, 2
    with pytest.raises(UserError, match=r"steps=2, and step 4 is done: give more, such as 12, which keeps the number"):
        loop.train(config, tmp_path / "run", change=["batch_size", "optimizer.steps"])


def test_a_checkpoint_that_did_not_count_examples_keeps_its_batch(config, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Loop, "_stops", lambda self, now: now == 2)
        patch.setattr(loop.Stream, "get_state", lambda self: {"step": self._step})  # as older versions saved it
        loop.train(config, tmp_path / "run")
    config.batch_size = 2
    with pytest.raises(
        UserError, match=r"is an older version's and does not count examples: go on with config\.batch_s"
    ):
        loop.train(config, tmp_path / "run", change=["batch_size"])
    assert configs.read(tmp_path / "run").batch_size == 4
    config.batch_size, config.optimizer.steps = 4, 6
    loop.train(config, tmp_path / "run", change=["optimizer.steps"])

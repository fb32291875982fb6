"""Profiles on demand: the steps asked for, and no others, in files that TensorBoard and Perfetto read."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from robustdepth.errors import UserError
from robustdepth.training.profiling import Profiler, parse_steps


def traced_steps(folder) -> list[int]:
    """Numbers of the training steps in the only Perfetto trace below the folder."""
    (path,) = folder.rglob("perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return sorted(int(event["args"]["step_num"]) for event in events if event.get("name") == "train")


@pytest.fixture
def step():
    return jax.jit(lambda x: (x + 1, jnp.sin(x)))


def test_the_steps_are_counted_from_one_and_both_ends_belong():
    assert list(parse_steps("3:5", last_step=5)) == [3, 4, 5]
    assert list(parse_steps("4:4", last_step=5)) == [4]
    assert not parse_steps("", last_step=5)


@pytest.mark.parametrize("text", ["0:3", "4:3", "3:6", "3", "a:b", "3:", "-1:3", "1:2:3"])
def test_other_steps_are_refused(text):
    with pytest.raises(UserError, match=rf"--profile_steps={text}: give FIRST:LAST with 1 <= FIRST <= LAST <= 5"):
        parse_steps(text, last_step=5)


def test_exactly_the_wanted_steps_are_traced(step, tmp_path, capsys):
    profiler, x = Profiler(range(2, 4), tmp_path / "profile"), jnp.zeros(4)
    for number in range(1, 6):
        x, _ = profiler.run(number, step, x)
    profiler.close()  # has been written already
    assert x.tolist() == [5.0] * 4  # every step ran once
    assert traced_steps(tmp_path) == [2, 3]
    assert len(list(tmp_path.rglob("*.xplane.pb"))) == 1
    assert capsys.readouterr().out.count(str(tmp_path / "profile")) == 1


def test_a_run_that_stops_within_the_steps_keeps_what_it_traced(step, tmp_path):
    profiler = Profiler(range(2, 9), tmp_path)
    profiler.run(1, step, jnp.zeros(4))
    profiler.run(2, step, jnp.zeros(4))
    profiler.close()
    assert traced_steps(tmp_path) == [2]


def test_a_run_that_goes_on_behind_the_steps_traces_nothing(step, tmp_path):
    profiler = Profiler(range(2, 4), tmp_path)
    profiler.run(4, step, jnp.zeros(4))
    profiler.close()
    assert not list(tmp_path.iterdir())

"""Where compiled programs are kept."""

import os
import subprocess
import sys

import pytest

from robustdepth.runtime.compilation_cache import VARIABLE, keep_compiled


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # what is set is forgotten after the test


def test_the_folder_lies_in_the_users_cache(tmp_path):
    keep_compiled()
    assert os.environ[VARIABLE] == str(tmp_path / "home" / ".cache" / "robustdepth" / "xla")
    assert os.path.isdir(os.environ[VARIABLE])


def test_the_user_may_say_where_the_cache_is(tmp_path):
    os.environ["XDG_CACHE_HOME"] = str(tmp_path / "other")
    keep_compiled()
    assert os.environ[VARIABLE] == str(tmp_path / "other" / "robustdepth" / "xla")


@pytest.mark.parametrize("chosen", ["", "/somewhere"])
def test_the_variable_counts_where_it_is_set(chosen, tmp_path):
    os.environ[VARIABLE] = chosen
    keep_compiled()
    assert os.environ[VARIABLE] == chosen
    assert not list(tmp_path.iterdir())


def test_nothing_is_kept_where_nothing_can_be_written(tmp_path):
    (tmp_path / "home").write_text("a file")
    keep_compiled()
    assert VARIABLE not in os.environ


def test_programs_are_written_and_read_again(tmp_path):
    program = (
        "from robustdepth.runtime.compilation_cache import keep_compiled; keep_compiled()\n"
        "import jax; jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)\n"
        "from jax import monitoring; monitoring.register_event_listener(lambda name, **_: print(name))\n"
        "jax.jit(lambda x: x * 3.0 + 1.0).lower(2.0).compile()\n"
    )

    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert "cache_misses" in run()
    assert len(list((tmp_path / "home/.cache/robustdepth/xla").glob("*-cache"))) == 1
    again = run()
    assert "cache_hits" in again
    assert "cache_misses" not in again

"""Workdirs with checkpoints, for the tests of restores."""

import pathlib
import shutil

import pytest

from robustdepth.runtime import config as configs
from robustdepth.runtime import integrity
from tests.checkpoints import save_steps
from tests.tiny import tiny_config


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(integrity, "PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
    """A workdir with checkpoints of steps 1 and 2."""
    workdir = tmp_path_factory.mktemp("saved") / "run"
    workdir.mkdir()
    configs.write(tiny_config(), workdir)
    save_steps(workdir, (1, 2))
    return workdir


@pytest.fixture
def workdir(saved, tmp_path) -> pathlib.Path:
    return shutil.copytree(saved, tmp_path / "run")

"""A run's small files survive a kill or a full disk at any moment: each is the old one or the new one, never a part."""

import errno
import os
import pathlib

import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime.files import replacing
from robustdepth.runtime.logging import METRICS_FILE, MetricWriter
from robustdepth.runtime.workdir import Workdir
from tests.tiny import tiny_config


class Killed(Exception):
    """Stands for SIGKILL: nothing after it happens."""


def killed_while_writing(path: pathlib.Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text)
        raise Killed


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(Killed):
        killed_while_writing(tmp_path / "numbers.npz", "PK")
    assert not (tmp_path / "numbers.npz").exists()
    with replacing(tmp_path / "numbers.npz") as path:
        np.savez(path, a=np.arange(3))
    assert np.load(tmp_path / "numbers.npz")["a"].tolist() == [0, 1, 2]
    assert [entry.name for entry in tmp_path.iterdir()] == ["numbers.npz"]


def test_a_run_killed_while_it_writes_its_config_starts_again(tmp_path):
    config, run = tiny_config(), tmp_path / "run"
    run.mkdir()
    (run / "lock").touch()
    with pytest.raises(Killed):
        killed_while_writing(run / configs.CONFIG_FILE, '{"name": "ba')
    with Workdir(run, config):
        assert configs.flatten(configs.read(run)) == configs.flatten(config)


def test_a_run_killed_while_it_trims_its_log_keeps_the_log(tmp_path, monkeypatch):
    def die(*_):
        raise Killed

    lines = '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n'
    (tmp_path / METRICS_FILE).write_text(lines)
    monkeypatch.setattr("pathlib.Path.replace", die)
    with pytest.raises(Killed):
        MetricWriter(tmp_path, first_step=2)
    assert (tmp_path / METRICS_FILE).read_text() == lines


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_run_that_cannot_write_any_more_ends_with_a_sentence(tmp_path, number):
    reason = os.strerror(number)
    with pytest.raises(UserError, match=f"{reason}.*goes on from the newest"), Workdir(tmp_path / "run", tiny_config()):
        raise OSError(number, reason)
    with Workdir(tmp_path / "run", tiny_config()):  # it is not locked
        pass


def test_errors_that_are_not_the_disks_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), Workdir(tmp_path / "run", tiny_config()):
        raise FileNotFoundError(errno.ENOENT, "an image")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_run_that_cannot_begin_to_write_is_refused_with_the_folder(tmp_path, monkeypatch, number):
    def full(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_text", full)
        with pytest.raises(UserError, match=f"cannot write in .*run .{os.strerror(number)}.; choose another --workdir"):
            Workdir(tmp_path / "run", tiny_config())
    with Workdir(tmp_path / "run", tiny_config()):
        pass


def test_a_read_only_workdir_is_refused_with_the_folder(tmp_path):
    (tmp_path / "file").touch()  # the superuser may write in any folder, but not in a file
    with pytest.raises(UserError, match=r"cannot write in .*file/run \(Not a directory\)"):
        Workdir(tmp_path / "file" / "run", tiny_config())

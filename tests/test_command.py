"""The console command and the experiments: by name, from any folder, and all commands in one process."""

import os
import subprocess
import sys

import pytest

from robustdepth.__main__ import COMMANDS
from robustdepth.errors import UserError
from robustdepth.runtime.experiments import FOLDER, NAMES, find_experiment
from tests.conftest import REPOSITORY


def run(code: str, *words: str, folder=REPOSITORY) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def command(*words: str, folder=REPOSITORY) -> subprocess.CompletedProcess:
    return run("from robustdepth.__main__ import main; main()", *words, folder=folder)


def test_all_commands_are_imported_in_one_process():
    done = run(f"import {', '.join(f'robustdepth.{name}' for name in COMMANDS)}")
    assert done.returncode == 0, done.stderr


def test_a_wrong_command_ends_with_a_sentence():
    done = command("predikt", "photo.jpg")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no command 'predikt': did you mean predict?\n"


@pytest.mark.parametrize("stray", ["steps=3", "False"])
@pytest.mark.parametrize(
    "words",
    [
        ("train", "--config=world_quickstart", "--workdir=run"),
        ("train", "--config=world_quickstart", "--dry_run=cpu:1"),
        ("evaluate", "--checkpoint=run", "--output=out"),
        ("export", "--checkpoint=run", "--output=file.safetensors"),
        ("ablate", "--family=family.py", "--output=out"),
        ("demo",),
    ],
    ids=lambda words: words[0],
)
def test_words_of_no_flag_are_refused(words, stray, tmp_path):
    done = command(*words, stray, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: '{stray}' belongs to no flag: write --NAME=VALUE for each, without blanks in it.\n"
    assert not list(tmp_path.iterdir())


def test_a_config_that_returns_nothing_is_told(tmp_path):
    (tmp_path / "own.py").write_text("def get_config():\n    pass\n")
    done = command("train", "--config=own.py", "--workdir=run", folder=tmp_path)
    assert done.returncode == 2
    assert "error: own.py: get_config() returns nothing; it must return what base.get_config()" in done.stderr


def test_each_command_has_its_own_help(tmp_path):
    assert "--checkpoint" in command("export", "--help", folder=tmp_path).stdout


@pytest.mark.parametrize("text", ["kitti_mono_resnet18", "configs/kitti_mono_resnet18.py", "world_structure:base"])
def test_experiments_are_known_by_name_in_any_folder(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "world_structure.py:base" if ":" in text else "kitti_mono_resnet18.py"
    assert find_experiment(text) == str(REPOSITORY / "configs" / name)


def test_a_file_of_that_name_is_meant_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "real_clip.py").touch()
    assert find_experiment("configs/real_clip.py") == "configs/real_clip.py"
    assert "base" not in NAMES
    assert find_experiment("real_clip") == str(FOLDER / "real_clip.py")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kiti_mono_resnet18", "there is no config 'kiti_mono_resnet18'.*did you mean kitti_mono_resnet18"),
        ("mine/real_clip.py", "config file mine/real_clip.py does not exist"),
    ],
)
def test_an_unknown_experiment_is_told(text, sentence):
    with pytest.raises(UserError, match=sentence):
        find_experiment(text)


def test_a_config_of_ones_own_stands_on_those_of_the_package_and_of_its_folder(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "half.py").write_text("NAME = 'halved'\n")
    lines = "from configs import base, half", "config = base.get_config()", "print(half.NAME, config.batch_size)"
    done = run(
        "from robustdepth.runtime.experiments import provide_configs; provide_configs(); " + "; ".join(lines),
        folder=tmp_path,
    )
    assert done.stdout == "halved 12\n", done.stderr

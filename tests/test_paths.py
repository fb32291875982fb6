"""~ in what is typed, and folders for what may be thrown away."""

import io
import os
import pathlib
import pwd
import subprocess
import sys

import pytest

from configs import base
from robustdepth.errors import UserError, run_main
from robustdepth.paths import cache_folder, expand_home
from robustdepth.runtime import config as configs


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("~/run", "/home/me/run"),
        ("~", "/home/me"),
        ("--checkpoint=~/run", "--checkpoint=/home/me/run"),
        ("--config.data.root=~", "--config.data.root=/home/me"),
        ("--models=a=~/run,b=~/other.npz", "--models=a=/home/me/run,b=/home/me/other.npz"),
        ("--method=depth:~/run", "--method=depth:/home/me/run"),
        ("--drives=~/a,~/b", "--drives=/home/me/a,/home/me/b"),
        ("~nobody-has-this-name/run", "~nobody-has-this-name/run"),
        ("--output=runs/a~b/~/c~", "--output=runs/a~b/~/c~"),
        ("--weather=fog", "--weather=fog"),
    ],
)
def test_home_stands_where_a_path_begins(typed, meant):
    assert expand_home(typed) == meant


def test_paths_in_a_config_file():
    config = base.get_config()
    config.data.update(root="~/kitti", split="/data/~/split.txt")
    found = configs.at_home(config)
    assert (found.data.root, found.data.split) == ("/home/me/kitti", "/data/~/split.txt")
    assert config.data.root == "~/kitti"
    found.data.root = "~/kitti"
    assert found.to_dict() == config.to_dict()


def test_an_unknown_home_is_told(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", lambda user: {}[user])
    with pytest.raises(UserError, match="--workdir=~/run: nobody can say what ~ is"):
        expand_home("--workdir=~/run")


def test_a_name_that_is_no_utf8_is_printed_all_the_same(monkeypatch):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, "utf-8"))
    run_main(lambda: print(os.fsdecode(b"caf\xe9"), flush=True))
    assert printed.getvalue() == b"caf\\udce9\n"


def test_a_cache_of_somebody_else_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cache_folder("videos") == tmp_path / f"robustdepth-{os.getuid()}" / "videos"
    monkeypatch.setattr(os, "getuid", lambda: 54_321)
    (tmp_path / "robustdepth-54321").mkdir()  # made by this test's user, who is another one
    with pytest.raises(UserError, match="belongs to somebody else"):
        cache_folder("videos")


def test_every_command_line_is_read_in_one_way():
    repository = pathlib.Path(__file__).parent.parent
    sources = [path for part in ("robustdepth", "launch") for path in (repository / part).rglob("*.py")]
    texts = {path: path.read_text() for path in sources}
    parsing = {path: text for path, text in texts.items() if "app.run(" in text or ".parse_args(" in text}
    assert len(parsing) >= 8
    assert [path for path, text in parsing.items() if "command_line()" not in text] == []


def test_commands_expand_home(tmp_path):
    """The true command lines, with flags and with arguments."""
    environment = os.environ | {"HOME": str(tmp_path)}
    for command in (
        ["predict", "--checkpoint=~/nowhere", "--output=~/out", "~/no.png"],
        ["prepare", "check", "~/nowhere"],
        ["evaluate", "--checkpoint=~/nowhere", "--output=~/out", "--protocols=world"],
    ):
        line = [sys.executable, "-m", f"robustdepth.{command[0]}", *command[1:]]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert str(tmp_path) in done.stderr
        assert "~" not in done.stderr
        assert not pathlib.Path("~").exists()

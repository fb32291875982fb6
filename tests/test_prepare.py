"""The prepare binary: it starts light, refuses mistakes by a sentence, and names commands that exist."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from robustdepth import prepare
from robustdepth.errors import run_main
from tests.prepare_command import run_prepare
from tests.recordings import (
    write_kitti_raw,
)


def test_tensorflow_is_never_imported(tmp_path):
    write_kitti_raw(tmp_path / "raw")
    code = f"""
import sys
from robustdepth import prepare
from robustdepth.data.stream import train_stream
from tests.recordings import config_for
folders = ["--source={tmp_path}/raw", "--output={tmp_path}/packed"]
sys.argv = ["prepare", "kitti_raw", *folders, "--height=32", "--width=96"]
prepare.main()
next(train_stream(config_for("packed", "{tmp_path}/packed")))
assert "tensorflow" not in sys.modules and "tensorflow_datasets" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=os.getcwd())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "nowhere"], "error: nowhere does not exist"),
        (["kitti_raw", "--source=nowhere", "--output=out"], "error: no drive"),
        (["kitti_raw", "--source=nowhere", "--output=out", "--width=100"], "error: height and width must be multiples"),
        (["kiti_raw"], "invalid choice"),
    ],
)
def test_mistakes_exit_with_status_two(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prepare", *arguments])
    with pytest.raises(SystemExit) as stopped:
        run_main(prepare.main)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_messages_name_commands_that_exist(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run_prepare(monkeypatch, "--help")
    known = set(re.search(r"{([\w,]+)}", capsys.readouterr().out)[1].split(","))
    package = pathlib.Path(prepare.__file__).parent
    text = "".join(path.read_text() for path in package.rglob("*.py"))
    named = set(re.findall(r"robustdepth\.prepare (\w+)", text))
    assert {"check", "proxies", "evaluation"} <= named
    assert named <= known
    modules = {name.replace(".", "/") for name in re.findall(r"python -m robustdepth\.([\w.]*\w)", text)}
    assert {name for name in modules if not (package / f"{name}.py").is_file()} == set()

"""Commands, options and links of all documents: each command line is parsed by its binary, cheap ones run."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest

from configs import base
from robustdepth.runtime.config import flatten
from tests.conftest import REPOSITORY
from tests.recordings import write_clip

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "launch/*.md", "robustdepth/weights/*.md")
    for path in REPOSITORY.glob(pattern)
)
CONFIGS = sorted(path for path in (REPOSITORY / "configs").glob("*.py"))
# Scripts of launch/ hand the words behind their own name to a binary.
LAUNCHED = {
    "launch/local.sh evaluate": "robustdepth.evaluate",  # before the shorter one
    "launch/local.sh": "robustdepth.train",
    "launch/slurm.sbatch": "robustdepth.train",
    "launch/slurm_evaluate.sbatch": "robustdepth.evaluate",
    "launch/sweep.py": "launch/sweep.py",
}
OTHERS = ("precompute_rgb_images.py", "precompute_depth_gt.py")  # scripts of md4all
OTHERS += ("train.py", "evaluate_depth.py", "evaluate_pose.py", "export_gt_depth.py", "test_simple.py")  # of monodepth2
INCOMPLETE = re.compile(
    r"must have a value other than None|arguments are required|Flag --output"
)  # prose may leave out


def fenced(text: str) -> list[str]:
    """The blocks between fences that are no other language than a shell's."""
    return re.findall(r"^```(?:sh|bash|)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def lines_of(block: str) -> list[str]:
    """The command lines of a shell block: continued lines joined, a loop's variables at their first values."""
    values = dict(re.findall(r"for (\w+) in (\S+)", block))
    block = re.sub(r"\$(\w+)", lambda match: values.get(match[1], match[0]), block.replace("\\\n", " "))
    return [line.strip() for line in block.splitlines()]


def command_of(line: str) -> list[str] | None:
    """[program, word...] of a command line of this project; None for others."""
    for script, program in LAUNCHED.items():
        if found := re.search(rf"(?<!\S){re.escape(script)}\s(.*?)\)?$", line):
            return [program, *shlex.split(found[1], comments=True)]
    words = shlex.split(line, comments=True) if line.startswith("python ") else []
    return words[2:] if words[1:2] == ["-m"] else None


def in_blocks(path: pathlib.Path) -> list[list[str]]:
    text = path.read_text()
    blocks = (
        fenced(text) if path.suffix == ".md" else re.findall(r"^(?: {4}|)python -m (?:.*\\\n)*.*", text, re.MULTILINE)
    )
    return [command for block in blocks for line in lines_of(block) if (command := command_of(line))]


def in_prose(path: pathlib.Path) -> list[list[str]]:
    prose = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    spans = (re.sub(r"\s+", " ", span) for span in re.findall(r"`(python -m (?:robustdepth|benchmarks)[^`]*)`", prose))
    return [command for span in spans if "..." not in span and (command := command_of(span))]


COMPLETE = [(path, command) for path in (*DOCUMENTS, *CONFIGS) for command in in_blocks(path)]
PARTIAL = [(path, command) for path in DOCUMENTS for command in in_prose(path)]
WRONG = {
    "robustdepth.train --config=configs/world_weather.py --workdir=x --no_such_flag=1": "no_such_flag",
    "robustdepth.train --config=configs/no_such_file.py --workdir=x": "no_such_file",
    "robustdepth.train --config=configs/world_weather.py --workdir=x --config.loss.no_such_key=1": "no_such_key",
    "robustdepth.train --config=configs/world_weather.py --workdir=x --config.data.name=kitti_rar": "kitti_rar",
    "robustdepth.evaluate --workdir=x --protocols=no_such_protocol --output=y": "no_such_protocol",
    "robustdepth.prepare no_such_command": "no_such_command",
    "benchmarks.kills --no_such_flag=1": "no_such_flag",
    "benchmarks.no_such_module": "no_such_module",
}  # what the binary's answer must name


@pytest.fixture(scope="module")
def errors() -> dict[tuple[str, ...], str]:
    """What the binaries say about every command line of the documents, and about `WRONG`: "" where it is right."""
    commands = [command for _, command in COMPLETE + PARTIAL] + [line.split() for line in WRONG]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "XLA_FLAGS": ""}
    parser = [sys.executable, "-m", "tests.command_lines"]
    done = subprocess.run(
        parser, input=json.dumps(commands), cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(map(tuple, commands), json.loads(done.stdout), strict=True))


def test_binaries_accept_every_command_line(errors):
    assert len(COMPLETE) > 120
    assert len(PARTIAL) > 10
    found = [
        f"{path.relative_to(REPOSITORY)}: {shlex.join(command)}\n{error}"
        for commands, may_lack in ((COMPLETE, False), (PARTIAL, True))
        for path, command in commands
        if (error := errors[tuple(command)]) and not (may_lack and INCOMPLETE.search(error))
    ]
    assert not found, "\n\n".join(found)


@pytest.mark.parametrize("line", WRONG)
def test_wrong_command_lines_are_noticed(errors, line):
    assert WRONG[line] in errors[tuple(line.split())]


def test_every_option_that_the_documents_name_exists():
    keys = flatten(base.get_config())
    sections = "|".join({key.split(".")[0] for key in keys if "." in key})
    for path in (*DOCUMENTS, *CONFIGS):
        text = path.read_text()
        named = re.findall(rf"\bconfig\.((?:{sections})\.\w+)", text)
        if path.suffix == ".md":
            named += re.findall(rf"`(?:--config\.)?((?:{sections})\.(?!safetensors|py\b)[a-z_]+)(?:=[^`]*)?`", text)
        unknown = {key for key in named if key not in keys and not any(other.startswith(f"{key}.") for other in keys)}
        assert not unknown, (
            f"{path.relative_to(REPOSITORY)} names options that configs/base.py lacks: {sorted(unknown)}"
        )


def test_every_file_and_heading_that_the_documents_link_exists():
    for path in DOCUMENTS:
        prose = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
        for target, heading in re.findall(r"\]\((?!http)([^)#\s]*)#?([^)\s]*)\)", prose):
            file = path.parent / target if target else path
            assert file.exists(), f"{path.name} links {target}, which does not exist"
            if heading:
                titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
                anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
                assert heading in anchors, f"{path.name} links {target}#{heading}, which is no heading"


def test_every_file_that_the_documents_name_exists():
    folders = "configs|robustdepth|benchmarks|launch|docs|tests"
    names = {path.name for folder in folders.split("|") for path in (REPOSITORY / folder).rglob("*.py")}
    for path in (*DOCUMENTS, *CONFIGS):
        text = path.read_text()
        for name in re.findall(rf"(?<![\w./])((?:{folders})/[\w/.-]+\.(?:py|md|sh|yaml|sbatch|txt|safetensors))", text):
            assert (REPOSITORY / name).exists(), f"{path.name} names {name}, which does not exist"
        for name in re.findall(r"`(\w+\.py)`", text):
            assert name in names or name in OTHERS, f"{path.name} names {name}, which does not exist"


def documented(document: str, start: str) -> list[str]:
    """The first command of a document that begins so."""
    return next(c for c in in_blocks(REPOSITORY / document) if " ".join(c).startswith(start))


def run(command: list[str], folder: pathlib.Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # one device will do
    environment["PYTHONPATH"] = str(REPOSITORY)
    words = [sys.executable, "-m", *command]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def pictures(tmp_path):
    """A folder with what the commands below name."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 40, 3), np.uint8)
    (tmp_path / "IMAGES").mkdir()
    cv2.imwrite(str(tmp_path / "photo.jpg"), cv2.resize(noise, (160, 48)))
    cv2.imwrite(str(tmp_path / "IMAGES" / "a.png"), cv2.resize(noise, (160, 48)))
    return tmp_path


def test_depth_without_training(pictures):
    run(documented("README.md", "robustdepth.predict --checkpoint=bundled"), pictures)
    assert cv2.imread(str(pictures / "depth" / "photo_depth.png"), cv2.IMREAD_UNCHANGED).shape == (48, 160)


def test_a_corrupted_copy(pictures):
    command = documented("docs/evaluation.md", "robustdepth.prepare corrupt")
    run([*command, "--corruptions=brightness", "--severities=1"], pictures)
    assert (pictures / "DIR" / "brightness" / "1" / "a.png").is_file()


def test_a_check_of_own_footage(tmp_path):
    write_clip(tmp_path / "footage")
    assert "field of view" in run(documented("docs/own_footage.md", "robustdepth.prepare check"), tmp_path)

"""A list of named choices: each once, found by name, complete once its package is imported."""

import re
import sys

import pytest

from robustdepth import prepare
from robustdepth.conditions.corruptions.corruption import CORRUPTIONS
from robustdepth.data.benchmarks.listed import DATASETS
from robustdepth.data.benchmarks.protocol import OTHER_PROTOCOLS, PROTOCOLS
from robustdepth.data.recordings.clips import COMMANDS, RECORDINGS
from robustdepth.errors import UserError
from robustdepth.evaluation.tasks.masks import MASKS
from robustdepth.evaluation.tasks.odometry import ODOMETRY
from robustdepth.evaluation.tasks.stereo import STEREO_PROTOCOL
from robustdepth.evaluation.video.protocols import VIDEO_PROTOCOLS
from robustdepth.methods.method import METHODS
from robustdepth.models.encoder import ENCODERS, TRANSFORMERS
from robustdepth.models.experts import EXPERTS
from robustdepth.registry import Registry, import_all


def test_choices_are_found_by_name_and_no_name_is_given_twice():
    shapes: Registry[type] = Registry("shape")

    @shapes.listed("round")
    class Round: ...

    assert shapes.add("square", str) is str
    assert list(shapes) == ["round", "square"]
    assert shapes.find("round") is Round
    with pytest.raises(UserError, match="unknown shape 'roun': did you mean round"):
        shapes.find("roun")
    with pytest.raises(UserError, match=r"shape 'round' exists already, <class .*Round'>: choose another name"):
        shapes.listed("round")(int)
    assert shapes["round"] is Round


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a=b", "../a", "-a", "\u00e9", None, 3])
def test_names_that_no_command_line_can_hold_are_refused(name):
    shapes: Registry[int] = Registry("shape")
    with pytest.raises(UserError, match="is no name for a shape"):
        shapes.add(name, 1)
    assert not shapes


@pytest.mark.parametrize(
    ("choices", "name"),
    [
        (CORRUPTIONS, "all"),
        (DATASETS, "kitti_raw"),
        (ENCODERS, "dinov2_vits14"),
        (EXPERTS, "world"),
        (METHODS, "auto_mask"),
        (PROTOCOLS, "masks"),
        (RECORDINGS, "none"),
        (TRANSFORMERS, "resnet18"),
    ],
)
def test_names_that_mean_something_else_are_refused(choices, name):
    with pytest.raises(UserError, match=f"{name}': the name means something else already"):
        choices.add(name, None)


def test_names_of_what_is_no_choice_are_those_of_the_commands(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["prepare", "--help"])
    with pytest.raises(SystemExit):
        prepare.parse()
    commands = re.search(r"{([\w,]+)}", capsys.readouterr().out)[1].split(",")
    assert {*commands} == {*RECORDINGS, *COMMANDS} - {"packed"}
    assert (ODOMETRY, *VIDEO_PROTOCOLS, STEREO_PROTOCOL, MASKS) == OTHER_PROTOCOLS


def test_all_modules_of_a_package_are_imported(tmp_path, monkeypatch):
    package = tmp_path / "some_shapes"
    package.mkdir()
    (package / "__init__.py").write_text("from robustdepth.registry import import_all\nimport_all(__name__)\n")
    (package / "listing.py").write_text("from robustdepth.registry import Registry\nSHAPES = Registry('shape')\n")
    for name in ("b", "a"):
        (package / f"{name}.py").write_text(f"from some_shapes.listing import SHAPES\nSHAPES.add('{name}', 1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    import_all("some_shapes")
    assert sorted(sys.modules["some_shapes.listing"].SHAPES) == ["a", "b"]

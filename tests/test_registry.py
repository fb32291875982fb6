"""A list of named choices: each once, found by name, complete once its package is imported."""

import sys

import pytest

from robustdepth.errors import UserError
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

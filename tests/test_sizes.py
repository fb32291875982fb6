"""Files stay short enough to be read at once, functions short enough to be seen at once."""

import ast
import subprocess

import pytest

from tests.conftest import REPOSITORY

FILE_LINES, FUNCTION_LINES = 300, 60  # each at most one less
TABLES = {("configs/base.py", "get_config")}  # one literal: every option with its default


def too_long(name: str, source: str) -> list[str]:
    """What is over a limit in one file, as sentences."""
    lines = len(source.splitlines())
    found = [f"{name} has {lines} lines: split it by subject"] if lines >= FILE_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (name, node.name) not in TABLES:
            lines = (node.end_lineno or 0) - node.lineno + 1
            found += [f"{name}: {node.name} has {lines} lines: split it"] if lines >= FUNCTION_LINES else []
    return found


def test_no_file_and_no_function_is_too_long():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("this copy of the project has no git")
    names = sorted(name for name in set(listed.stdout.split()) if (REPOSITORY / name).is_file())
    assert "tests/test_sizes.py" in names
    found = [sentence for name in names for sentence in too_long(name, (REPOSITORY / name).read_text())]
    assert not found, "\n".join(found)


def test_the_limits_are_seen():
    long = "def f():\n" + "    x = 1\n" * 59
    assert too_long("a.py", long[: -len("    x = 1\n")]) == []
    assert too_long("a.py", "class A:\n" + "".join(f"    {line}\n" for line in long.splitlines())) == [
        "a.py: f has 60 lines: split it"
    ]
    assert too_long("b.py", "x = 1\n" * 299) == []
    assert too_long("b.py", "x = 1\n" * 300) == ["b.py has 300 lines: split it by subject"]
    assert too_long("configs/base.py", long.replace("f()", "get_config()")) == []

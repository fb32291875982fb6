"""Runs the prepare binary inside a test."""

import sys

from robustdepth import prepare


def run_prepare(monkeypatch, *arguments) -> None:
    """The binary's main function with a command line."""
    monkeypatch.setattr(sys, "argv", ["prepare", *map(str, arguments)])
    prepare.main()

"""Parses command lines as their binaries do, checks what can be checked of the values, and runs none of them.

python -m tests.command_lines reads a JSON list of [program, word...] from stdin and writes a list of error texts, ""
for a line that is right. A program is a module or a script. Every line is parsed in a process of its own, forked after
the slow imports.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import runpy
import sys

from absl import app, flags

import robustdepth.evaluation.run
import robustdepth.runtime.config


def check_values() -> None:
    """Values that flags alone do not refuse: the config's keys and choices, protocols, weather and corruptions."""
    given = flags.FLAGS
    config = given["config"].value if "config" in given else None
    if config is not None and not isinstance(config, str):
        config.data.root = config.data.root or "given"  # a dry run needs none
        robustdepth.runtime.config.check(config)
    fields = [field.name for field in dataclasses.fields(robustdepth.evaluation.run.Options)]
    if all(name in given for name in fields) and given["protocols"].value:
        robustdepth.evaluation.run.Options(**{name: given[name].value for name in fields})


def parse(program: str, words: list[str]) -> None:
    """Raises whatever the binary raises for these words; ends with `SystemExit(0)` where they are right."""
    parse_args = argparse.ArgumentParser.parse_args

    def run_nothing(main, argv=None, flags_parser=app.parse_flags_with_usage):
        flags_parser(sys.argv)
        check_values()
        sys.exit(0)

    def parse_and_stop(parser, *args, **keywords):
        parse_args(parser, *args, **keywords)
        sys.exit(0)

    app.run, argparse.ArgumentParser.parse_args = run_nothing, parse_and_stop
    sys.argv = [program, *words]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def error_of(program: str, words: list[str]) -> str:
    """What a fresh process says about one command line; "" where it is right."""
    reading, writing = os.pipe()
    if not os.fork():
        said, status = io.StringIO(), 1
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                parse(program, words)
        except SystemExit as end:
            status = end.code
        except BaseException as error:
            said.write(f"{type(error).__name__}: {error}")
        os.write(writing, b"" if status == 0 else (said.getvalue() or "refused").encode()[-4000:])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    os.wait()
    return text


if __name__ == "__main__":
    print(json.dumps([error_of(program, words) for program, *words in json.load(sys.stdin)]))

"""Trains every combination of config values, each in a workdir of its own below --output.

    python launch/sweep.py --config=configs/world_quickstart.py --output=runs/sweep \\
      --set=optimizer.learning_rate=1e-3,2e-3 --set=loss.smoothness=1e-3,1e-2 [--on=local|print|slurm]

The same command again goes on: runs that are finished stay as they are. Values with commas stand in brackets:
--set="image_size=(64, 208),(96, 320)".
"""

import itertools
import pathlib
import re
import shlex
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from absl import app, flags

from robustdepth.errors import UserError, run_main
from robustdepth.paths import command_line
from robustdepth.runtime import config as configs
from robustdepth.runtime.family import load_config, override
from robustdepth.runtime.workdir import FINISHED_FILE

_CONFIG = flags.DEFINE_string("config", None, "Experiment file of every run.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the workdirs.", required=True)
_SET = flags.DEFINE_multi_string("set", [], "KEY=VALUE,VALUE,... of the config; every combination is trained.")
_ON = flags.DEFINE_enum("on", "local", ["local", "print", "slurm"], "Train here in turn, print commands, or submit.")
_SBATCH = flags.DEFINE_string("sbatch", "", 'Options for sbatch, with --on=slurm: "--gpus=1 --time=4:00:00".')

SBATCH_SCRIPT = "launch/slurm.sbatch"
LONGEST_NAME = 200  # of a workdir; file systems take 255 bytes


class Run(NamedTuple):
    """One training of a sweep."""

    workdir: pathlib.Path
    overrides: tuple[str, ...]  # "key=value"


def split_values(text: str) -> list[str]:
    """The values of "a,b,(c, d)": split at commas outside brackets and quotes."""
    parts = re.findall(r"""(?:\([^()]*\)|"[^"]*"|'[^']*'|[^,])+|(?<=,)(?=,|$)|^(?=,)""", text)
    return [part.strip() for part in parts]


def parse_grid(texts: Sequence[str]) -> dict[str, list[str]]:
    """Key -> its values, in the order given.

    Raises:
      UserError: a text that is not KEY=VALUE,..., an empty or repeated value, a key given twice.
    """
    grid: dict[str, list[str]] = {}
    for text in texts:
        key, equals, tail = text.partition("=")
        values = split_values(tail)
        if not key or not equals or not values or "" in values:
            raise UserError(f"--set={text} is not KEY=VALUE,VALUE,..., such as --set=optimizer.steps=300,600.")
        if len(set(values)) < len(values):
            raise UserError(f"--set={text} names a value twice: leave it out.")
        if key in grid:
            raise UserError(f"--set={key} is given twice: name all its values in one, parted by commas.")
        grid[key] = values
    return grid


def expand(output: str | pathlib.Path, grid: dict[str, list[str]]) -> list[Run]:
    """One run for every combination, the last key varying fastest; its workdir is named after the keys that vary.

    Raises:
      UserError: names that are too long, or that two combinations share.
    """
    runs = []
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        varying = [f"{key}={value}" for key, value in chosen.items() if len(grid[key]) > 1]
        bare = [re.sub(r"[()\[\]'\" ]", "", text) for text in varying]
        name = "_".join(re.sub(r"[^\w.=+-]+", "-", text) for text in bare) or "run"
        if len(name) > LONGEST_NAME:
            raise UserError(f'the workdir "{name[:40]}..." would have a name of {len(name)} letters: vary fewer keys.')
        runs.append(Run(pathlib.Path(output) / name, tuple(f"{key}={value}" for key, value in chosen.items())))
    names = [run.workdir.name for run in runs]
    if shared := {name for name in names if names.count(name) > 1}:
        raise UserError(f'two runs would share the workdir "{shared.pop()}": their values differ only in signs.')
    return runs


def check(config_path: str, runs: Sequence[Run]) -> None:
    """Refuses a sweep any of whose configs cannot be trained, before the first one is.

    Raises:
      UserError: no such experiment, or what `runtime.config.check` says of a run's config.
    """
    for run in runs:
        configs.check(override(load_config(config_path), run.overrides))


def train_flags(config_path: str, run: Run) -> list[str]:
    """The flags of the training command for a run."""
    return [f"--config={config_path}", f"--workdir={run.workdir}", *[f"--config.{text}" for text in run.overrides]]


def commands(config_path: str, runs: Sequence[Run], on: str, sbatch: str) -> list[list[str]]:
    """The words of the command that trains, or submits, each run."""
    start = ["sbatch", *shlex.split(sbatch), SBATCH_SCRIPT] if on == "slurm" else ["launch/local.sh"]
    return [[*start, *train_flags(config_path, run)] for run in runs]


def launch(runs: Sequence[Run], lines: Sequence[list[str]]) -> None:
    """Executes the command of every run that is not finished; one that fails does not keep the others from starting.

    Raises:
      UserError: the command does not exist; at the end, the runs whose command failed.
    """
    failed = []
    for run, words in zip(runs, lines, strict=True):
        if (run.workdir / FINISHED_FILE).exists():
            print(f"{run.workdir} is finished already")
            continue
        print(shlex.join(words), flush=True)
        try:
            status = subprocess.run(words, check=False).returncode
        except FileNotFoundError:
            raise UserError(f"there is no {words[0]} here: use --on=print, or run this where it is.") from None
        if status:
            failed.append(f"{run.workdir} (status {status})")
    if failed:
        raise UserError(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}; what they said stands above.")


def _sweep() -> None:
    if _SBATCH.value and _ON.value != "slurm":
        raise UserError("--sbatch goes only with --on=slurm.")
    runs = expand(_OUTPUT.value, parse_grid(_SET.value))
    check(_CONFIG.value, runs)
    lines = commands(_CONFIG.value, runs, _ON.value, _SBATCH.value)
    if _ON.value == "print":
        print("\n".join(map(shlex.join, lines)))
    else:
        launch(runs, lines)


if __name__ == "__main__":
    app.run(lambda _: run_main(_sweep), argv=command_line())

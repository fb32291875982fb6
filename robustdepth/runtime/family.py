"""A family of experiments: one config file with a table ROWS of variants and get_config(row)."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import ModuleType
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from robustdepth.errors import UserError, blame, nearest
from robustdepth.runtime import config as configs
from robustdepth.runtime.experiments import as_config, find_experiment, provide_configs
from robustdepth.runtime.length import settled


class Family(NamedTuple):
    """The rows of a config file, in its order, and the config of each."""

    rows: tuple[str, ...]
    get_config: Callable[[str], ConfigDict]


def load_family(path: str) -> Family:
    """Runs a config file and finds its rows.

    Raises:
      UserError: no such file, or one without ROWS; a row was named.
    """
    path, colon, row = find_experiment(path).partition(":")
    if colon:
        raise UserError(f"{path}:{row} is one row: give the family's file alone, and rows with --rows.")
    module = _run_file(path)
    if not hasattr(module, "ROWS") or not hasattr(module, "get_config"):
        raise UserError(f"{path} is no family of experiments: it needs ROWS and get_config(row).")
    return Family(tuple(module.ROWS), partial(_get_config, module, path))


def load_config(path: str) -> ConfigDict:
    """The config of a file or name, or of one row of a family: "configs/NAME.py:ROW".

    Raises:
      UserError: no such file or row, or one without get_config().
    """
    file, _, row = find_experiment(path).partition(":")
    if row:
        family = load_family(file)
        return family.get_config(choose_rows(family, [row])[0])
    module = _run_file(file)
    if hasattr(module, "ROWS") or not hasattr(module, "get_config"):
        raise UserError(f"{file} is no single experiment: it needs get_config(), or name a row as {file}:ROW.")
    return _get_config(module, file)


def _get_config(module: ModuleType, path: str, *row: str) -> ConfigDict:
    with _blamed(path):
        return as_config(module.get_config(*row), path)


def _run_file(path: str) -> ModuleType:
    provide_configs()
    spec = importlib.util.spec_from_file_location("robustdepth_family", path)
    if spec is None or spec.loader is None:
        raise UserError(f"config file {path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    with _blamed(path):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _blamed(path: str) -> Iterator[None]:
    """Turns whatever a config file raises into a sentence with its line."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a file that ends the process would look like success
        raise UserError(blame(error, path) or f"config file {path} cannot be run: {error}") from error


def choose_rows(family: Family, names: Sequence[str]) -> tuple[str, ...]:
    """The named rows in the order given, each once; all for an empty list. Raises `UserError` for an unknown one."""
    for name in names:
        if name not in family.rows:
            raise UserError(f"unknown row {name!r}: {nearest(name, family.rows)}")
    return tuple(dict.fromkeys(names)) or family.rows


def configs_of(
    family: Family, rows: Sequence[str], seeds: Sequence[int], overrides: Sequence[str]
) -> dict[tuple[str, int], ConfigDict]:
    """The checked config of every row and seed, with "key=value" texts applied to all.

    Raises:
      UserError: an override that cannot be applied, or of what the rows differ in; a config that cannot be run.
    """
    rows_flat = [configs.flatten(family.get_config(row)) for row in rows]
    for text in overrides:
        key = text.partition("=")[0]
        if key == "seed":
            raise UserError(f"--set={text}: seeds are given with --seeds.")
        if len({repr(flat.get(key)) for flat in rows_flat}) > 1:
            raise UserError(f"--set={text} would undo what the rows {','.join(rows)} differ in: leave it out.")
    made = {}
    for row in rows:
        for seed in seeds:
            config = override(family.get_config(row), overrides)
            config.seed = seed
            configs.check(config)
            made[row, seed] = settled(configs.at_home(config))
    return made


def override(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """The config with "key=value" texts applied, typed as the flags --config.key=value of a training are.

    Raises:
      UserError: an unknown key, or a value of another type.
    """
    known = configs.flatten(config)
    for text in overrides:
        key, equals, _ = text.partition("=")
        if not equals:
            raise UserError(f"--set={text} is not KEY=VALUE, such as --set=optimizer.steps=600.")
        if key not in known:
            raise UserError(f"--set={text}: the config has no key {key}; {nearest(key, known)}")
    argv = ["override", *[f"--config.{text}" for text in overrides]]
    values = flags.FlagValues()
    try:
        holder = config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        values(argv)
    except (flags.Error, TypeError, ValueError) as error:
        reason = str(error).replace("--config.", "").strip().rstrip(".")
        raise UserError(f"--set={' --set='.join(overrides)} cannot be applied: {reason}.") from None
    return holder.value

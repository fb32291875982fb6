"""Experiment files: found by name or by path, from any folder; those of this project come with the package."""

import importlib.util
import pathlib
import sys

from ml_collections import ConfigDict
from ml_collections.config_dict import RequiredValueError

from robustdepth.errors import UserError, nearest
from robustdepth.runtime.schema import flatten

_PACKAGE = pathlib.Path(__file__).resolve().parent.parent
# A wheel carries the experiments inside the package; in a checkout they lie beside it.
FOLDER = next(path for path in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if (path / "base.py").is_file())
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "base"))


def find_experiment(text: str) -> str:
    """The file of an experiment, with the row that was named: "DIR/mine.py:ROW", "world_structure:base".

    A file that exists is meant first; else NAME and configs/NAME.py stand for an experiment of this project.

    Raises:
      UserError: neither a file nor such a name.
    """
    path, colon, row = text.partition(":")
    if not pathlib.Path(path).is_file():
        if colon and pathlib.Path(text).is_file():
            raise UserError(f"config file {text} has ':' in its name, after which a row is read: rename it.")
        name = path.removeprefix("configs/").removesuffix(".py")
        if name not in NAMES:
            if path.endswith(".py") or "/" in path:
                raise UserError(f"config file {path} does not exist.")
            raise UserError(f"there is no config {path!r}, as a file or by name: {nearest(path, NAMES)}")
        path = str(FOLDER / f"{name}.py")
    return path + colon + row


def as_config(made: object, path: str) -> ConfigDict:
    """What the get_config() of the file at `path` has made. Raises UserError where that is no config."""
    if not isinstance(made, ConfigDict):
        raise UserError(
            f"{path}: get_config() returns {'nothing' if made is None else 'no ConfigDict'}; it must return what "
            "base.get_config() gave it, changed."
        )
    try:
        flatten(made)
    except (RecursionError, RequiredValueError) as error:  # a section within itself, a required value that is missing
        raise UserError(f"{path}: the config that get_config() returns cannot be read ({error}).") from error
    return made


def provide_configs() -> None:
    """Lets every experiment say `from configs import base`, wherever it lies and from whatever folder it is run.

    The package `configs` is this project's. A folder `configs` in the working folder lends it its other modules.
    """
    if "configs" in sys.modules:
        return
    own = pathlib.Path.cwd() / "configs"
    folders = [str(FOLDER)] + ([str(own)] if own.is_dir() and own != FOLDER else [])
    spec = importlib.util.spec_from_file_location("configs", FOLDER / "__init__.py", submodule_search_locations=folders)
    assert spec is not None
    assert spec.loader is not None  # it is the file of a package
    sys.modules["configs"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

"""Fills variables from a file's tensors, strictly: every parameter is filled, every tensor accounted for."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from robustdepth.errors import UserError

Variables = Mapping[str, Any]  # {"params": ..., "batch_stats": ...}
# Flax's names of a layer's arrays -> PyTorch's.
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


@dataclasses.dataclass(frozen=True)
class Report:
    """What a weight file filled; printing it gives one readable line."""

    architecture: str
    naming: str  # whose names the file uses
    loaded: int  # tensors
    parameters: int  # numbers in them
    ignored: tuple[str, ...]  # tensors of the file that have no place in this network

    def __str__(self) -> str:
        shown = ", ".join(self.ignored[:3]) + (", ..." if len(self.ignored) > 3 else "")
        ignored = f"; ignored {len(self.ignored)} that the network has no use for ({shown})" if self.ignored else ""
        return (
            f"{self.architecture}: loaded {self.loaded} tensors ({self.parameters:,} numbers, {self.naming} names)"
            f"{ignored}."
        )


def to_flax(value: np.ndarray) -> np.ndarray:
    """PyTorch's layout to Flax's: kernels OIHW to HWIO, matrices transposed, everything else as it is; float32."""
    value = np.asarray(value, np.float32)
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def fill(
    variables: Variables,
    weights: Mapping[str, np.ndarray],
    name_of: Callable[[str], str | None],
    *,
    architecture: str,
    naming: str,
    unused: str,
    convert: Callable[[str, np.ndarray], np.ndarray] = lambda path, value: to_flax(value),
) -> tuple[dict[str, Any], Report]:
    """The variables with the file's numbers in the place of their own.

    Args:
      variables: a network's "params" and, where it has them, "batch_stats".
      weights: tensors by name, see `read_weights`.
      name_of: the file's name of one of our arrays, such as "params/block0/conv/kernel"; None for an array that the
        file does not hold and that stays as it is.
      architecture: named in errors and in the report, as is `naming`, whose names the file has.
      unused: regex of the tensors that are known to be of no use here; any other left over is an error.
      convert: (our path, the file's tensor) -> the array in our layout.

    Raises:
      UserError: unless every named array finds a finite tensor of its shape and every tensor left is known.
    """
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    filled: dict[str, str] = {}  # our path -> the file's name
    problems = []
    wanted = {path: name for path in flat if (name := name_of(path)) is not None}
    for path, name in wanted.items():
        leaf = flat[path]
        if name not in weights:
            problems.append(f"{name} is missing")
            continue
        filled[path] = name
        value = convert(path, weights[name])
        if value.shape != leaf.shape:
            problems.append(f"{name} has shape {weights[name].shape}, the network needs {leaf.shape} once converted")
        elif not np.isfinite(value).all():
            problems.append(f"{name} holds values that are not finite")
        else:
            flat[path] = jax.device_put(value, leaf.sharding) if isinstance(leaf, jax.Array) else value

    fits = f"{len(wanted) - len(problems)} of {len(wanted)} arrays fit"
    ignored = tuple(sorted(set(weights) - set(filled.values())))
    known = re.compile(unused)
    problems += [f"{name} has no place in the network" for name in ignored if not known.fullmatch(name)]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(f"these weights do not fit {architecture!r}: {'; '.join(problems[:3])}{more} ({fits}).")
    parameters = sum(weights[name].size for name in filled.values())
    return traverse_util.unflatten_dict(flat, sep="/"), Report(architecture, naming, len(filled), parameters, ignored)

"""Training that starts from the networks of an earlier one: config.init_from."""

from collections.abc import Mapping

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from robustdepth.errors import UserError
from robustdepth.runtime.bundle import read_model
from robustdepth.types import PyTree

LEAST = 0.5  # share of a network's numbers that must be found


def init_from(path: str, variables: Mapping[str, PyTree]) -> tuple[dict[str, PyTree], list[str]]:
    """The variables with the numbers of another training's networks, and a line about each network.

    Arrays are matched by network, name and shape; the others stay as they are, and so does a network, such as "pose",
    that the other training did not have.

    Args:
      path: "bundled", a workdir, WORKDIR/checkpoints/STEP, or a file of robustdepth.export.
      variables: {"params", "batch_stats"} of the networks by name.

    Raises:
      UserError: nothing to read there, no network in common, or one of which less than half is found.
    """
    weights, filled, lines = read_model(path), dict(variables), []
    for name, own in variables.items():
        if name not in weights.params:
            lines.append(f"{name} network: not in {path}, starts as configured")
            continue
        theirs = {"params": weights.params[name], "batch_stats": weights.stats.get(name, {})}
        filled[name], line = _fill(name, own, theirs, path)
        lines.append(line)
    if not set(variables) & set(weights.params):
        have, want = ", ".join(sorted(weights.params)), ", ".join(sorted(variables))
        raise UserError(f"config.init_from={path} holds the networks {have}, this training has {want}.")
    return filled, lines


def _fill(name: str, own: PyTree, theirs: PyTree, path: str) -> tuple[PyTree, str]:
    flat, found = flatten_dict(own, sep="/"), flatten_dict(theirs, sep="/")
    fits = [key for key, leaf in flat.items() if key in found and found[key].shape == leaf.shape]
    numbers = sum(flat[key].size for key in fits) / sum(leaf.size for leaf in flat.values())
    odd = [key for key in flat if key not in fits]
    if numbers < LEAST:
        raise UserError(
            f"config.init_from={path} fits {numbers:.0%} of the {name} network alone ({len(odd)} arrays differ, first "
            f"{odd[0]}): use the config.model of that training, or leave init_from out."
        )
    for key in fits:
        flat[key] = np.asarray(found[key], flat[key].dtype)  # on the host: a mesh may have any number of devices
    rest = f"; {len(odd)} arrays start as configured, first {odd[0]}" if odd else ""
    return unflatten_dict(flat, sep="/"), f"{name} network: {numbers:.1%} of its numbers from {path}{rest}"

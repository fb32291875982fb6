"""What a training's workdir tells from outside: how far it is, what is half-written, and whether two are the same."""

import contextlib
import json
import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp

from robustdepth.runtime.checkpoint import FOLDER
from robustdepth.runtime.logging import METRICS_FILE


def temporary(workdir: pathlib.Path, since: float) -> set[str]:
    """The checkpoints being written, or left half-written, that were touched since then (seconds, as `time.time`)."""
    found = set()
    for path in (workdir / FOLDER).glob("*.orbax-checkpoint-tmp*"):
        with contextlib.suppress(FileNotFoundError):  # finished meanwhile
            found |= {path.name} if path.stat().st_ctime > since else set()
    return found


def logged(workdir: pathlib.Path) -> dict[int, float]:
    """The loss of every step logged so far."""
    path, losses = workdir / METRICS_FILE, {}
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):  # cut off by a kill
            row = json.loads(line)
            losses[row["step"]] = row["loss"]
    return losses


def last_logged(workdir: pathlib.Path, since: float) -> int:
    """The last step logged by a process that started then; 0 where it has logged nothing yet."""
    path = workdir / METRICS_FILE
    return max(logged(workdir), default=0) if path.exists() and path.stat().st_mtime > since else 0


def differences(ours: pathlib.Path, theirs: pathlib.Path, step: int) -> list[str]:
    """What is not bitwise equal in the checkpoints of this step and in the logged losses."""
    folders = [workdir.absolute() / FOLDER / str(step) for workdir in (ours, theirs)]
    first, second = (ocp.StandardCheckpointer().restore(folder / "state") for folder in folders)
    equal = jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), first, second)
    names = [jax.tree_util.keystr(path) for path, same in jax.tree_util.tree_leaves_with_path(equal) if not same]
    positions = [(folder / "data" / "metadata").read_text() for folder in folders]
    names += ["position of the data"] if positions[0] != positions[1] else []
    losses = logged(ours), logged(theirs)
    return names + [f"loss of step {n}" for n in range(1, step + 1) if losses[0].get(n) != losses[1].get(n)]

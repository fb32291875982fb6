"""Checkpoints: asynchronous saves of the training state with the data position, and the newest whole one back.

Layout: WORKDIR/config.json and WORKDIR/checkpoints/STEP/{state, data}. Orbax writes them and marks a step as committed
only when it is complete. The whole training state is read back for resuming; networks in use read the weights alone.
"""

import dataclasses
import logging
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime.distributed import check_same_step, gather, is_first, is_lost
from robustdepth.types import PyTree, TrainState

FOLDER = "checkpoints"


class Checkpointer:
    """Saves and restores the checkpoints of one workdir, on all processes at once; use as a context manager."""

    def __init__(self, workdir: pathlib.Path, keep: int):
        """Raises UserError where the processes of the job see different checkpoints."""
        self.folder = (workdir / FOLDER).absolute()
        check_same_step(latest_step(workdir))
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(self.folder, options=options)
        self._safe = self._manager.latest_step()

    def save(self, state: TrainState, position: dict[str, Any], step: int) -> None:
        """Starts saving in the background; `position` is the data stream's state (JSON).

        Raises:
          UserError: this or the previous save failed, for instance on a full disk; the older checkpoints are untouched.
        """
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(position))
        self._guard(lambda: self._manager.save(step, args=items), step)

    def wait(self) -> None:
        """Returns when every save started is on disk. Raises UserError as `save` does."""
        self._guard(self._manager.wait_until_finished, self._manager.latest_step())
        self._safe = self._manager.latest_step()

    def _guard(self, action, step: int | None) -> None:
        try:
            action()
        except (OSError, ValueError, RuntimeError) as error:
            if is_lost(error):
                raise
            # Orbax abandons its other writes, which would fill the screen when they are collected.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            reason = str(error).strip().splitlines()[0][:200]
            left = "from the start" if self._safe is None else f"from the newest whole checkpoint (step {self._safe})"
            raise UserError(
                f"the checkpoint of step {step}, or the one before it, could not be saved in {self.folder}: {reason}; "
                f"mend this and start the same command again, training goes on {left}."
            ) from error

    def restore(self, template: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest whole checkpoint as (state, data position), or None where there is none.

        A damaged checkpoint is reported, set aside and passed over for the next older one.

        Args:
          template: a state of ShapeDtypeStructs with shardings; what is read takes exactly this form and placement.

        Raises:
          UserError: there are checkpoints, but none can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            items = ocp.args.Composite(state=ocp.args.StandardRestore(template), data=ocp.args.JsonRestore())
            found, reason = None, None
            try:
                found = self._manager.restore(step, args=items)
            except Exception as error:  # whatever a damaged file makes the reader raise
                reason = str(error).strip().splitlines()[0][:160]
            reasons = [text for text in gather(reason) if text is not None]
            if found is not None and not reasons:
                return found["state"], found["data"]
            logging.warning("checkpoint of step %d is damaged and passed over: %s", step, reasons[0])
            self._set_aside(step)
        if steps:
            raise UserError(
                f"none of the checkpoints {steps} in {self.folder} fits or can be read; they are kept as "
                "STEP.damaged: mend them, or train into a new workdir."
            )
        return None

    def _set_aside(self, step: int) -> None:
        source = self.folder / str(step)
        target = self.folder.parent / f"{FOLDER}_damaged" / str(step)
        if is_first():
            target.parent.mkdir(exist_ok=True)
            source.rename(target)
        gather(None)  # no process looks before this is done
        self._manager.reload()

    def close(self) -> None:
        """Waits for pending saves and lets go of the folder."""
        self.wait()
        self._manager.close()

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        # A save that another process does not live to finish would be waited for in vain.
        if kind is None or issubclass(kind, UserError) or jax.process_count() == 1:
            self.close()


@dataclasses.dataclass(frozen=True)
class Weights:
    """The networks of a checkpoint, ready for `apply`; averaged parameters where the run kept them."""

    config: ConfigDict
    params: PyTree
    stats: PyTree
    step: int


def committed_steps(folder: pathlib.Path) -> list[int]:
    """Steps whose checkpoints are complete, ascending."""
    if not folder.is_dir():
        return []
    return sorted(ocp.utils.checkpoint_steps(folder))


def latest_step(workdir: pathlib.Path | str) -> int | None:
    """The newest complete checkpoint of a workdir, None where there is none yet."""
    steps = committed_steps(pathlib.Path(workdir) / FOLDER)
    return steps[-1] if steps else None


def load_weights(path: pathlib.Path | str, step: int | None = None) -> Weights:
    """The networks of a workdir (or of its checkpoints folder) at `step`, by default the newest whole one.

    Raises:
      UserError: no checkpoint there, no such step, or none that can be read.
    """
    workdir = pathlib.Path(path).absolute()
    if workdir.name == FOLDER:
        workdir = workdir.parent
    if not workdir.is_dir():
        raise UserError(f"{path} does not exist; give a training workdir.")
    config = configs.read(workdir)
    steps = committed_steps(workdir / FOLDER)
    if step is not None and step not in steps:
        raise UserError(f"{workdir} has no checkpoint of step {step}; it has {steps}.")
    candidates = [step] if step is not None else steps[::-1]
    for candidate in candidates:
        try:
            tree = _read_arrays(workdir / FOLDER / str(candidate) / "state", ("params", "stats", "ema"))
        except Exception as error:  # whatever a damaged file makes the reader raise
            reason = str(error).strip().splitlines()[0][:160]
            logging.warning("checkpoint of step %d in %s cannot be read: %s", candidate, workdir, reason)
            continue
        return Weights(config, tree.get("ema") or tree["params"], tree["stats"], candidate)
    raise UserError(f"no readable checkpoint in {workdir / FOLDER}: train first, or look whether the copy is complete.")


def _read_arrays(folder: pathlib.Path, names: tuple[str, ...]) -> dict[str, PyTree]:
    """The named subtrees of a saved state as NumPy arrays, whatever devices wrote them."""
    reader = ocp.PyTreeCheckpointer()
    saved = ocp.PyTreeCheckpointHandler().metadata(folder).tree
    wanted = {name: saved[name] for name in names if name in saved}
    wanted = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), wanted)
    restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    return reader.restore(folder, args=ocp.args.PyTreeRestore(wanted, restore_args=restore_args, partial_restore=True))

"""Checkpoints: asynchronous saves of the training state with the data position, and the newest whole one back.

Layout: WORKDIR/config.json and WORKDIR/checkpoints/STEP/{state, data, sha256.json}. Orbax writes them and marks a step
as committed only when it is complete. The whole training state is read back for resuming; networks in use read the
weights alone.
"""

import dataclasses
import itertools
import logging
import pathlib
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime.distributed import check_same_step, gather, is_first, is_lost, together
from robustdepth.runtime.integrity import DamagedError, check_files, checked_position, first_line, patiently, write_sums
from robustdepth.runtime.sharding import path_name
from robustdepth.types import PyTree, TrainState

FOLDER = "checkpoints"
ASIDE = "checkpoints_damaged"
TEMPORARY = ".orbax-checkpoint-tmp"  # follows a step's name until it is committed

Result = TypeVar("Result")


class Checkpointer:
    """Saves and restores the checkpoints of one workdir, on all processes at once; use as a context manager."""

    def __init__(self, workdir: pathlib.Path, keep: int):
        """Raises UserError where the processes of the job see different checkpoints, or the folder cannot be read."""
        self.folder = (workdir / FOLDER).absolute()
        check_same_step(patiently(lambda: latest_step(workdir), f"{self.folder} cannot be read"))
        asynchronous = ocp.AsyncOptions(post_finalization_callback=self._before_commit)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, async_options=asynchronous)
        self._manager = patiently(
            lambda: ocp.CheckpointManager(self.folder, options=options), f"{self.folder} cannot be opened"
        )
        self._safe = self._manager.latest_step()
        self._saving: int | None = None

    def save(self, state: TrainState, position: dict[str, Any], step: int) -> None:
        """Starts saving in the background; `position` is the data stream's state (JSON).

        Raises:
          UserError: this or the previous save failed, for instance on a full disk; the older checkpoints are untouched.
        """
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(position))
        self.wait()
        self._saving = step
        self._guard(lambda: self._manager.save(step, args=items), step)

    def _before_commit(self) -> None:
        """Called by Orbax on process 0, in the background, when a step's files are written, and not yet renamed."""
        folders = self.folder.glob(f"{self._saving}{TEMPORARY}*")
        write_sums(max(folders, key=lambda folder: folder.stat().st_mtime))  # killed saves have left theirs

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
            left = "from the start" if self._safe is None else f"from the newest whole checkpoint (step {self._safe})"
            raise UserError(
                f"the checkpoint of step {step}, or the one before it, could not be saved in {self.folder}: "
                f"{first_line(error)}; mend this and start the same command again, training goes on {left}."
            ) from error

    def restore(self, template: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest whole checkpoint as (state, data position), or None in a workdir that never had one.

        A checkpoint that is provably damaged is passed over for the next older one, and set aside once that is
        restored. An error that proves nothing is raised when trying again does not help; then nothing is moved.

        Args:
          template: a state of ShapeDtypeStructs with shardings; what is read takes exactly this form and placement.

        Raises:
          UserError: on every process; the newest checkpoint cannot be read now, or belongs to another model, or there
            were checkpoints and none is left: training never starts from scratch by itself.
        """
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            folder, what = self.folder / str(step), f"the checkpoint of step {step} in {self.folder} cannot be read"
            found = None
            _, damage = _agree(partial(check_files, folder) if is_first() else _nothing, what)
            if damage is None:
                found, damage = _agree(partial(self._read, step, template), what)
            if found is not None and damage is None:
                together(lambda: self._set_aside(damaged) if is_first() else None)
                self._manager.reload()
                return found
            logging.warning("checkpoint of step %d is damaged and passed over: %s", step, damage)
            damaged[step] = str(damage)
        together(lambda: self._refuse_to_begin_again(damaged))
        return None

    def _read(self, step: int, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Reads a step without waiting for other processes, one of which may have failed to."""
        check_fits(self.folder / str(step), template)
        options = ocp.CheckpointManagerOptions(create=False, save_root_metadata=False, multiprocessing_options=_alone())
        items = ocp.args.Composite(state=ocp.args.StandardRestore(template), data=ocp.args.JsonRestore())
        with ocp.CheckpointManager(self.folder, options=options) as manager:
            found = manager.restore(step, args=items)
        return found["state"], checked_position(found["data"])

    def _set_aside(self, damaged: dict[int, str]) -> None:
        """Moves damaged steps out of the way of those that will be saved again; process 0 does it for all."""
        for step in damaged:
            try:
                target = fresh(self.folder.parent / ASIDE, str(step))
                (self.folder / str(step)).rename(target)
            except OSError as error:
                raise UserError(
                    f"the damaged checkpoint {self.folder / str(step)} cannot be moved into {ASIDE} "
                    f"({first_line(error)}): mend this, or delete it, and start the same command again."
                ) from error
            logging.warning("the damaged checkpoint of step %d is kept as %s", step, target)

    def _refuse_to_begin_again(self, damaged: dict[int, str]) -> None:
        aside = self.folder.parent / ASIDE
        if damaged:
            step, reason = next(iter(damaged.items()))
            raise UserError(
                f"every checkpoint in {self.folder} is damaged (steps {', '.join(map(str, damaged))}; step {step}: "
                f"{reason}); nothing was moved: bring back a copy, or delete this folder to train from scratch."
            )
        if aside.is_dir() and any(aside.iterdir()):
            raise UserError(
                f"{self.folder.parent} has no checkpoint left but those set aside as damaged in {aside}: move one back "
                f"to {self.folder}/STEP, or delete {aside} to train from scratch."
            )

    def begin_again(self) -> None:
        """Deletes every checkpoint, the newest first: killed meanwhile, the run goes on from an older one."""
        self.wait()
        together(lambda: self._delete_all() if is_first() else None)
        self._manager.reload()
        self._safe = None

    def _delete_all(self) -> None:
        for step in reversed(committed_steps(self.folder)):
            try:
                half = fresh(self.folder, f"{step}{TEMPORARY}-deleted")  # what is deleted in part is no checkpoint
                (self.folder / str(step)).rename(half)
                shutil.rmtree(half)
            except OSError as error:
                raise UserError(
                    f"the checkpoint {self.folder / str(step)} cannot be deleted ({first_line(error)}): mend this and "
                    "start the same command again."
                ) from error

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


def _alone() -> ocp.options.MultiprocessingOptions:
    """For reading on this process whatever the others do: Orbax would wait until all have read the same."""
    me = jax.process_index()
    return ocp.options.MultiprocessingOptions(me, {me}, f"reading on process {me}")


def _nothing() -> None:
    """What other processes do while process 0 works for all."""


def _agree(action: Callable[[], Result], what: str) -> tuple[Result | None, str | None]:
    """What `action` returns here, and what proves, here or on another process, that the checkpoint is damaged."""

    def attempt() -> tuple[Result | None, str | None]:
        try:
            return patiently(action, what), None
        except DamagedError as error:
            return None, str(error)

    result, damage = together(attempt)
    return result, next((text for text in gather(damage) if text is not None), None)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The networks of a checkpoint, ready for `apply`; averaged parameters and statistics where the run kept them."""

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
        raise UserError(f"{path} does not exist; give a training's working folder, a network's file, or 'bundled'.")
    config = configs.read(workdir)
    steps = committed_steps(workdir / FOLDER)
    if step is not None and step not in steps:
        raise UserError(f"{workdir} has no checkpoint of step {step}; it has {steps}.")
    for candidate in [step] if step is not None else steps[::-1]:
        folder = workdir / FOLDER / str(candidate)
        what = f"the checkpoint of step {candidate} in {workdir} cannot be read"
        try:
            patiently(partial(check_files, folder), what)
            tree = patiently(partial(_read_arrays, folder / "state", ("params", "stats", "ema")), what)
        except DamagedError as error:
            logging.warning("checkpoint of step %d in %s is damaged: %s", candidate, workdir, error)
            continue
        averaged = tree.get("ema") or tree
        if "params" not in averaged:  # older versions averaged no statistics
            averaged = {"params": averaged, "stats": tree["stats"]}
        return Weights(config, averaged["params"], averaged["stats"], candidate)
    raise UserError(f"no readable checkpoint in {workdir / FOLDER}: train first, or look whether the copy is complete.")


def check_fits(folder: pathlib.Path, template: TrainState) -> None:
    """Raises UserError where a step's arrays are not, by name and shape, those of the template."""
    there, here = _shapes(_saved_tree(folder / "state")), _shapes(template)
    differ = [name for name in sorted(there.keys() | here.keys()) if there.get(name) != here.get(name)]
    if differ:
        name = differ[0]
        sizes = (f"of shape {shapes[name]}" if name in shapes else "missing" for shapes in (there, here))
        more = f", and {len(differ) - 1} more arrays" if len(differ) > 1 else ""
        raise UserError(
            "the checkpoint {} is another model's: {} is {} there and {} here{}; nothing was moved: use the config and "
            "version that it was trained with, or another --workdir.".format(folder, name, *sizes, more)
        )


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    return {path_name(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def fresh(folder: pathlib.Path, name: str) -> pathlib.Path:
    """A path in a folder, made where it is missing, that nothing has yet: NAME, NAME-2, NAME-3, ..."""
    folder.mkdir(exist_ok=True)
    taken = {path.name for path in folder.iterdir()}
    numbered = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return folder / next(text for text in numbered if text not in taken)


def _saved_tree(folder: pathlib.Path) -> PyTree:
    """What a state's folder says that it holds."""
    return ocp.PyTreeCheckpointHandler().metadata(folder).tree


def _read_arrays(folder: pathlib.Path, names: tuple[str, ...]) -> dict[str, PyTree]:
    """The named subtrees of a saved state as NumPy arrays, whatever devices wrote them and other processes do."""
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone())
    reader = ocp.Checkpointer(handler, multiprocessing_options=_alone())
    saved = {name: tree for name, tree in _saved_tree(folder).items() if name in names}
    wanted = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), saved)
    restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    return reader.restore(folder, args=ocp.args.PyTreeRestore(wanted, restore_args=restore_args, partial_restore=True))

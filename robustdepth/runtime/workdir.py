"""The folder of one run: one process at a time, one experiment, and a record of what made it."""

import errno
import fcntl
import importlib.metadata
import json
import pathlib
import platform
import subprocess
import sys
from collections.abc import Sequence
from typing import TextIO

import jax
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime.changes import check_goes_on
from robustdepth.runtime.checkpoint import ASIDE, latest_step
from robustdepth.runtime.distributed import PACKAGES, is_first
from robustdepth.runtime.files import PART

BEST_FILE = "best/model.safetensors"  # the networks that config.validate has chosen
CHANGES_FILE = "changes.jsonl"  # what was changed while the run went on
FINISHED_FILE = "finished"
MEDIAN_FILE = "train_median.npz"  # the training set's median depth
PARAMETERS_FILE = "parameters.txt"
VERSIONS_FILE = "versions.json"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # of a disk that takes nothing more


def versions() -> dict[str, str]:
    """What a result depends on: packages, Python, platform, devices, and the git revision where there is one."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    found |= {"python": platform.python_version(), "platform": platform.platform()}
    found |= {"devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}", "git": git_revision()}
    return found


def git_revision() -> str:
    """The revision of the source tree, with "+changes" where it differs from it; "unknown" outside a checkout."""
    here = pathlib.Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


class Workdir:
    """A run's folder, locked for this job by its process 0, which alone writes there; use as a context manager."""

    def __init__(self, path: str | pathlib.Path, config: ConfigDict, accepted: Sequence[str] = ()):
        """Creates the folder, or checks that it belongs to the same experiment, where that has got to a checkpoint.

        Where keys in `accepted` differ, `before` is the config that is still there: `change` replaces it.

        Raises:
          UserError: another process trains there, it belongs to another config, or it cannot be written.
        """
        self.path = pathlib.Path(path).absolute()
        self.before: ConfigDict | None = None
        self._accepted = accepted
        self._lock: TextIO | None = None
        if not is_first():
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / "lock").open("a")
            self._claim(self._lock, config)
            record = {"command": " ".join(sys.argv), "seed": config.seed, **versions()}
            (self.path / VERSIONS_FILE).write_text(json.dumps(record, indent=1) + "\n")
        except OSError as error:
            self._unlock()
            raise UserError(f"cannot write in {self.path} ({error.strerror}); choose another --workdir.") from None
        except UserError:
            self._unlock()
            raise

    def _claim(self, lock: TextIO, config: ConfigDict) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"another process uses {self.path}; wait for it to end, or use another --workdir."
            ) from None
        if (self.path / configs.CONFIG_FILE).exists():
            self._claim_begun(config)
        elif any(entry.name != "lock" and not entry.name.startswith(PART) for entry in self.path.iterdir()):
            raise UserError(f"{self.path} holds files of something else; use an empty folder as --workdir.")
        else:
            configs.write(config, self.path)

    def _claim_begun(self, config: ConfigDict) -> None:
        """Takes a workdir that has a config: the same one, or a corrected one where there is no checkpoint yet."""
        step = latest_step(self.path)
        if step is not None or (self.path / ASIDE).exists():
            configs.check_same(config, self.path, self._accepted)
            if configs.differences(config, self.path):
                there = configs.flatten(configs.read(self.path))
                self.before = config.copy_and_resolve_references()  # in today's form, whatever version was there
                self.before.update_from_flattened_dict({key: there[key] for key in self._accepted if key in there})
                check_goes_on(config, self.before, step or 0)
        elif differ := configs.differences(config, self.path, free=()):
            for name in (MEDIAN_FILE, PARAMETERS_FILE, BEST_FILE):  # of the other config
                (self.path / name).unlink(missing_ok=True)
            configs.write(config, self.path)
            print(f"{self.path} has no checkpoint yet: it now belongs to this config ({'; '.join(differ[:4])})")

    def check_shared(self) -> None:
        """Raises UserError where this process does not see what process 0 has written."""
        if not (self.path / configs.CONFIG_FILE).is_file():
            raise UserError(f"no {configs.CONFIG_FILE} in {self.path}: --workdir must be one folder all hosts share.")

    def change(self, config: ConfigDict, step: int) -> None:
        """Makes the config that goes on from `step` the workdir's own, and keeps a record of what it changes."""
        record = {"step": step, "changed": configs.differences(config, self.path)}
        with (self.path / CHANGES_FILE).open("a") as file:
            file.write(json.dumps(record) + "\n")
        (self.path / FINISHED_FILE).unlink(missing_ok=True)
        configs.write(config, self.path)  # at last: killed before, the same command changes it again
        self.before = None

    @property
    def finished(self) -> bool:
        """Whether a training has run here to its last step, and is not to go on from it."""
        extended = self.before is not None and "optimizer.steps" in self._accepted
        return (self.path / FINISHED_FILE).exists() and not extended

    def finish(self, step: int) -> None:
        """Marks the run as complete; `evaluate --watch` ends at this."""
        if is_first():
            (self.path / FINISHED_FILE).write_text(f"{step}\n")

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _) -> None:
        """Raises UserError where the block has ended because nothing more can be written."""
        self._unlock()
        if isinstance(error, OSError) and error.errno in FULL:
            raise UserError(
                f"cannot write in {self.path} ({error.strerror}): mend this and start the same command again, training "
                "goes on from the newest whole checkpoint."
            ) from error

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()

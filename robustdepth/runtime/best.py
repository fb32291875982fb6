"""The best networks of a run so far, in WORKDIR/best: a folder that is loaded wherever a checkpoint is."""

import dataclasses
import json
import pathlib
from collections.abc import Callable

from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.runtime.bundle import read_notes, write_exact_bundle
from robustdepth.runtime.checkpoint import Weights
from robustdepth.runtime.workdir import BEST_FILE

NOTE = "validation"  # of the file, beside its networks


@dataclasses.dataclass(frozen=True)
class Validation:
    """How networks are judged while they are trained."""

    judge: Callable[[Weights], dict[str, float]]  # every metric, means over the frames
    higher_is_better: bool  # of config.validate.metric


OpenValidation = Callable[[ConfigDict, pathlib.Path], Validation]  # of a config and its workdir


@dataclasses.dataclass(frozen=True)
class Best:
    """What made networks the best so far."""

    protocol: str
    metric: str
    count: int  # config.validate.count
    value: float
    step: int

    def comparable(self, config: ConfigDict) -> bool:
        """Whether the config's validation measures the same."""
        own = config.validate
        return (self.protocol, self.metric, self.count) == (own.protocol, own.metric, own.count)


def best_file(workdir: pathlib.Path) -> pathlib.Path:
    """Where the best networks of a workdir lie, if there are any."""
    return workdir / BEST_FILE


def read_best(workdir: pathlib.Path) -> Best | None:
    """What is known of the best networks of a workdir; None where there are none.

    Raises:
      UserError: the file cannot be read.
    """
    path = best_file(workdir)
    if not path.exists():
        return None
    try:
        return Best(**json.loads(read_notes(path)[NOTE]))
    except (LookupError, ValueError, TypeError) as error:
        raise UserError(f"{path} does not say how it was chosen ({error}): move it away.") from error


def keep_best(weights: Weights, best: Best, workdir: pathlib.Path) -> None:
    """Puts networks in the place of those that were the best before, with what made them the best, at once.

    Raises:
      UserError: they cannot be written; those from before are still there.
    """
    try:
        write_exact_bundle(weights, best_file(workdir), {NOTE: json.dumps(dataclasses.asdict(best))})
    except OSError as error:
        raise UserError(
            f"the best networks so far, of step {best.step}, cannot be written in {best_file(workdir).parent} "
            f"({error.strerror}): mend this and start the same command again, training goes on from the newest whole "
            "checkpoint."
        ) from error

"""A run that goes on with another length or batch than it began with, and says what that means."""

from typing import Any

from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.runtime.workdir import Workdir
from robustdepth.training.optimizer import learning_rate
from robustdepth.training.restarts import Trial


def change_run(workdir: Workdir, config: ConfigDict, trial: Trial, position: dict[str, Any]) -> None:
    """Lets the workdir have the config that goes on from a checkpoint, where that is another one than before.

    Nothing is lost or repeated: step, networks, optimiser and the place in the examples' order stay. The learning rate
    is the new schedule's at the same step, as if the run had had its new length from the start.

    Args:
      position: of the checkpoint, see `Stream.get_state`.

    Raises:
      UserError: the batch changes, and the checkpoint does not say how many examples were seen.
    """
    before = workdir.before
    if before is None:
        return
    if before.batch_size != config.batch_size and "recorded" not in position:
        raise UserError(
            f"the checkpoint of step {position['step']} in {workdir.path} is an older version's and does not count "
            f"examples: go on with config.batch_size={before.batch_size} to the next checkpoint, then change it."
        )
    sentences = explain(trial.config(before), trial.config(config), position)
    workdir.change(config, position["step"])
    print(*sentences, sep="\n", flush=True)


def explain(before: ConfigDict, config: ConfigDict, position: dict[str, Any]) -> list[str]:
    """What a changed run does from here on, in sentences: its length and batch, its learning rate, its examples."""
    step, last, own = position["step"], config.optimizer.steps, config.optimizer
    changed = {"steps": (before.optimizer.steps, last), "examples in a batch": (before.batch_size, config.batch_size)}
    news = [f"{new} {what}, not {old}" for what, (old, new) in changed.items() if new != old]
    rates = learning_rate(before), learning_rate(config)
    was, now, end = (float(rate(n)) for rate, n in ((rates[0], step - 1), (rates[1], step), (rates[1], last - 1)))
    lines = [
        f"from step {step} on this run has {' and '.join(news)}",
        f'the schedule "{own.schedule}" is laid over {last} steps and goes on at step {step}: the learning rate was '
        f"{was:.1e}, is {now:.1e} from here on and {end:.1e} at the end",
    ]
    if before.batch_size != config.batch_size:
        lines.append(
            f"{position['recorded']} recorded and {position['rendered']} rendered examples were seen: the order goes "
            f"on with the next ones, and {(last - step) * config.batch_size} are to come"
        )
    return lines

"""What a run that has begun may be given anew by saying so (--change): its length and its batch."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from robustdepth.errors import UserError

STEPS, EPOCHS, BATCH, RATE = "optimizer.steps", "optimizer.epochs", "batch_size", "optimizer.learning_rate"
CHANGEABLE = (STEPS, EPOCHS, BATCH)


def accepted_keys(names: Sequence[str], config: ConfigDict) -> tuple[str, ...]:
    """The keys of the settled config that may differ from its workdir's where a user accepts changes of `names`.

    Epochs are settled into steps. The learning rate follows the batch where `rate_batch` says so.

    Args:
      config: not settled.

    Raises:
      UserError: a name of what no run can change.
    """
    for name in names:
        if name not in CHANGEABLE:
            raise UserError(f"--change={name}: a run that has begun can change {', '.join(CHANGEABLE)} alone.")
    keys = {STEPS: STEPS in names or EPOCHS in names, BATCH: BATCH in names}
    keys[RATE] = BATCH in names and bool(config.optimizer.rate_batch)
    return tuple(key for key, given in keys.items() if given)


def check_goes_on(config: ConfigDict, before: ConfigDict, step: int) -> None:
    """Refuses a changed length that the newest checkpoint, of `step`, has reached already.

    Raises:
      UserError: says how many steps are left of the examples that the run was to see, where the batch changes too.
    """
    if config.optimizer.steps > step or config.optimizer.steps == before.optimizer.steps:
        return
    left = round((before.optimizer.steps - step) * before.batch_size / config.batch_size)
    advice = f", such as {step + left}, which keeps the number of examples" if left > 0 else ""
    raise UserError(
        f"config.optimizer.steps={config.optimizer.steps}, and step {step} is done: give more{advice} "
        "(config.optimizer.epochs=0 goes with it)."
    )

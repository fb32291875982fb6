"""How long a training is and how fast it learns, where a config gives both for any batch: `epochs` and `rate_batch`."""

from ml_collections import ConfigDict

from robustdepth.data.source import build_source, world_count
from robustdepth.errors import UserError


def check_length(config: ConfigDict) -> None:
    """Refuses a training without a length, with two, or whose batches have no equal parts, with one sentence."""
    own = config.optimizer
    if bool(own.steps) == bool(own.epochs):
        raise UserError(
            f"config.optimizer.steps={own.steps} and config.optimizer.epochs={own.epochs:g}: give one of them, and set "
            "the other to 0."
        )
    if own.epochs and world_count(config) == config.batch_size:
        raise UserError(
            "config.optimizer.epochs counts passes over recordings, and the procedural world has no end: give "
            "config.optimizer.steps, and set config.optimizer.epochs to 0."
        )
    if config.batch_size % own.accumulate:
        raise UserError(
            f"config.batch_size={config.batch_size} does not divide into config.optimizer.accumulate={own.accumulate} "
            "equal parts."
        )


def settled(config: ConfigDict) -> ConfigDict:
    """The checked config with the steps and the learning rate that follow from its recordings and its batch.

    Steps are epochs x examples / recorded examples of a batch, to the nearest. The rate grows with the square root of
    the batch, which keeps the noise of Adam's way the same (Malladi et al., "On the SDEs and Scaling Rules for Adaptive
    Gradient Algorithms", 2022): learning_rate x sqrt(batch_size / rate_batch). Afterwards `epochs` and `rate_batch` are
    0, so that a settled config settles to itself.

    Raises:
      UserError: the recordings cannot be opened.
    """
    config = config.copy_and_resolve_references()
    own = config.optimizer
    if own.epochs:
        examples = len(build_source(config, keep=False))
        own.steps = max(1, round(own.epochs * examples / (config.batch_size - world_count(config))))
        own.epochs = 0.0
    if own.rate_batch:
        own.learning_rate *= (config.batch_size / own.rate_batch) ** 0.5
        own.rate_batch = 0
    return config

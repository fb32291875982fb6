"""A training whose depth has surely collapsed begins again, with other random numbers and half the learning rate.

What this depends on is kept in every checkpoint beside the data position: a run that is killed at any moment collapses,
begins again and ends as it would have, undisturbed.
"""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.training import health

LOOKS = 2  # in a row: one batch may be odd
SEEDS_APART = 1_000_003


class CollapsedError(Exception):
    """Depth has surely collapsed; the message says when and how."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One of a run's beginnings."""

    restarts: int = 0  # before it
    looks: int = 0  # the last ones, in a row, that found depth collapsed

    @classmethod
    def at(cls, position: dict[str, Any]) -> "Trial":
        """The trial that a checkpoint was saved in; the first one for those of older versions."""
        return cls(position.get("restarts", 0), position.get("looks", 0))

    def position(self) -> dict[str, int]:
        """What `at` needs."""
        return dataclasses.asdict(self)

    def config(self, config: ConfigDict) -> ConfigDict:
        """The config that this trial runs, of the one that the user gave."""
        own = config.copy_and_resolve_references()
        own.seed = (config.seed + SEEDS_APART * self.restarts) % 2**31
        own.optimizer.learning_rate = config.optimizer.learning_rate * 0.5**self.restarts
        return own

    def look(self, terms: dict[str, float], step: int, config: ConfigDict) -> "Trial":
        """This trial once a step's terms were looked at; does nothing where the config wants no restarts.

        Raises:
          CollapsedError: depth had collapsed at this and the last look, or it has at the last step.
        """
        if not config.health.restarts or step <= config.optimizer.warmup_steps:
            return self
        if (how := health.collapsed(terms, config)) is None:
            return dataclasses.replace(self, looks=0)
        if self.looks + 1 >= LOOKS or step == config.optimizer.steps:
            raise CollapsedError(f"depth has collapsed at step {step}: {how}")
        return dataclasses.replace(self, looks=self.looks + 1)

    def again(self, error: CollapsedError, config: ConfigDict) -> "Trial":
        """The next trial. Raises UserError where the config allows no more."""
        if self.restarts >= config.health.restarts:
            raise UserError(
                f"{error}, after {self.restarts} restarts too: check the footage and its camera.json, then train with "
                "a lower config.optimizer.learning_rate or other weights (config.init_from) in another --workdir."
            )
        following = Trial(self.restarts + 1)
        rate = following.config(config).optimizer.learning_rate
        print(
            f"{error}; it begins again with other random numbers and a rate of {rate:.1e} (restart "
            f"{following.restarts} of {config.health.restarts})",
            flush=True,
        )
        return following

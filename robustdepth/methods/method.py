"""What a method is: settings made once from the config, and one pure function of what a training step has seen."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jaxtyping import Int
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.models.depth_net import DepthOutput
from robustdepth.registry import Registry
from robustdepth.switches import SECOND_VIEWS
from robustdepth.types import Array, Batch, PyTree, Term


class Terms(NamedTuple):
    """What a method finds in a batch; `|` joins two."""

    losses: dict[str, Term]  # unweighted, by their names in config.loss
    watched: dict[str, Term] = {}  # noqa: RUF012 - logged beside the losses, to see whether training is healthy
    images: dict[str, Array] = {}  # noqa: RUF012 - to show, [batch, ...]

    def __or__(self, other: "Terms") -> "Terms":
        for name in self.losses.keys() & other.losses.keys():
            raise UserError(f"two methods compute a loss {name!r}: one must have another name.")
        return Terms(*(mine | theirs for mine, theirs in zip(self, other, strict=True)))


class Seen(NamedTuple):
    """What a step has seen when the methods judge it."""

    clean: Batch  # float images, not jittered
    output: DepthOutput  # of the clear target
    changed: dict[str, DepthOutput]  # of its second views, by their names
    motions: list[Array]  # T_{target -> source} of every source, Float [batch, 4, 4]
    params: PyTree  # of the networks, and of what methods learn beside them
    step: Int[Array, ""]  # of the training


class Method(NamedTuple):
    """Losses on top of the base, taken into the objective where one of them has a weight."""

    losses: tuple[str, ...]  # their names in config.loss
    settings: Callable[[ConfigDict, nn.Module | None], Any]  # from the config, and what the method learns, if anything
    terms: Callable[[Any, Seen, Array], Terms]  # of the settings, what was seen, and the method's random key


# A method's name is that of its random stream, too; those taken are the other streams of a step.
METHODS: Registry[Method] = Registry("method", taken=("augment", "auto_mask", *SECOND_VIEWS))


@flax.struct.dataclass
class Aux:
    """What a loss evaluation yields besides the loss."""

    stats: PyTree  # new batch statistics
    losses: dict[str, Term]  # unweighted loss terms by name
    watched: dict[str, Term]  # logged beside the losses, to see whether training is healthy
    images: dict[str, Array]  # to show: target, rebuilt, disparity, error


LossFn = Callable[[PyTree, PyTree, Batch, Array, Array], tuple[Array, Aux]]


def weight_at(weight: float | str, step: Array) -> Array | float:
    """A loss weight: a number, or a linear schedule "start:end:steps" that reaches `end` at step `steps`.

    Raises:
      UserError: a string of another form.
    """
    if not isinstance(weight, str):
        return weight
    try:
        start, end, steps = (float(part) for part in weight.split(":"))
    except ValueError:
        raise UserError(f'loss weight "{weight}" is neither a number nor a schedule "start:end:steps".') from None
    return start + (end - start) * jnp.clip(step.astype(jnp.float32) / max(steps, 1.0), 0.0, 1.0)


def weighted_sum(weights: ConfigDict, losses: dict[str, Term], step: Array) -> Array:
    """The sum of the terms' values times their weights at a step; a term that has no option there counts once.

    "NAME/PART" has the weight of NAME: the parts of such a loss are means over different elements.
    """
    return sum(weight_at(weights.get(name.partition("/")[0], 1.0), step) * term.value for name, term in losses.items())

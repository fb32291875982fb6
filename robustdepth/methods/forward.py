"""Networks in training mode, and what their backward passes keep."""

from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from robustdepth.types import Array, PyTree


def save_convolutions(primitive, *_, **__) -> bool:
    """Rematerialisation policy: keeps what convolutions and matrix products give, computes the rest again."""
    return primitive in (jax.lax.conv_general_dilated_p, jax.lax.dot_general_p)


REMAT = {"convolutions": save_convolutions, "full": jax.checkpoint_policies.nothing_saveable}


def mode_of(config: ConfigDict) -> dict[str, Any]:
    """What `apply` needs to know of a config."""
    return {"remat": config.model.remat, "freeze_statistics": config.model.freeze_statistics}


def apply(
    net: nn.Module,
    name: str,
    params: PyTree,
    stats: PyTree,
    *images: Array,
    remat: str = "none",
    freeze_statistics: bool = False,
):
    """Runs one network in training mode; returns its output and {name: new batch statistics}.

    Args:
      remat: what the backward pass computes again instead of keeping it, config.model.remat.
      freeze_statistics: normalise by the statistics in `stats`, as in evaluation, and leave them as they are.
    """

    def forward(variables: PyTree, *images: Array):
        return net.apply(variables, *images, train=not freeze_statistics, mutable=["batch_stats"])

    if remat != "none":
        forward = jax.checkpoint(forward, policy=REMAT[remat])
    output, updated = forward({"params": params[name], "batch_stats": stats[name]}, *images)
    return output, {name: updated.get("batch_stats", {})}

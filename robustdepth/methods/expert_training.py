"""Training the offline semantic expert: a segmentation network on the procedural world's labels (METHOD.md 3.8).

**[ours]**. The depth network never sees labels; it learns from this network's features, see `semantics`.
"""

import flax.linen as nn
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.methods.augment import augment
from robustdepth.methods.forward import apply, mode_of
from robustdepth.methods.method import Aux, LossFn
from robustdepth.streams import stream
from robustdepth.types import Array, Batch, PyTree, Term


def make_segmentation_loss(config: ConfigDict, network: nn.Module) -> LossFn:
    """Cross-entropy between the network's classes and the labels, a loss_fn as `objective.make_loss_fn` makes them.

    Raises:
      UserError: where the config's data have no labels.
    """
    if config.data.name != "none":
        raise UserError(
            f'config.task="segmentation" needs labels, which config.data.name="{config.data.name}" has none of: '
            'set config.data.name="none" and config.data.world_share=1.0.'
        )

    def loss_fn(params: PyTree, stats: PyTree, batch: Batch, key: Array, step: Array) -> tuple[Array, Aux]:
        views = augment(
            batch,
            stream(key, "augment"),
            flip=config.data.flip,
            strength=tuple(config.data.jitter),
            grey=config.data.grey,
        )
        (logits, _), new_stats = apply(network, "segmentation", params, stats, views.seen_target, **mode_of(config))
        labels = at_size_of(logits, views.clean.labels)
        loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
        right = jnp.mean((jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32))
        count = jnp.float32(labels.size)
        watched = {"accuracy": Term(right, count)}
        images = {"target": views.clean.target}
        return loss, Aux(new_stats, {"cross_entropy": Term(loss, count)}, watched, images)

    return loss_fn


def at_size_of(
    logits: Float[Array, "batch rows columns classes"], labels: Int[Array, "batch height width"]
) -> Int[Array, "batch rows columns"]:
    """The labels of the pixels right and below of the centres of the logits' cells."""
    stride = labels.shape[1] // logits.shape[1]
    return labels[:, stride // 2 :: stride, stride // 2 :: stride]

"""Teacher and student: the depth network's features learn to predict a stereo network's features (METHOD.md 5.6).

**[paper]** (Song & Yoon, arXiv 2205.08668) the stereo network's geometry features pass on to the monocular network;
**[ours]** the form. With G the stereo network's features at stride 4, p its distribution over disparities, F the depth
decoder's features, W and V learned 1x1 projections, sg the stop-gradient:

    transfer_feature      = mean 1 - cos(W F, sg G)
    transfer_distribution = mean KL(sg p || softmax(V F))
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.imaging.resize import resize_image
from robustdepth.losses.distillation import masked_cosine_distance, masked_divergence
from robustdepth.methods.method import METHODS, Method, Terms
from robustdepth.methods.selective import stereo_there
from robustdepth.models.layers import HE_FAN_IN, HEAD_FAN_IN
from robustdepth.numerics import safe_log
from robustdepth.switches import TRANSFER_TERMS
from robustdepth.types import Array, Batch, PyTree, Term

STRIDE = 4  # of the stereo network's features


class Transfer(nn.Module):
    """1x1 projections of the student's features onto what the stereo network knows; float32.

    The distribution over disparities is read from the features, too. Made of the student's own disparity, it would
    pull depth towards the teacher everywhere, also where the masks refuse the proxy.
    """

    channels: int  # of the geometry features; 0: these are not compared
    bins: int  # of the distribution over disparities; 0: this is not compared

    @nn.compact
    def __call__(self, features: Float[Array, "batch rows columns channels"]) -> tuple[Array | None, Array | None]:
        """Geometry features, and log-probabilities of the bins."""
        features = features.astype(jnp.float32)
        geometry = log_distribution = None
        if self.channels:
            geometry = nn.Dense(self.channels, use_bias=False, kernel_init=HE_FAN_IN, name="geometry")(features)
        if self.bins:
            logits = nn.Dense(self.bins, kernel_init=HEAD_FAN_IN, name="distribution")(features)
            log_distribution = nn.log_softmax(logits)
        return geometry, log_distribution


def transfer_for(weights: ConfigDict, geometry_channels: int, bins: int) -> Transfer:
    """The projections that "transfer_feature" and "transfer_distribution" need, where config.loss weighs these."""
    channels = geometry_channels if weights.transfer_feature else 0
    return Transfer(channels, bins if weights.transfer_distribution else 0)


def init_transfer(transfer: Transfer, decoded_shapes: Mapping[int, tuple[int, ...]], key: Array) -> PyTree:
    """Random parameters for a student whose decoder has features of these shapes, by stride."""
    channels = decoded_shapes[student_stride(decoded_shapes)][-1]
    return transfer.init(key, jnp.zeros((1, 1, 1, channels)))["params"]


def student_stride(strides: Mapping[int, object]) -> int:
    """The stride of the student's features that is nearest to the stereo network's."""
    return min(strides, key=lambda stride: abs(stride - STRIDE))


def terms(transfer: Transfer, params: PyTree, decoded: dict[int, Array], batch: Batch) -> Terms:
    """How far the student's features are from the stereo network's (5.6), over the samples that have a stereo view.

    Args:
      transfer: `transfer_for`'s module.
      params: its parameters.
      decoded: the depth decoder's features by stride; resized to the stereo network's grid.
      batch: with `geometry` and, where that is compared, `distribution`.

    Returns:
      those of "transfer_feature", mean 1 - cos(W F, sg G), and "transfer_distribution", mean KL(sg teacher || student),
      that the module has. The stereo network is data here: no gradient reaches what it has seen.

    Raises:
      UserError: the batch lacks what is compared.
    """
    if batch.geometry is None or batch.distribution is None:
        raise UserError(
            "transfer_feature and transfer_distribution compare with a stereo network, and none has seen the batch: "
            'set config.selective.proxy="stereo_net" and config.selective.teacher, or both weights to 0.'
        )
    grid = batch.geometry.shape[1:3]
    student = resize_image(decoded[student_stride(decoded)].astype(jnp.float32), grid)
    there = jnp.broadcast_to(stereo_there(batch)[:, None, None], (student.shape[0], *grid))
    geometry, log_distribution = transfer.apply({"params": params}, student)
    losses: dict[str, Term] = {}
    if geometry is not None:
        losses["transfer_feature"] = masked_cosine_distance(geometry, lax.stop_gradient(batch.geometry), there)
    if log_distribution is not None:
        teacher = safe_log(lax.stop_gradient(batch.distribution).astype(jnp.float32), floor=1e-30)
        losses["transfer_distribution"] = masked_divergence(teacher, log_distribution, there)
    return Terms(losses)


METHODS.add(
    "transfer",
    Method(
        TRANSFER_TERMS,
        lambda config, transfer: transfer,
        lambda transfer, seen, key: terms(transfer, seen.params["transfer"], seen.output.decoded, seen.clean),
    ),
)

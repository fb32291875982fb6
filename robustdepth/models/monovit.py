"""MonoViT (Zhao et al., 3DV 2022): an MPViT, and a decoder with dense skip connections.

The decoder is HR-Depth's (Lyu et al., AAAI 2021): a triangle of nodes, where each sees all nodes before it at its
stride, and one of the stride below. The last node of each stride weighs its channels (squeeze and excitation, Hu et
al., CVPR 2018), and so do the convolutions between encoder and decoder. What the papers leave open was found by running
the authors' network beside this one.

The name in `config.model.encoder` is monovit.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float
from ml_collections import ConfigDict

from robustdepth.models.depth_decoder import ReflectConv, at_scales, disparity_of, initial_disparity
from robustdepth.models.encoder import OWN_DECODERS, TRANSFORMERS
from robustdepth.models.layers import HE_FAN_IN, fan_in_uniform, upsample
from robustdepth.models.mpvit import MPViT
from robustdepth.types import Array

LINEAR = fan_in_uniform(1.0)
NODES = (32, 64, 128, 256)  # channels of the decoder's nodes at strides 2 to 16
SQUEEZE = 16  # channels to one inside a `ChannelGate`


class ChannelGate(nn.Module):
    """Weighs channels by their means (squeeze and excitation), then convolves them."""

    width: int
    kernel: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width out"]:
        dense = partial(nn.Dense, use_bias=False, kernel_init=LINEAR, dtype=self.dtype)
        y = jnp.mean(x, axis=(1, 2), keepdims=True)
        y = nn.relu(dense(x.shape[-1] // SQUEEZE, name="squeeze")(y))
        x = x * nn.sigmoid(dense(x.shape[-1], name="excite")(y))
        size, pad = (self.kernel, self.kernel), self.kernel // 2
        return nn.relu(nn.Conv(self.width, size, padding=pad, kernel_init=HE_FAN_IN, dtype=self.dtype, name="conv")(x))


class MonoViTDecoder(nn.Module):
    """Features at strides 2 to 32 to `scales` disparities in (0, 1); the contract of `depth_decoder.DepthDecoder`.

    The authors have four, at strides 1, 2, 4 and 8; one at 16 is the fourth, resized **[ours]**.
    """

    scales: int
    output_stride: int
    initial_disparity: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: dict[int, Array]) -> tuple[tuple[Float[Array, "batch _ _"], ...], dict[int, Array]]:
        nodes = [[features[2]]]  # rows at strides 2 to 32
        for row, width in enumerate(NODES, start=1):
            nodes.append([ChannelGate(2 * width, 3, self.dtype, name=f"entry{row}")(features[2 * 2**row])])
        for column in range(1, 5):
            for row in range(5 - column):
                nodes[row].append(self._node(row, column, nodes[row], nodes[row + 1][column - 1]))
        decoded = {2 * 2**row: nodes[row][-1] for row in range(4)}
        x = nn.elu(ReflectConv(NODES[0] // 2, self.dtype, name="up04")(decoded[2]))
        decoded[1] = nn.elu(ReflectConv(NODES[0] // 2, self.dtype, name="merge04")(upsample(x)))
        found = {2**level: disparity_of(decoded[2**level], level, self.initial_disparity) for level in range(4)}
        return at_scales(found, self.scales, self.output_stride), decoded

    def _node(self, row: int, column: int, before: list[Array], below: Array) -> Array:
        """Merges a row's nodes before this one with the node below them; layers of the decoder."""
        width, source = NODES[row], f"{row + 1}{column - 1}"
        x = upsample(nn.elu(ReflectConv(width, self.dtype, name=f"up{source}")(below)))
        rows, columns = before[0].shape[1:3]  # one less than x where stride 32 does not divide the image
        x = jnp.concatenate([x[:, :rows, :columns], *before], axis=-1)
        if row + column == 4:
            return ChannelGate(width, 1, self.dtype, name=f"gate{row}{column}")(x)
        if column > 1:
            reduce = partial(nn.Dense, use_bias=False, kernel_init=LINEAR, dtype=self.dtype)
            x = reduce(2 * width, name=f"reduce{row}{column}")(x)
        return nn.elu(ReflectConv(width, self.dtype, name=f"merge{source}")(x))


def _decoder(model: ConfigDict, dtype: Any) -> MonoViTDecoder:
    return MonoViTDecoder(model.scales, model.output_stride, initial_disparity(model), dtype)


TRANSFORMERS.add("monovit", MPViT)
OWN_DECODERS.add("monovit", _decoder)

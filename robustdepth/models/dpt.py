"""DPT decoder from features at four strides to sigmoid disparity at several scales (Ranftl et al., ICCV 2021)."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from robustdepth.models.depth_decoder import ReflectConv, disparity_of
from robustdepth.models.layers import HE_FAN_IN, fan_in_uniform
from robustdepth.types import Array

CHANNELS = 64  # of every fused map, as Depth Anything has for ViT-S; DPT's 256 are width = 4
LINEAR = fan_in_uniform(1.0)
NEARLY_ZERO = fan_in_uniform(0.1)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions behind ReLUs, around a shortcut (Lin et al., RefineNet, CVPR 2017; no batch norm).

    It starts near the identity: seven of them in a row would otherwise double the variance seven times.
    """

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        y = ReflectConv(x.shape[-1], self.dtype, HE_FAN_IN, name="conv1")(nn.relu(x))
        return x + ReflectConv(x.shape[-1], self.dtype, NEARLY_ZERO, name="conv2")(nn.relu(y))


class Fusion(nn.Module):
    """Adds an encoder's features to the map decoded so far, from the next coarser stride; the coarsest has none."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(
        self,
        skip: Float[Array, "batch height width channels"],
        coarser: Float[Array, "batch _ _ fused"] | None,
    ) -> Float[Array, "batch height width fused"]:
        x = ReflectConv(self.width, self.dtype, LINEAR, name="skip")(skip)
        if coarser is not None:
            height, width = skip.shape[1:3]  # one less than twice the coarser where stride 32 does not divide the image
            x = upsample_linear(coarser)[:, :height, :width] + ResidualUnit(self.dtype, name="unit1")(x)
        x = ResidualUnit(self.dtype, name="unit2")(x)
        # The paper projects after the next upsampling; before it the result is the same at a quarter of the cost.
        return nn.Dense(self.width, kernel_init=LINEAR, dtype=self.dtype, name="projection")(x)


class DPTDecoder(nn.Module):
    """Features at strides 4 to 32 to `scales` disparities in (0, 1), finest first, each half the size of its neighbour.

    The finest has stride `output_stride` (1, 2, 4 or 8). At strides 2 and 1 there are no features to fuse: there the
    map is upsampled and convolved, with half the channels each time, as in DPT's head. Heads start at
    `initial_disparity`, as those of `DepthDecoder`, which has the same contract.
    """

    width: float
    scales: int
    output_stride: int
    initial_disparity: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: dict[int, Array]) -> tuple[tuple[Float[Array, "batch _ _"], ...], dict[int, Array]]:
        channels = max(4, round(CHANNELS * self.width))
        finest = self.output_stride.bit_length() - 1
        disparities, decoded = [], {}
        x: Any = None  # nothing is coarser than stride 32
        for level in reversed(range(finest, 6)):  # level k has stride 2^k
            if level >= 2:
                x = Fusion(channels, self.dtype, name=f"fusion{level}")(features[2**level], x)
            else:
                conv = ReflectConv(channels >> (2 - level), self.dtype, name=f"merge{level}")
                x = nn.relu(conv(upsample_linear(x)))
            decoded[2**level] = x
            if level < finest + self.scales:
                disparities.append(disparity_of(x, level, self.initial_disparity))
        return tuple(reversed(disparities)), decoded


def upsample_linear(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch 2*height 2*width channels"]:
    """Doubles height and width by bilinear interpolation with half-pixel centres, as `imaging.resize` does."""
    for axis in (1, 2):
        last = x.shape[axis] - 1
        cut = partial(lax.slice_in_dim, x, axis=axis)
        before = jnp.concatenate([cut(0, 1), cut(0, last)], axis)  # every pixel's neighbour; the border is its own
        after = jnp.concatenate([cut(1, last + 1), cut(last, last + 1)], axis)
        pairs = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = pairs.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return x

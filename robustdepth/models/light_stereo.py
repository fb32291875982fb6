"""A small stereo network in GwcNet's manner, for two CPU cores **[ours]**."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.models.conv3d import Conv3D, conv_norm
from robustdepth.models.layers import HE_FAN_IN, batch_norm, normalise, upsample
from robustdepth.models.resnet import IMAGENET_MEAN, IMAGENET_STD, ResidualBlock
from robustdepth.types import Array

_WIDTHS = (16, 32, 48, 64)  # of the features at strides 2, 4, 8 and 16
_MATCHING = 64  # channels that are correlated
_FULL, _HALF, _QUARTER = 16, 24, 48  # channels of the volume, and of those with a half and a quarter of its size


class LightFeatures(nn.Module):
    """Images in [0, 1] to features at stride 4: 64 channels to match, and 32 that guide the upsampling."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "batch height width 3"], train: bool) -> tuple[Array, Array]:
        def conv(x: Array, name: str, width: int, kernel: int, stride: int = 1) -> Array:
            options: dict[str, Any] = dict(padding=kernel // 2, use_bias=False, kernel_init=HE_FAN_IN, dtype=self.dtype)
            return nn.Conv(width, (kernel, kernel), stride, name=name, **options)(x)

        def layer(x: Array, name: str, width: int, stride: int = 1) -> Array:
            return nn.relu(batch_norm(conv(x, f"{name}_conv", width, 3, stride), train, self.dtype, f"{name}_norm"))

        half, quarter, eighth, sixteenth = _WIDTHS
        x = normalise(image, IMAGENET_MEAN, IMAGENET_STD, self.dtype)
        x4 = layer(layer(x, "stem0", half, 2), "stem1", quarter, 2)
        x4 = ResidualBlock(quarter, 1, False, self.dtype, name="block4")(x4, train)
        x8 = ResidualBlock(eighth, 2, False, self.dtype, name="block8")(x4, train)
        x16 = ResidualBlock(sixteenth, 2, False, self.dtype, name="block16")(x8, train)
        x8 = layer(x8 + upsample(conv(x16, "lateral16", eighth, 1)), "merge8", eighth)
        x4 = layer(x4 + upsample(conv(x8, "lateral8", quarter, 1)), "merge4", quarter)
        return conv(x4, "matching", _MATCHING, 1), x4


class LightAggregation(nn.Module):
    """A correlation volume to (3D features, cost) of two heads: before and behind one hourglass.

    Where GwcNet has sixteen 3x3x3 convolutions at the volume's size there is one; the hourglass rises by interpolation
    instead of transposed convolutions, and heads are 1x1x1. The last head alone is read in evaluation. Costs are
    float32 logits.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, volume: Float[Array, "batch bins rows columns groups"], train: bool
    ) -> list[tuple[Array, Array]]:
        def layer(x: Array, name: str, width: int, kernel: int = 3, stride: int = 1) -> Array:
            return conv_norm(x, train, self.dtype, name, width, kernel, stride)

        full = nn.relu(layer(volume, "pre", _FULL))
        half = nn.relu(layer(full, "down2", _HALF, 3, 2))
        quarter = nn.relu(layer(half, "down4", _QUARTER, 3, 2))
        quarter = nn.relu(layer(quarter, "quarter", _QUARTER))
        half = nn.relu(half + _double(layer(quarter, "up2", _HALF, 1)))
        half = nn.relu(layer(half, "merge2", _HALF))
        stages = [full, nn.relu(full + _double(layer(half, "up1", _FULL, 1)))]

        first = 0 if train or self.is_initializing() else len(stages) - 1
        heads = []
        for i, x in enumerate(stages[first:], start=first):
            cost = Conv3D(1, 1, dtype=self.dtype, name=f"head{i}_cost")(x)[..., 0]
            heads.append((x, cost.astype(jnp.float32)))
        return heads


def _double(x: Float[Array, "batch bins rows columns channels"]) -> Array:
    """Twice the bins, rows and columns, linearly interpolated."""
    batch, bins, rows, columns, channels = x.shape
    return jax.image.resize(x, (batch, 2 * bins, 2 * rows, 2 * columns, channels), "linear")

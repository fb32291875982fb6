"""EfficientNet-Lite0 encoder (Tan & Le, ICML 2019; the Lite variant has ReLU6 and no squeeze-and-excitation)."""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from robustdepth.interop.convert import LITE0, PUBLISHED, load_by_names
from robustdepth.models.encoder import ENCODERS
from robustdepth.models.layers import HE_FAN_IN, batch_norm, normalise
from robustdepth.types import Array


class Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
FEATURE_STAGES = {0: 2, 1: 4, 2: 8, 4: 16, 6: 32}  # the last stage of each stride -> stride
# The official weights expect (pixel - 127) / 128 and padding as TensorFlow does it (flax SAME), not PyTorch.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
lite0_norm = partial(batch_norm, momentum=0.99, epsilon=1e-3)


class DepthwiseConv(nn.Module):
    """One filter per channel, padded as SAME, as a sum of shifted products.

    XLA has no fast grouped convolution on CPUs: at 8x24x80x144 on two cores this form takes 1/18 (3x3) to 1/24 (5x5) of
    the time of `nn.Conv` with feature groups forwards, and 1/3 to 1/5 with the gradient; on accelerators XLA fuses it
    into one kernel.
    """

    kernel: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w channels"]:
        batch, *size, channels = x.shape
        filters = self.param("kernel", HE_FAN_IN, (self.kernel, self.kernel, 1, channels), jnp.float32)
        filters, x = filters.astype(self.dtype), x.astype(self.dtype)
        rows, cols = (-(-length // self.stride) for length in size)
        margins = [
            max((out - 1) * self.stride + self.kernel - length, 0)
            for out, length in zip((rows, cols), size, strict=True)
        ]
        x = jnp.pad(x, ((0, 0), *((margin // 2, margin - margin // 2) for margin in margins), (0, 0)))
        total = jnp.zeros((batch, rows, cols, channels), self.dtype)
        for i in range(self.kernel):
            for j in range(self.kernel):
                ends = (batch, i + (rows - 1) * self.stride + 1, j + (cols - 1) * self.stride + 1, channels)
                shifted = lax.slice(x, (0, i, j, 0), ends, (1, self.stride, self.stride, 1))
                total += shifted * filters[i, j][None, None]
        return total


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection; a shortcut where the shape stays."""

    width: int
    kernel: int
    stride: int
    expansion: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch h w c"]:
        conv = partial(nn.Conv, use_bias=False, kernel_init=HE_FAN_IN, dtype=self.dtype)
        norm = partial(lite0_norm, train=train, dtype=self.dtype)
        hidden = self.expansion * x.shape[-1]

        y = x
        if self.expansion > 1:
            y = nn.relu6(norm(conv(hidden, (1, 1), name="expand_conv")(y), name="bn0"))
        y = DepthwiseConv(self.kernel, self.stride, self.dtype, name="depthwise_conv")(y)
        y = nn.relu6(norm(y, name="bn1"))
        y = norm(conv(self.width, (1, 1), name="project_conv")(y), name="bn2")
        return x + y if x.shape == y.shape else y


@ENCODERS.listed("efficientnet_lite0")
class EfficientNetLite0(nn.Module):
    """Images in [0, 1], or several stacked along channels, to features at strides 2, 4, 8, 16 and 32."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "batch height width channels"], train: bool) -> dict[int, Array]:
        x = normalise(image, MEAN, STD, self.dtype)
        x = nn.Conv(32, (3, 3), 2, use_bias=False, kernel_init=HE_FAN_IN, dtype=self.dtype, name="conv_stem")(x)
        x = nn.relu6(lite0_norm(x, train, self.dtype, "bn0"))
        features, index = {}, 0
        for number, stage in enumerate(STAGES):
            for i in range(stage.repeats):
                stride = stage.stride if i == 0 else 1
                name = f"block{index}"
                x = InvertedResidual(stage.width, stage.kernel, stride, stage.expansion, self.dtype, name=name)(
                    x, train
                )
                index += 1
            if number in FEATURE_STAGES:
                features[FEATURE_STAGES[number]] = x
        return features


PUBLISHED.add("efficientnet_lite0", partial(load_by_names, (LITE0,)))

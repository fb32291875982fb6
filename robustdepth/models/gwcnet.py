"""The parts of GwcNet-G, equal to the published ones.

Guo et al., "Group-wise Correlation Stereo Network", CVPR 2019. In training our batch statistics are of both views
together, where the authors' are of one view after the other.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.models.conv3d import Conv3D, Hourglass, conv_norm
from robustdepth.models.layers import HE_FAN_IN, batch_norm, normalise
from robustdepth.models.resnet import IMAGENET_MEAN, IMAGENET_STD
from robustdepth.types import Array

# Of the stages after the stem: blocks, width, stride, dilation. The last three make the features.
_STAGES = ((3, 32, 1, 1), (16, 64, 2, 1), (3, 128, 1, 1), (3, 128, 1, 2))
_HOURGLASSES, _WIDTH = 3, 32  # width: channels of the volume


class GwcFeatures(nn.Module):
    """Images in [0, 1] to 320 channels at stride 4: what GwcNet matches, and what guides an upsampling."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "batch height width 3"], train: bool) -> tuple[Array, Array]:
        def layer(x: Array, name: str, width: int, kernel: int, stride: int, dilation: int = 1) -> Array:
            options: dict[str, Any] = dict(padding=dilation * (kernel // 2), kernel_dilation=dilation, use_bias=False)
            conv = nn.Conv(
                width, (kernel, kernel), stride, kernel_init=HE_FAN_IN, dtype=self.dtype, name=f"{name}_conv", **options
            )
            return batch_norm(conv(x), train, self.dtype, f"{name}_norm")

        x = normalise(image, IMAGENET_MEAN, IMAGENET_STD, self.dtype)
        for i in range(3):
            x = nn.relu(layer(x, f"stem{i}", 32, 3, 1 if i else 2))
        outputs = []
        for stage, (count, width, first_stride, dilation) in enumerate(_STAGES, start=1):
            for i in range(count):
                name, stride = f"layer{stage}_{i}", 1 if i else first_stride
                y = nn.relu(layer(x, f"{name}_conv1", width, 3, stride, dilation))
                y = layer(y, f"{name}_conv2", width, 3, 1, dilation)
                if x.shape != y.shape:
                    x = layer(x, f"{name}_shortcut", width, 1, stride)
                x = x + y  # GwcNet's blocks end without a rectifier
            outputs.append(x)
        features = jnp.concatenate(outputs[1:], axis=-1)
        return features, features


class GwcAggregation(nn.Module):
    """A correlation volume to (3D features, cost) of four heads: before and behind three hourglasses.

    The last head alone is read in evaluation. Costs are float32 logits: the higher, the likelier the bin.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, volume: Float[Array, "batch bins rows columns groups"], train: bool
    ) -> list[tuple[Array, Array]]:
        def layer(x: Array, name: str) -> Array:
            return conv_norm(x, train, self.dtype, name, _WIDTH)

        x = nn.relu(layer(volume, "pre0"))
        x = nn.relu(layer(x, "pre1"))
        y = nn.relu(layer(x, "pre2"))
        stages = [x + layer(y, "pre3")]
        for i in range(_HOURGLASSES):
            stages.append(Hourglass(self.dtype, name=f"hourglass{i}")(stages[-1], train))
        wanted = stages if train or self.is_initializing() else stages[-1:]
        heads = []
        for i, x in enumerate(stages[-len(wanted) :], start=len(stages) - len(wanted)):
            y = nn.relu(layer(x, f"head{i}"))
            cost = Conv3D(1, dtype=self.dtype, name=f"head{i}_cost")(y)[..., 0]
            heads.append((x, cost.astype(jnp.float32)))
        return heads

"""ResNet encoders, equal to torchvision's (He et al., CVPR 2016; stride in the 3x3 convolution of a bottleneck)."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.interop.convert import HUGGING_FACE, PUBLISHED, TORCHVISION, load_by_names
from robustdepth.models.encoder import ENCODERS
from robustdepth.models.layers import HE_FAN_IN, batch_norm, max_pool, normalise
from robustdepth.types import Array

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# By their names in config.model.normalisation, the mean colour and deviation that images are brought to. monodepth2's
# own networks see 0.45 and 0.225 in all channels.
NORMALISATIONS = {"imagenet": (IMAGENET_MEAN, IMAGENET_STD), "monodepth2": ((0.45,) * 3, (0.225,) * 3)}


def _conv(width: int, kernel: int, stride: int = 1, **options: Any) -> nn.Conv:
    """Convolution without bias, padded by `kernel // 2` as in PyTorch (flax's SAME differs at stride 2)."""
    return nn.Conv(
        width, (kernel, kernel), stride, padding=kernel // 2, use_bias=False, kernel_init=HE_FAN_IN, **options
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or with `bottleneck` 1x1, 3x3 and 1x1 to four times the width, around a shortcut."""

    width: int
    stride: int
    bottleneck: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch h w c"]:
        conv = partial(_conv, dtype=self.dtype)
        norm = partial(batch_norm, train=train, dtype=self.dtype)
        layers = [(self.width, 3, self.stride), (self.width, 3, 1)]
        if self.bottleneck:
            layers = [(self.width, 1, 1), (self.width, 3, self.stride), (4 * self.width, 1, 1)]

        y = x
        for i, layer in enumerate(layers, start=1):
            y = norm(conv(*layer, name=f"conv{i}")(y), name=f"bn{i}")
            y = nn.relu(y) if i < len(layers) else y
        if x.shape != y.shape:
            x = norm(conv(y.shape[-1], 1, self.stride, name="downsample_conv")(x), name="downsample_bn")
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Images in [0, 1], or several stacked along channels, to features at strides 2, 4, 8, 16 and 32.

    With `pool` the stem is followed by max pooling (torchvision); without, the first stage halves the size itself.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    bottleneck: bool = False
    stem_width: int = 64
    stem_kernel: int = 7
    pool: bool = True
    dtype: Any = jnp.float32
    normalisation: str = "imagenet"

    @nn.compact
    def __call__(self, image: Float[Array, "batch height width channels"], train: bool) -> dict[int, Array]:
        x = normalise(image, *NORMALISATIONS[self.normalisation], self.dtype)
        x = _conv(self.stem_width, self.stem_kernel, 2, dtype=self.dtype, name="conv1")(x)
        x = nn.relu(batch_norm(x, train, self.dtype, "bn1"))
        features = {2: x}
        if self.pool:
            x = max_pool(x)
        for stage, (count, width) in enumerate(zip(self.blocks, self.widths, strict=True), start=1):
            for i in range(count):
                halves = i == 0 and (stage > 1 or not self.pool)
                block = ResidualBlock(width, 1 + halves, self.bottleneck, self.dtype, name=f"layer{stage}_{i}")
                x = block(x, train)
            features[2 ** (stage + 1)] = x
        return features


ENCODERS.add("resnet18", partial(ResNet, (2, 2, 2, 2)))
ENCODERS.add("resnet34", partial(ResNet, (3, 4, 6, 3)))
ENCODERS.add("resnet50", partial(ResNet, (3, 4, 6, 3), bottleneck=True))
# Ours, for two CPU cores: no pooling, a 3x3 stem, one block per stage.
ENCODERS.add("resnet_tiny", partial(ResNet, (1, 1, 1, 1), (24, 48, 96, 160), stem_width=16, stem_kernel=3, pool=False))
for _name in ("resnet18", "resnet34", "resnet50"):
    PUBLISHED.add(_name, partial(load_by_names, (TORCHVISION, HUGGING_FACE)))

"""ESPNetv2 for segmentation (Mehta et al., "ESPNetv2", CVPR 2019), as its authors' project EdgeNets builds it.

The encoder is the paper's; the decoder is the one that EdgeNets' Cityscapes weights belong to: pyramid pooling at every
scale, with skips whose channels are weighed by the image's own statistics. Always in evaluation mode.
"""

import itertools
import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from robustdepth.errors import UserError
from robustdepth.imaging.resample import adaptive_pool, align_corners, resample
from robustdepth.interop.espnet_weights import load_espnetv2
from robustdepth.models.experts import EXPERTS, ExpertKind
from robustdepth.models.layers import HE_FAN_IN, batch_norm, check_image_size, normalise
from robustdepth.models.resnet import IMAGENET_MEAN, IMAGENET_STD
from robustdepth.types import Array

# Output of the weights that EdgeNets publishes for Cityscapes: its 19 training classes in their order, and the rest.
CITYSCAPES_CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle", "background"),
)

WIDTHS = {  # scale -> channels at strides 2, 4, 8 and 16 (Table 1 of the paper)
    0.5: (16, 32, 64, 128),
    1.0: (32, 64, 128, 256),
    1.25: (32, 80, 160, 320),
    1.5: (32, 96, 192, 384),
    2.0: (32, 128, 256, 512),
}
BLOCKS = (0, 0, 3, 7)  # EESP blocks after the downsampling to each stride
WIDE, NARROW = (1, 2, 3, 4), (1, 1, 2, 3)  # dilations of a block's branches; the blocks at stride 16 are narrow
DECODER_WIDTHS = (64, 48, 32)  # at strides 16, 8 and 4; at stride 2 the decoder has one channel per class
PYRAMID_SCALES, MIN_PYRAMID_SIZE = (2.0, 1.5, 1.0, 0.5, 0.1), 5


class PReLU(nn.Module):
    """Leaky ReLU with a learned slope per channel."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        slope = self.param("slope", nn.initializers.constant(0.25), (x.shape[-1],), jnp.float32)
        return jnp.where(x >= 0, x, slope.astype(x.dtype)[None, None, None] * x)


class GroupedConv(nn.Module):
    """Convolution in groups of channels, padded as in PyTorch, as a sum of shifted products.

    XLA has no fast grouped convolution on CPUs: the encoder takes 0.4 of the time that it takes with `nn.Conv` at
    1x192x640 on one core. The kernel's layout is `nn.Conv`'s.
    """

    width: int
    kernel: int
    groups: int
    stride: int = 1
    dilation: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w c"]:
        batch, *size, channels = x.shape
        inputs, outputs = channels // self.groups, self.width // self.groups
        filters = self.param("kernel", HE_FAN_IN, (self.kernel, self.kernel, inputs, self.width), jnp.float32)
        taps = jnp.unstack(filters.astype(self.dtype).reshape(-1, inputs, self.groups, outputs))
        rows, cols = (-(-length // self.stride) for length in size)
        margin = (self.dilation * (self.kernel // 2),) * 2
        x = jnp.pad(x.astype(self.dtype), ((0, 0), margin, margin, (0, 0)))

        total = jnp.zeros((batch, rows, cols, self.width), self.dtype)
        for tap, (i, j) in zip(taps, itertools.product(range(self.kernel), repeat=2), strict=True):
            top, left = i * self.dilation, j * self.dilation
            ends = (batch, top + (rows - 1) * self.stride + 1, left + (cols - 1) * self.stride + 1, channels)
            shifted = lax.slice(x, (0, top, left, 0), ends, (1, self.stride, self.stride, 1))
            if inputs == outputs == 1:
                total += shifted * tap.reshape(1, 1, 1, self.width)
                continue
            grouped = shifted.reshape(batch, rows, cols, self.groups, inputs)
            total += jnp.einsum("bhwgi,igo->bhwgo", grouped, tap).reshape(total.shape)
        return total


class ConvNorm(nn.Module):
    """Convolution and batch normalisation, with `activate` also PReLU."""

    width: int
    kernel: int
    stride: int = 1
    groups: int = 1
    activate: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w c"]:
        conv = partial(GroupedConv, groups=self.groups) if self.groups > 1 else _conv
        x = conv(self.width, self.kernel, stride=self.stride, dtype=self.dtype, name="conv")(x)
        x = batch_norm(x, False, self.dtype, "bn")
        return PReLU(name="act")(x) if self.activate else x


class NormAct(nn.Module):
    """Batch normalisation and PReLU."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        return PReLU(name="act")(batch_norm(x, False, self.dtype, "bn"))


class EESP(nn.Module):
    """Extremely efficient spatial pyramid: reduce, convolve at several dilations, sum these up in order, and expand.

    With `stride` 2 the expansion is returned as it is; with 1 the input is added and a PReLU follows.
    """

    width: int
    dilations: tuple[int, ...]
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w c"]:
        count = len(self.dilations)
        width = self.width // count
        reduced = ConvNorm(width, 1, groups=count, dtype=self.dtype, name="reduce")(x)
        sums: list[Array] = []
        for i, dilation in enumerate(self.dilations):
            branch = GroupedConv(width, 3, width, self.stride, dilation, self.dtype, name=f"branch{i}")(reduced)
            sums.append(sums[-1] + branch if sums else branch)  # hierarchical: hides the gaps of wide dilations
        y = NormAct(self.dtype, name="fuse")(jnp.concatenate(sums, axis=-1))
        y = ConvNorm(self.width, 1, groups=count, activate=False, dtype=self.dtype, name="expand")(y)
        return y if self.stride > 1 else PReLU(name="act")(x + y)


class Downsample(nn.Module):
    """Halves the size: average pooling and a strided EESP side by side, reinforced by the image at the new size."""

    width: int
    dilations: tuple[int, ...]
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], image: Float[Array, "batch h w 3"]
    ) -> Float[Array, "batch h w c"]:
        learned = EESP(self.width - x.shape[-1], self.dilations, 2, self.dtype, name="eesp")(x)
        image = ConvNorm(3, 3, dtype=self.dtype, name="image0")(image)
        image = ConvNorm(self.width, 1, activate=False, dtype=self.dtype, name="image1")(image)
        return PReLU(name="act")(jnp.concatenate([_halve(x), learned], axis=-1) + image)


class Encoder(nn.Module):
    """Images in [0, 1] to features at strides 2, 4, 8 and 16."""

    widths: tuple[int, ...]
    dtype: Any

    @nn.compact
    def __call__(self, image: Float[Array, "batch height width 3"]) -> dict[int, Array]:
        image = normalise(image, IMAGENET_MEAN, IMAGENET_STD, self.dtype)
        x = ConvNorm(self.widths[0], 3, 2, dtype=self.dtype, name="level1")(image)
        features, image = {2: x}, _halve(image)
        for level, width in enumerate(self.widths[1:], start=2):
            image = _halve(image)
            x = Downsample(width, WIDE, self.dtype, name=f"level{level}_down")(x, image)
            for i in range(BLOCKS[level - 1]):
                dilations = NARROW if level == 4 else WIDE
                x = EESP(width, dilations, 1, self.dtype, name=f"level{level}_block{i}")(x)
            features[2**level] = x
        return features


class PyramidPool(nn.Module):
    """Efficient pyramid pooling: one depthwise convolution at each of several scales, merged per channel."""

    width: int
    hidden: int
    last: bool  # the last one ends in a bias instead of normalisation and activation
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width c"]:
        x = ConvNorm(self.hidden, 1, dtype=self.dtype, name="project")(x)
        batch, *size, _ = x.shape
        maps = []
        for i, scale in enumerate(PYRAMID_SCALES):
            depthwise = GroupedConv(self.hidden, 3, self.hidden, dtype=self.dtype, name=f"stage{i}")
            to, back = (adaptive_pool, align_corners) if scale < 1 else (align_corners, adaptive_pool)
            there = [max(math.ceil(length * scale), MIN_PYRAMID_SIZE) for length in size]
            maps.append(depthwise(x) if scale == 1 else resample(depthwise(resample(x, there, to)), size, back))
        x = NormAct(self.dtype, name="fuse")(jnp.concatenate(maps, axis=-1))
        # The maps of one channel at all scales move next to each other.
        x = x.reshape(batch, *size, len(maps), self.hidden).swapaxes(-1, -2).reshape(x.shape)
        x = ConvNorm(self.hidden, 3, groups=self.hidden, dtype=self.dtype, name="merge")(x)
        x = _conv(self.width, 1, use_bias=self.last, dtype=self.dtype, name="head")(x)
        return x if self.last else NormAct(self.dtype, name="out")(x)


class Skip(nn.Module):
    """Encoder features for the decoder: a grouped convolution, its channels weighed by the features' global means."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width c"]:
        means = x.mean(axis=(1, 2), keepdims=True)
        gate = nn.sigmoid(_conv(self.width, 1, dtype=self.dtype, name="gate")(means))
        project = ConvNorm(self.width, 3, groups=math.gcd(x.shape[-1], self.width), dtype=self.dtype, name="project")
        return gate * project(x)


class Decoder(nn.Module):
    """Features at strides 2, 4, 8 and 16 to class logits at the image's size."""

    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, features: dict[int, Array]) -> Float[Array, "batch height width classes"]:
        hidden = min(self.classes // 2, 16)
        pool = partial(PyramidPool, hidden=hidden, dtype=self.dtype)
        x = pool(DECODER_WIDTHS[0], last=False, name="pool1")(features[16])
        for i, stride in enumerate((8, 4, 2), start=2):
            skip = Skip(x.shape[-1], self.dtype, name=f"skip{i}")(features[stride])
            x = NormAct(self.dtype, name=f"fuse{i}")(skip + _double(x))
            x = pool((*DECODER_WIDTHS, self.classes)[i - 1], last=stride == 2, name=f"pool{i}")(x)
        return _double(x)


class ESPNetv2(nn.Module):
    """ESPNetv2 of width `scale`, in evaluation mode always; images are RGB in [0, 1]. Raises UserError for its scale.

    As the published weights (trained at 1024x512 pixels) expect, images are normalised by ImageNet's mean and
    deviation, here inside. Variables of `init(key, image)` hold the encoder alone, which is all that features need;
    `init(key, image, method="logits")` those of the whole network.
    """

    scale: float = 2.0
    classes: int = len(CITYSCAPES_CLASSES)
    dtype: Any = jnp.float32

    def setup(self) -> None:
        if self.scale not in WIDTHS:
            raise UserError(f"ESPNetv2 has no scale {self.scale}: choose {', '.join(map(str, WIDTHS))}.")
        self.encoder = Encoder(WIDTHS[self.scale], self.dtype)
        self.decoder = Decoder(self.classes, self.dtype)

    def __call__(self, image: Float[Array, "batch height width 3"]) -> dict[int, Array]:
        """Features {stride: [batch, ceil(height / stride), ceil(width / stride), channels]} at 2, 4, 8 and 16."""
        return self.encoder(image)

    def logits(self, image: Float[Array, "batch height width 3"]) -> Float[Array, "batch height width classes"]:
        """Class logits of every pixel. Raises UserError for sizes that are no multiples of 16."""
        check_image_size(image.shape[1], image.shape[2])
        return self.decoder(self.encoder(image))


def _conv(width: int, kernel: int, stride: int = 1, use_bias: bool = False, **options: Any) -> nn.Conv:
    return nn.Conv(
        width, (kernel, kernel), stride, padding=kernel // 2, use_bias=use_bias, kernel_init=HE_FAN_IN, **options
    )


def _halve(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w channels"]:
    """Average over 3x3 pixels at every second pixel; beyond the border there are zeros, which count."""
    return nn.pooling.pool(x, 0.0, lax.add, (3, 3), (2, 2), ((1, 1), (1, 1))) / 9


def _double(x: Float[Array, "batch height width channels"]) -> Array:
    return resample(x, [2 * x.shape[1], 2 * x.shape[2]], align_corners)


FILE = "espnetv2_s_2.0_city_1024x512.pth of github.com/sacmehta/EdgeNets (model/segmentation/model_zoo)"
EXPERTS.add("espnetv2", ExpertKind(ESPNetv2, load_espnetv2, FILE))

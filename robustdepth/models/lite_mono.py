"""Lite-Mono (Zhang et al., CVPR 2023): dilated depthwise convolutions, and attention between channels.

Each of the encoder's three stages has a few blocks of what the paper calls consecutive dilated convolutions (CDC),
whose dilations grow, and one of local-global features interaction (LGFI). A stage also sees the shrunken image and what
the stage before began with. The decoder is a small U-Net with bilinear upsampling. What the paper leaves open was found
by running the authors' network beside this one.

Names in `config.model.encoder`: lite_mono_tiny, lite_mono_small, lite_mono, lite_mono_8m.
"""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float
from ml_collections import ConfigDict

from robustdepth.imaging.resize import resize_image
from robustdepth.models.depth_decoder import ReflectConv, at_scales, initial_disparity
from robustdepth.models.dpt import upsample_linear
from robustdepth.models.encoder import OWN_DECODERS, TRANSFORMERS
from robustdepth.models.layers import HE_FAN_IN, HEAD_FAN_IN, batch_norm, fan_in_uniform, normalise
from robustdepth.models.resnet import NORMALISATIONS
from robustdepth.models.vit import layer_norm
from robustdepth.types import Array

LINEAR = fan_in_uniform(1.0)
EXPANSION = 6  # of the channels inside a block
HEADS = 8
EPSILON = 1e-6  # of the layer norms
FOURIER = 32  # position codes for each of rows and columns
WIDE = 1024  # pixels from which the last dilation of every three is 5, not 3


class ChannelAttention(nn.Module):
    """Attention between channels, not places (XCA, El-Nouby et al., NeurIPS 2021): its cost grows with the image."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens width"]) -> Float[Array, "batch tokens width"]:
        batch, tokens, width = x.shape
        qkv = nn.Dense(3 * width, kernel_init=LINEAR, dtype=self.dtype, name="qkv")(x)
        query, key, value = jnp.moveaxis(qkv.reshape(batch, tokens, 3, HEADS, width // HEADS), 2, 0)
        temperature = self.param("temperature", nn.initializers.ones, (HEADS,), jnp.float32)
        logits = jnp.einsum("bthc,bthd->bhcd", _unit(query), _unit(key)) * temperature[None, :, None, None]
        mixed = jnp.einsum("bhcd,bthd->bthc", nn.softmax(logits).astype(value.dtype), value)
        return nn.Dense(width, kernel_init=LINEAR, dtype=self.dtype, name="projection")(mixed.reshape(x.shape))


def _unit(x: Float[Array, "batch tokens heads channels"]) -> Float[Array, "batch tokens heads channels"]:
    """Every channel divided by its length over all places, in float32."""
    x = x.astype(jnp.float32)
    return x / jnp.maximum(jnp.sqrt(jnp.sum(jnp.square(x), axis=1, keepdims=True) + 1e-24), 1e-12)


class _Perceptron(nn.Module):
    """Two dense layers and a scale per channel."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        dense = partial(nn.Dense, kernel_init=LINEAR, dtype=self.dtype)
        y = dense(x.shape[-1], name="contract")(nn.gelu(dense(EXPANSION * x.shape[-1], name="expand")(x), False))
        return (
            y
            * self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32).astype(self.dtype)[None, None, None]
        )


class DilatedBlock(nn.Module):
    """CDC: a depthwise convolution with holes and a perceptron, around a shortcut."""

    dilation: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch h w c"]:
        width = x.shape[-1]
        conv = nn.Conv(
            width,
            (3, 3),
            padding=self.dilation,
            kernel_dilation=self.dilation,
            feature_group_count=width,
            use_bias=False,
            kernel_init=LINEAR,
            dtype=self.dtype,
            name="conv",
        )
        y = batch_norm(conv(x), train, self.dtype, "bn")
        return x + _Perceptron(self.dtype, name="perceptron")(y)


class GlobalBlock(nn.Module):
    """LGFI: attention between channels, then a perceptron, around a shortcut; the first has position codes."""

    positions: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        batch, height, width, channels = x.shape
        y = x
        if self.positions:
            codes = jnp.asarray(fourier_codes(height, width), self.dtype)[None]
            y += nn.Dense(channels, kernel_init=LINEAR, dtype=self.dtype, name="position")(codes)
        tokens = y.reshape(batch, height * width, channels)
        scale = self.param("attention_scale", nn.initializers.ones, (channels,), jnp.float32).astype(self.dtype)
        attended = ChannelAttention(self.dtype, name="attention")(layer_norm(tokens, EPSILON, self.dtype, "norm1"))
        y = (tokens + scale[None, None] * attended).reshape(x.shape)
        return x + _Perceptron(self.dtype, name="perceptron")(layer_norm(y, EPSILON, self.dtype, "norm2"))


def fourier_codes(height: int, width: int) -> Float[np.ndarray, "height width 64"]:
    """Sines and cosines of the place (rows, then columns), counted from just above 0 to 2 pi; Vaswani et al., 2017."""
    rates = 10_000.0 ** (2 * (np.arange(FOURIER) // 2) / FOURIER)
    codes = []
    for count in (height, width):
        angles = 2 * math.pi * np.arange(1, count + 1)[:, None] / (count + 1e-6) / rates
        codes.append(np.where(np.arange(FOURIER) % 2, np.cos(angles), np.sin(angles)))
    shape = (height, width, FOURIER)
    rows, columns = np.broadcast_to(codes[0][:, None], shape), np.broadcast_to(codes[1][None], shape)
    return np.concatenate([rows, columns], axis=-1).astype(np.float32)


class LiteMonoEncoder(nn.Module):
    """Images in [0, 1] to features at strides 4, 8, 16 and, for mask decoders alone **[ours]**, 32 (16's resized)."""

    widths: tuple[int, int, int]
    deepest: int  # CDC blocks of the last stage; the others have three
    widening: bool = True  # whether dilations grow with the image, see WIDE
    normalisation: str = "monodepth2"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "batch height width 3"], train: bool) -> dict[int, Array]:
        conv = partial(nn.Conv, kernel_size=(3, 3), padding=1, use_bias=False, kernel_init=HE_FAN_IN, dtype=self.dtype)
        image = normalise(image, *NORMALISATIONS[self.normalisation], self.dtype)
        last = 5 if self.widening and image.shape[2] >= WIDE else 3
        x, small = image, image
        for i in range(3):
            x = conv(self.widths[0], strides=1 + (i == 0), name=f"stem{i}")(x)
            x = nn.gelu(batch_norm(x, train, self.dtype, f"stem_bn{i}"), False)
        features: dict[int, Array] = {}
        begun: list[Array] = []
        for stage, width in enumerate(self.widths):
            small = nn.pool(small, 0.0, lax.add, (3, 3), (2, 2), ((1, 1), (1, 1))) / 9.0
            x = conv(width, strides=2, name=f"shrink{stage}")(jnp.concatenate([*begun, x, small], axis=-1))
            begun = [x]
            dilations = (1, 2, last) if stage < 2 else (1, 2, last) * (self.deepest // 3 - 1) + (2, 4, 2 * last)
            for i, dilation in enumerate(dilations):
                x = DilatedBlock(dilation, self.dtype, name=f"stage{stage}_{i}")(x, train)
            x = GlobalBlock(stage == 0, self.dtype, name=f"stage{stage}_global")(x)
            features[4 * 2**stage] = x
        return features | {32: resize_image(x, (-(-x.shape[1] // 2), -(-x.shape[2] // 2)))}


class LiteMonoDecoder(nn.Module):
    """Features at strides 4, 8 and 16 to `scales` disparities in (0, 1); the contract of `depth_decoder.DepthDecoder`.

    The authors have three, at strides 1, 2 and 4; coarser ones are the third, resized **[ours]**. The decoder's
    features at stride 16 are the encoder's.
    """

    scales: int
    output_stride: int
    initial_disparity: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: dict[int, Array]) -> tuple[tuple[Float[Array, "batch _ _"], ...], dict[int, Array]]:
        bias = nn.initializers.constant(math.log(self.initial_disparity / (1 - self.initial_disparity)))
        x = features[16]
        decoded, found = {16: x}, {}
        for level, stride in ((2, 8), (1, 4), (0, 2)):
            width = features[4 * 2**level].shape[-1] // 2
            x = upsample_linear(nn.elu(ReflectConv(width, self.dtype, name=f"up{level}")(x)))
            if stride in features:
                x = jnp.concatenate([x, features[stride]], axis=-1)
            x = nn.elu(ReflectConv(width, self.dtype, name=f"merge{level}")(x))
            decoded[stride] = x
            head = ReflectConv(1, jnp.float32, HEAD_FAN_IN, bias, name=f"disparity{level}")
            found[stride // 2] = nn.sigmoid(upsample_linear(head(x)))[..., 0]
        return at_scales(found, self.scales, self.output_stride), decoded


def _decoder(model: ConfigDict, dtype: Any) -> LiteMonoDecoder:
    return LiteMonoDecoder(model.scales, model.output_stride, initial_disparity(model), dtype)


for _name, _encoder in (
    ("lite_mono_tiny", partial(LiteMonoEncoder, (32, 64, 128), 6)),
    ("lite_mono_small", partial(LiteMonoEncoder, (48, 80, 128), 6)),
    ("lite_mono", partial(LiteMonoEncoder, (48, 80, 128), 9)),
    ("lite_mono_8m", partial(LiteMonoEncoder, (64, 128, 224), 9, widening=False)),
):
    TRANSFORMERS.add(_name, _encoder)
    OWN_DECODERS.add(_name, _decoder)

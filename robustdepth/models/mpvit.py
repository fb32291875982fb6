"""MPViT (Lee et al., CVPR 2022), the small one: several transformers side by side at every stride.

Each stage embeds its input several times, every time with a 3x3 convolution more. Each embedding goes through its own
transformer, the first one through convolutions too, and a convolution merges what comes out. Attention is CoaT's (Xu et
al., ICCV 2021): between channels, its cost grows with the image, and depthwise convolutions of the values tell relative
positions. What the papers leave open was found by running the authors' network beside this one.
"""

from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.models.layers import HE_FAN_IN, batch_norm, fan_in_uniform
from robustdepth.models.vit import layer_norm
from robustdepth.types import Array

LINEAR = fan_in_uniform(1.0)
EPSILON = 1e-6  # of the layer norms
HEADS = 8
WINDOWS = {3: 2, 5: 3, 7: 3}  # of the convolutions for relative positions: how many heads have which


def _conv(width: int, kernel: int, dtype: Any, name: str, depthwise: bool = False, **options: Any) -> nn.Conv:
    groups = width if depthwise else 1
    init = LINEAR if depthwise else HE_FAN_IN
    return nn.Conv(
        width,
        (kernel, kernel),
        padding=kernel // 2,
        feature_group_count=groups,
        kernel_init=init,
        dtype=dtype,
        name=name,
        **options,
    )


class PatchEmbedding(nn.Module):
    """A depthwise convolution, then one over single pixels."""

    width: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch h w c"]:
        conv = partial(_conv, dtype=self.dtype, use_bias=False)
        x = conv(x.shape[-1], 3, name="depthwise", depthwise=True, strides=self.stride)(x)
        x = conv(self.width, 1, name="pointwise")(x)
        return nn.hard_swish(batch_norm(x, train, self.dtype, "bn"))


class LocalBlock(nn.Module):
    """Three convolutions around a shortcut, the middle one depthwise."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch h w c"]:
        conv = partial(_conv, x.shape[-1], dtype=self.dtype, use_bias=False)
        norm = partial(batch_norm, train=train, dtype=self.dtype)
        y = nn.hard_swish(norm(conv(1, name="conv1")(x), name="bn1"))
        y = nn.hard_swish(norm(conv(3, name="depthwise", depthwise=True)(y), name="bn2"))
        return x + norm(conv(1, name="conv2")(y), name="bn3")


class TransformerPath(nn.Module):
    """Transformer layers on the pixels of a map; all have the same convolutions for absolute and relative positions."""

    layers: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        width = x.shape[-1]
        dense = partial(nn.Dense, kernel_init=LINEAR, dtype=self.dtype)
        norm = partial(layer_norm, epsilon=EPSILON, dtype=self.dtype)
        conv = partial(_conv, dtype=self.dtype, depthwise=True)
        position = conv(width, 3, name="position")
        relative = [conv(width // HEADS * heads, size, name=f"relative{size}") for size, heads in WINDOWS.items()]
        for i in range(self.layers):
            x = x + position(x)
            query, key, value = jnp.split(dense(3 * width, name=f"qkv{i}")(norm(x, name=f"norm1_{i}")), 3, axis=-1)
            x = x + dense(width, name=f"projection{i}")(_attend(query, key, value, relative))
            y = dense(4 * width, name=f"expand{i}")(norm(x, name=f"norm2_{i}"))
            x = x + dense(width, name=f"contract{i}")(nn.gelu(y, approximate=False))
        return x


def _attend(query: Array, key: Array, value: Array, relative: list[nn.Conv]) -> Float[Array, "batch height width c"]:
    """Factorised attention: the softmax runs over the places of each key's channel, in float32 at least."""
    batch, height, width, channels = query.shape
    shape = (batch, height * width, HEADS, channels // HEADS)
    exact = jnp.promote_types(key.dtype, jnp.float32)
    weights = nn.softmax(key.reshape(shape).astype(exact), axis=1).astype(value.dtype)
    context = jnp.einsum("bthc,bthd->bhcd", weights, value.reshape(shape))
    attended = jnp.einsum("bthc,bhcd->bthd", query.reshape(shape), context).reshape(query.shape)
    ends = [sum(conv.features for conv in relative[: i + 1]) for i in range(len(relative) - 1)]
    parts = [conv(part) for conv, part in zip(relative, jnp.split(value, ends, axis=-1), strict=True)]
    return attended * (channels // HEADS) ** -0.5 + query * jnp.concatenate(parts, axis=-1)


class MPViT(nn.Module):
    """Images in [0, 1], seen as they are, to features at strides 2, 4, 8, 16 and 32."""

    RAW: ClassVar[bool] = True  # see `models.build`
    widths: tuple[int, ...] = (64, 128, 216, 288)  # of the stages; each ends with the width of the next
    layers: tuple[int, ...] = (1, 3, 6, 3)  # of every transformer of a stage
    paths: tuple[int, ...] = (2, 3, 3, 3)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "batch height width 3"], train: bool) -> dict[int, Array]:
        conv = partial(_conv, dtype=self.dtype, use_bias=False)
        x = image.astype(self.dtype)
        for i, width in enumerate((self.widths[0] // 2, self.widths[0])):
            x = conv(width, 3, name=f"stem{i}", strides=2 - i)(x)
            x = nn.hard_swish(batch_norm(x, train, self.dtype, f"stem{i}_bn"))
        features = {2: x}
        for stage, width in enumerate(self.widths):
            embedded = []
            for path in range(self.paths[stage]):
                stride = 1 if path else 2
                x = PatchEmbedding(width, stride, self.dtype, name=f"stage{stage}_patch{path}")(x, train)
                embedded.append(x)
            merged = [LocalBlock(self.dtype, name=f"stage{stage}_local")(embedded[0], train)]
            for path, x in enumerate(embedded):
                merged.append(TransformerPath(self.layers[stage], self.dtype, name=f"stage{stage}_path{path}")(x))
            x = jnp.concatenate(merged, axis=-1)
            x = conv(self.widths[min(stage + 1, 3)], 1, name=f"stage{stage}_merge")(x)
            x = nn.hard_swish(batch_norm(x, train, self.dtype, f"stage{stage}_merge_bn"))
            features[4 * 2**stage] = x
        return features

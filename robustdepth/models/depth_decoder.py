"""U-Net decoder from encoder features to sigmoid disparity at several scales (Godard et al., ICCV 2019)."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float
from ml_collections import ConfigDict

from robustdepth.imaging.resize import resize_image, resize_map
from robustdepth.models.layers import HE_FAN_IN, HEAD_FAN_IN, reflect_pad, upsample
from robustdepth.types import Array

CHANNELS = (16, 32, 64, 128, 256)  # at strides 1, 2, 4, 8 and 16
EXTRA_STRIDE = 2  # where the decoder merges what else it is given, unless it ends before


class ReflectConv(nn.Module):
    """3x3 convolution that mirrors the image at its border."""

    width: int
    dtype: Any
    kernel_init: Any = HE_FAN_IN
    bias_init: Any = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width width_out"]:
        conv = nn.Conv(
            self.width,
            (3, 3),
            padding="VALID",
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            dtype=self.dtype,
            name="conv",
        )
        return conv(reflect_pad(x))


def u_net(
    features: dict[int, Array],
    width: float,
    finest: int,
    dtype: Any,
    extra: Float[Array, "batch _ _ channels"] | None = None,
) -> dict[int, Array]:
    """The decoder's own features by stride, from 16 down to `finest`; its layers belong to the calling module.

    Each level widens the coarser one to twice its size and merges it with the encoder's features of that stride.
    `extra`, of any size, is merged as well at EXTRA_STRIDE, or at `finest` where that is coarser; its gradient is kept.
    """
    decoded = {}
    x = features[32]
    for level in reversed(range(finest.bit_length() - 1, 5)):  # level k has stride 2^k after the upsampling
        channels = max(1, round(CHANNELS[level] * width))
        x = nn.elu(ReflectConv(channels, dtype, name=f"up{level}")(x))
        x = upsample(x)
        if 2**level in features:  # image transformers have none at stride 2, nobody has any at stride 1
            skip = features[2**level]
            rows, columns = skip.shape[1:3]  # one less than x where stride 32 does not divide the image
            x = jnp.concatenate([x[:, :rows, :columns], skip], axis=-1)
        if extra is not None and 2**level == max(EXTRA_STRIDE, finest):
            rows, columns = x.shape[1:3]
            x = jnp.concatenate([x, resize_image(extra, (rows, columns)).astype(x.dtype)], axis=-1)
        x = nn.elu(ReflectConv(channels, dtype, name=f"merge{level}")(x))
        decoded[2**level] = x
    return decoded


def disparity_of(decoded: Array, level: int, initial: float) -> Float[Array, "batch _ _"]:
    """The head of a decoder at stride 2^`level`, a layer of the calling module: disparity in (0, 1), first `initial`.

    It computes in float32: bfloat16 would round the logit, and with it depth, to steps of three percent.
    """
    bias = nn.initializers.constant(math.log(initial / (1 - initial)))
    head = ReflectConv(1, jnp.float32, HEAD_FAN_IN, bias, name=f"disparity{level}")
    return nn.sigmoid(head(decoded)[..., 0])


def initial_disparity(model: ConfigDict) -> float:
    """What heads start at, in (0, 1), so that depth is `config.model.initial_depth`."""
    near, far = 1 / model.min_depth, 1 / model.max_depth
    return (1 / model.initial_depth - far) / (near - far)


def at_scales(found: dict[int, Array], scales: int, output_stride: int) -> tuple[Float[Array, "batch _ _"], ...]:
    """Disparities from `output_stride` on, each half the size of the one before; `found` has them by stride, from 1 on.

    Those that are coarser than any found are the coarsest one, resized **[ours]**.
    """
    height, width = found[1].shape[1:3]
    strides = [output_stride * 2**scale for scale in range(scales)]
    coarsest = found[max(found)]
    return tuple(
        found[stride] if stride in found else resize_map(coarsest, (height // stride, width // stride))
        for stride in strides
    )


class DepthDecoder(nn.Module):
    """Features of an encoder to `scales` disparities in (0, 1), finest first, and the decoder's features by stride.

    The finest disparity has stride `output_stride` (1, 2, 4 or 8), each further one half its size. Full-size layers
    take longest, few as their channels are.

    Heads start at `initial_disparity` everywhere, with small kernels: large ones saturate the sigmoid, and training
    collapses to a constant depth.

    Where it is given `masks` (METHOD.md 5.5, "concatenated"), hard ones of `mask_decoder.hard_masks`, it sees them
    beside its features at half resolution. No gradient reaches them: they have a loss of their own **[ours]**.
    """

    width: float
    scales: int
    output_stride: int
    initial_disparity: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, features: dict[int, Array], masks: Float[Array, "batch _ _ 2"] | None = None
    ) -> tuple[tuple[Float[Array, "batch _ _"], ...], dict[int, Array]]:
        extra = None if masks is None else lax.stop_gradient(masks)
        decoded = u_net(features, self.width, self.output_stride, self.dtype, extra)
        levels = [self.output_stride.bit_length() - 1 + scale for scale in range(self.scales)]
        return tuple(disparity_of(decoded[2**level], level, self.initial_disparity) for level in levels), decoded

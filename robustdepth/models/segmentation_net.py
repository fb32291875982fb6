"""Segmentation network: an image encoder and the U-Net decoder with one logit per class."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.models.depth_decoder import u_net
from robustdepth.models.layers import HEAD_FAN_IN, check_image_size
from robustdepth.types import Array


class SegmentationDecoder(nn.Module):
    """Features of an encoder to class logits at `output_stride`, and the decoder's features by stride."""

    width: float
    classes: int
    output_stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: dict[int, Array]) -> tuple[Float[Array, "batch _ _ classes"], dict[int, Array]]:
        decoded = u_net(features, self.width, self.output_stride, self.dtype)
        head = nn.Conv(self.classes, (1, 1), kernel_init=HEAD_FAN_IN, dtype=jnp.float32, name="classes")
        return head(decoded[self.output_stride]), decoded


class SegmentationNet(nn.Module):
    """Images in [0, 1] to logits and decoder features. Raises `UserError` where the size is no multiple of 16.

    A `frozen` encoder works as in evaluation, also while the decoder is trained, and no gradient reaches it.
    """

    encoder: Any
    decoder: Any
    frozen: bool = False

    def __call__(
        self, image: Float[Array, "batch height width 3"], train: bool
    ) -> tuple[Float[Array, "batch _ _ classes"], dict[int, Array]]:
        check_image_size(*image.shape[1:3])
        features = self.encoder(image, train and not self.frozen)
        return self.decoder(jax.lax.stop_gradient(features) if self.frozen else features)

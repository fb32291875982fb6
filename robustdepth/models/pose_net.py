"""Pose network: the camera motion between two frames (Zhou et al., CVPR 2017; form of Godard et al., ICCV 2019)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.models.layers import HE_FAN_IN, HEAD_FAN_IN, check_image_size
from robustdepth.types import Array


class PoseHead(nn.Module):
    """Features at stride 32 to six numbers per image, averaged over the image."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch 6"]:
        width = min(256, x.shape[-1])
        for i, kernel in enumerate((1, 3, 3)):
            conv = nn.Conv(width, (kernel, kernel), kernel_init=HE_FAN_IN, dtype=self.dtype, name=f"conv{i}")
            x = nn.relu(conv(x))
        x = nn.Conv(6, (1, 1), kernel_init=HEAD_FAN_IN, dtype=jnp.float32, name="motion")(x)
        return x.mean(axis=(1, 2))


class PoseNet(nn.Module):
    """Two images in [0, 1] to axis-angle (3, radians) and translation (3) of T_{first -> second}, times `scale`.

    Training shows it pairs in the order of time alone, first the earlier image.

    Raises `UserError` where the image size is no multiple of 16.
    """

    encoder: Any
    head: Any
    scale: float

    def __call__(
        self,
        first: Float[Array, "batch height width 3"],
        second: Float[Array, "batch height width 3"],
        train: bool,
    ) -> Float[Array, "batch 6"]:
        check_image_size(*first.shape[1:3])
        features = self.encoder(jnp.concatenate([first, second], axis=-1), train)
        return self.scale * self.head(features[32])

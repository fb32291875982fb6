"""Mask decoder: which source of depth to trust at each pixel (METHOD.md 5.2; arXiv 2205.08668)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.models.depth_decoder import ReflectConv, u_net
from robustdepth.models.layers import HEAD_FAN_IN
from robustdepth.types import Array

PROXY, OWN = 0, 1  # channels: the stereo method's depth, the network's own


class MaskDecoder(nn.Module):
    """Features of an encoder to logits of two masks, float32 at stride `output_stride` (1, 2, 4 or 8).

    **[paper]** a decoder like the depth decoder, on the encoder they share; it has layers of its own. Its head starts
    small: at first neither source is preferred anywhere.
    """

    width: float
    output_stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: dict[int, Array]) -> Float[Array, "batch _ _ 2"]:
        decoded = u_net(features, self.width, self.output_stride, self.dtype)
        head = ReflectConv(2, jnp.float32, HEAD_FAN_IN, name="mask")
        return head(decoded[self.output_stride])


def hard_masks(logits: Float[Array, "*shape 2"], independent: bool) -> Float[Array, "*shape 2"]:
    """The masks of these logits without noise, 0 or 1: one of both, or each on its own (logit above 0). No gradient."""
    if independent:
        return (logits > 0).astype(jnp.float32)
    return jax.nn.one_hot(jnp.argmax(logits, axis=-1), 2)

"""Depth network: an image encoder and the U-Net decoder."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Float

from robustdepth.models.layers import check_image_size
from robustdepth.models.mask_decoder import hard_masks
from robustdepth.types import Array


class DepthOutput(NamedTuple):
    """Disparities finest first, and what the methods read beside (unread parts cost nothing under jit)."""

    disparities: tuple[Float[Array, "batch _ _"], ...]  # float32 in (0, 1)
    features: dict[int, Array]  # of the encoder: stride -> [batch, height / stride, width / stride, channels]
    decoded: dict[int, Array]  # of the decoder, likewise: what semantic distillation compares (METHOD.md 3.1)
    mask: Float[Array, "batch _ _ 2"] | None = None  # logits of the mask decoder, at stride 2 or coarser


class DepthNet(nn.Module):
    """Images in [0, 1] to disparities. Raises `UserError` where the image size is no multiple of `multiple`.

    A `frozen` encoder works as in evaluation, also while the decoder is trained, and no gradient reaches it. A
    `mask_decoder` looks at the same features (METHOD.md 5.2); the depth decoder sees its masks where it `sees_masks`.
    """

    encoder: Any
    decoder: Any
    frozen: bool = False
    mask_decoder: Any = None
    sees_masks: bool = False
    multiple: int = 16

    def __call__(self, image: Float[Array, "batch height width 3"], train: bool) -> DepthOutput:
        height, width = image.shape[1:3]
        check_image_size(height, width, self.multiple)
        features = self.encoder(image, train and not self.frozen)
        if self.frozen:
            features = jax.lax.stop_gradient(features)
        mask = self.mask_decoder(features) if self.mask_decoder else None
        masks = (hard_masks(mask, independent=False),) if mask is not None and self.sees_masks else ()
        disparities, decoded = self.decoder(features, *masks)
        return DepthOutput(disparities, features, decoded, mask)

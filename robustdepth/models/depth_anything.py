"""Depth Anything V2 (Yang et al., NeurIPS 2024): DINOv2, whose layers a DPT decoder turns into relative inverse depth.

The decoder differs from `dpt.DPTDecoder` in what decides its numbers: maps are enlarged with the corner pixels' centres
kept, convolutions see zeros beyond the border, the skips have no bias, and one head answers at the patches' full size,
without a sigmoid. The names below are also those of the encoders in `config.model.encoder`:

depth_anything_v2_small, depth_anything_v2_base: as the authors' code computes it;
..._hf: as Hugging Face's does, which interpolates the position embedding otherwise (equal at 518x518).

They are names of semantic experts, too: the tokens of the transformer's last layer, which learned depth after
DINOv2's training.
"""

from functools import lru_cache, partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float
from ml_collections import ConfigDict

from robustdepth.imaging.resize import resize_map
from robustdepth.interop.convert import PUBLISHED
from robustdepth.interop.vit_weights import load_vit
from robustdepth.models.dpt import LINEAR, NEARLY_ZERO
from robustdepth.models.encoder import OWN_DECODERS, TRANSFORMERS
from robustdepth.models.experts import EXPERTS, ExpertKind
from robustdepth.models.layers import HE_FAN_IN, fan_in_uniform
from robustdepth.models.vit import PATCH, STRIDE, Dinov2, ViTEncoder
from robustdepth.types import Array

HEAD_WIDTH = 32
AUTHORS_OFFSET = 0.1  # see `vit.resize_positions`


class DepthAnythingDecoder(nn.Module):
    """Features of a `ViTEncoder` to `scales` disparities in [0, 1], finest first; the contract of `dpt.DPTDecoder`.

    The network's answer z >= 0 is inverse depth up to an unknown factor and shift. Disparity d is what turns into z by
    `geometry.depth.disparity_to_inverse_depth`, limited to [0, 1]: the published networks' `min_depth` and `max_depth`
    are so far apart that only z next to 0 (the sky) is changed. Coarser disparities are the finest one, resized
    **[ours]**: the authors have one.

    An untrained network answers `initial_depth`.
    """

    width: int
    scales: int
    output_stride: int
    min_depth: float
    max_depth: float
    initial_depth: float
    stride: int = STRIDE  # of the encoder's tokens
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: dict[int, Array]) -> tuple[tuple[Float[Array, "batch _ _"], ...], dict[int, Array]]:
        conv = partial(nn.Conv, kernel_size=(3, 3), padding=1, dtype=self.dtype)
        decoded: dict[int, Array] = {}
        x: Any = None  # nothing is coarser than stride 32
        for stride in (32, 16, 8, 4):
            skip = conv(self.width, use_bias=False, kernel_init=LINEAR, name=f"skip_{stride}")(features[stride])
            if x is not None:
                x = enlarge(x, skip.shape[1:3]) + ResidualUnit(self.dtype, name=f"unit1_{stride}")(skip)
            x = ResidualUnit(self.dtype, name=f"unit2_{stride}")(skip if x is None else x)
            # The authors project after the next enlarging; before it the result is the same.
            x = nn.Dense(self.width, kernel_init=LINEAR, dtype=self.dtype, name=f"projection_{stride}")(x)
            decoded[stride] = x

        x = conv(self.width // 2, kernel_init=LINEAR, name="head1")(enlarge(x, (2 * x.shape[1], 2 * x.shape[2])))
        rows, columns = features[16].shape[1:3]
        x = enlarge(x, (rows * PATCH, columns * PATCH))
        x = nn.relu(conv(HEAD_WIDTH, kernel_init=HE_FAN_IN, name="head2")(x))
        bias, small = nn.initializers.constant(1 / self.initial_depth), fan_in_uniform((0.02 / self.initial_depth) ** 2)
        # In float32: bfloat16 would round depth to steps of half a percent.
        z = nn.Dense(1, kernel_init=small, bias_init=bias, dtype=jnp.float32, name="head3")(x.astype(jnp.float32))
        near, far = 1 / self.min_depth, 1 / self.max_depth
        finest = jnp.clip((nn.relu(z[..., 0]) - far) / (near - far), 0.0, 1.0)
        size = rows * self.stride, columns * self.stride
        strides = [self.output_stride * 2**scale for scale in range(self.scales)]
        return tuple(resize_map(finest, (size[0] // stride, size[1] // stride)) for stride in strides), decoded


class ResidualUnit(nn.Module):
    """`dpt.ResidualUnit` with zeros beyond the border."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        conv = partial(nn.Conv, x.shape[-1], (3, 3), padding=1, dtype=self.dtype)
        y = conv(kernel_init=HE_FAN_IN, name="conv1")(nn.relu(x))
        return x + conv(kernel_init=NEARLY_ZERO, name="conv2")(nn.relu(y))


def enlarge(
    x: Float[Array, "batch height width channels"], size: tuple[int, ...]
) -> Float[Array, "batch new_height new_width channels"]:
    """Bilinear resize to `size` (height, width) that keeps the centres of the four corner pixels where they are."""
    down, along = (jnp.asarray(_weights(old, new), x.dtype) for old, new in zip(x.shape[1:3], size, strict=True))
    x = jnp.einsum("ri,bijc->brjc", down, x, precision=lax.Precision.HIGHEST)
    return jnp.einsum("sj,brjc->brsc", along, x, precision=lax.Precision.HIGHEST)


@lru_cache
def _weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
    position = np.linspace(0, old - 1, new)
    return np.maximum(1 - np.abs(position[:, None] - np.arange(old)), 0)


def _decoder(width: int, model: ConfigDict, dtype: Any) -> DepthAnythingDecoder:
    depths = model.min_depth, model.max_depth, model.initial_depth
    stride = model.get("token_stride", STRIDE)
    return DepthAnythingDecoder(width, model.scales, model.output_stride, *depths, stride, dtype)


_SMALL: dict[str, Any] = dict(width=384, heads=6)
_BASE: dict[str, Any] = dict(width=768, heads=12)
for _size, _letter, _width, _vit, _channels in (
    ("small", "s", 64, _SMALL, (48, 96, 192, 384)),
    ("base", "b", 128, _BASE, (96, 192, 384, 768)),
):
    for _suffix, _offset, _file in (
        ("", AUTHORS_OFFSET, f"depth_anything_v2_vit{_letter}.pth of github.com/DepthAnything/Depth-Anything-V2"),
        ("_hf", 0.0, f"model.safetensors of huggingface.co/depth-anything/Depth-Anything-V2-{_size.title()}-hf"),
    ):
        _name = f"depth_anything_v2_{_size}{_suffix}"
        TRANSFORMERS.add(_name, partial(ViTEncoder, **_vit, channels=_channels, bias=True, offset=_offset))
        OWN_DECODERS.add(_name, partial(_decoder, _width))
        PUBLISHED.add(_name, load_vit)
        EXPERTS.add(_name, ExpertKind(partial(Dinov2, **_vit, offset=_offset), load_vit, _file))

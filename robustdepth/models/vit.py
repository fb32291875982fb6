"""DINOv2 vision transformers (Oquab et al., TMLR 2024): a semantic expert, and an encoder for the DPT decoder."""

from functools import lru_cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from robustdepth.imaging.resize import resize_image
from robustdepth.interop.convert import PUBLISHED
from robustdepth.interop.vit_weights import load_vit
from robustdepth.models.encoder import TRANSFORMERS
from robustdepth.models.experts import EXPERTS, ExpertKind
from robustdepth.models.layers import check_image_size, fan_in_uniform, normalise
from robustdepth.models.resnet import IMAGENET_MEAN, IMAGENET_STD
from robustdepth.types import Array

PATCH = 14  # pixels that a token is wide, after the image was resized to 14/16 of its size
STRIDE = 16
LINEAR = fan_in_uniform(1.0)


def layer_norm(x: Float[Array, "*batch channels"], epsilon: float, dtype: Any, name: str) -> Array:
    """Layer normalisation over the channels as a submodule `name` of the calling module."""
    # Flax mixes its float32 statistics with x, which strict promotion forbids where x is of another type. The variance
    # is that of the centred values: a few channels of these transformers are a hundred times larger than the others.
    with jax.numpy_dtype_promotion("standard"):
        return nn.LayerNorm(epsilon, dtype=dtype, use_fast_variance=False, name=name)(x)


def attend(
    query: Float[Array, "batch queries width"],
    key: Float[Array, "batch keys width"],
    value: Float[Array, "batch keys width"],
    heads: int,
) -> Float[Array, "batch queries width"]:
    """Scaled dot-product attention (Vaswani et al., NeurIPS 2017); the softmax is in float32 at least."""
    batch, _, width = query.shape
    query, key, value = (x.reshape(batch, -1, heads, width // heads) for x in (query, key, value))
    exact = jnp.float64 if query.dtype == jnp.float64 else jnp.float32
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=exact)
    weights = nn.softmax(logits * (width // heads) ** -0.5).astype(value.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(batch, -1, width)


class Block(nn.Module):
    """Attention and a two-layer perceptron, each behind a layer norm and scaled per channel before its shortcut."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens width"]) -> Float[Array, "batch tokens width"]:
        width = x.shape[-1]
        dense = partial(nn.Dense, kernel_init=LINEAR, dtype=self.dtype)
        norm = partial(layer_norm, epsilon=1e-6, dtype=self.dtype)

        y = norm(x, name="norm1")
        query, key, value = (dense(width, name=name)(y) for name in ("query", "key", "value"))
        y = dense(width, name="projection")(attend(query, key, value, self.heads))
        x = x + self._layer_scale(y, "layer_scale1")

        y = dense(4 * width, name="expand")(norm(x, name="norm2"))
        y = dense(width, name="contract")(nn.gelu(y, approximate=False))
        return x + self._layer_scale(y, "layer_scale2")

    def _layer_scale(self, x: Array, name: str) -> Array:
        scale = self.param(name, nn.initializers.ones, x.shape[-1:], jnp.float32)
        return x * scale.astype(self.dtype)[None, None]


class Dinov2(nn.Module):
    """Images in [0, 1] to the patch tokens of the last layer, equal to Hugging Face's `Dinov2Model`.

    The defaults are those of ViT-S/14. Patches have 14 pixels, the depth networks' features strides that are powers of
    two: the image is first resized to 14/16 of its size, which puts one token at every pixel of the stride-16 grid.
    With `stride` 14 the image is seen as it is. `interop.vit_weights.load_vit` fills it. Raises `UserError` where the
    image size is no multiple of `stride`.
    """

    width: int = 384
    layers: int = 12
    heads: int = 6
    positions: int = 37  # rows and columns of the grid that the position embedding was learned on
    dtype: Any = jnp.float32
    stride: int = STRIDE  # pixels of the given image that a token is wide
    offset: float = 0.0  # see `resize_positions`

    def setup(self) -> None:
        self.patch_embedding = nn.Conv(
            self.width, (PATCH, PATCH), PATCH, padding="VALID", kernel_init=LINEAR, dtype=self.dtype
        )
        count = 1 + self.positions**2
        small = fan_in_uniform(0.02**2 * count)  # the customary deviation of 0.02, whatever the number of positions
        self.class_token = self.param("class_token", nn.initializers.zeros, (self.width,), jnp.float32)
        self.position_embedding = self.param("position_embedding", small, (count, self.width), jnp.float32)
        self.blocks = [Block(self.heads, self.dtype) for _ in range(self.layers)]
        self.final_norm = nn.LayerNorm(1e-6, dtype=self.dtype, use_fast_variance=False)

    def __call__(self, image: Float[Array, "batch height width 3"]) -> dict[int, Array]:
        return {STRIDE: self.layer_maps(image, (self.layers,))[0]}

    def layer_maps(
        self, image: Float[Array, "batch height width 3"], layers: tuple[int, ...]
    ) -> list[Float[Array, "batch rows cols channels"]]:
        """Patch tokens behind each of the `layers` (counted from 1, increasing), all through the final layer norm."""
        height, width = image.shape[1:3]
        check_image_size(height, width, self.stride)
        rows, cols = height // self.stride, width // self.stride
        image = resize_image(image, (rows * PATCH, cols * PATCH))
        tokens = self._embed(normalise(image, IMAGENET_MEAN, IMAGENET_STD, self.dtype))
        maps = []
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if number in layers:
                with jax.numpy_dtype_promotion("standard"):  # see `layer_norm`
                    patches = self.final_norm(tokens)[:, 1:]
                maps.append(patches.reshape(-1, rows, cols, self.width))
        return maps

    def _embed(self, image: Float[Array, "batch height width 3"]) -> Float[Array, "batch tokens channels"]:
        """The class token and one token per patch, with their positions added."""
        patches = self.patch_embedding(image)
        batch, *size, channels = patches.shape
        grid = self.position_embedding[1:].reshape(self.positions, self.positions, channels)
        patches += resize_positions(grid, (size[0], size[1]), self.offset).astype(self.dtype)[None]
        first = (self.class_token + self.position_embedding[0]).astype(self.dtype)
        first = jnp.broadcast_to(first[None, None], (batch, 1, channels))
        return jnp.concatenate([first, patches.reshape(batch, -1, channels)], axis=1)


class ViTEncoder(nn.Module):
    """Images in [0, 1] to features at strides 4, 8, 16 and 32, from four evenly spaced layers of a DINOv2 transformer.

    Each layer's tokens are projected to their own width and resampled to their own stride (the reassembly of Ranftl et
    al., ICCV 2021, without class token; layers and normalisation as in Yang et al., Depth Anything V2, NeurIPS 2024):
    shallow layers give the fine maps. The transformer works alike in training and in evaluation.
    """

    width: int = 384
    layers: int = 12
    heads: int = 6
    positions: int = 37
    channels: tuple[int, int, int, int] = (48, 96, 192, 384)
    dtype: Any = jnp.float32
    stride: int = STRIDE  # what stride 16 is truly, see `Dinov2`; with 14 the others are 14/16 of their names, too
    offset: float = 0.0
    bias: bool = False  # of the enlarging layers

    @nn.compact
    def __call__(self, image: Float[Array, "batch height width 3"], train: bool) -> dict[int, Array]:
        sizes = self.width, self.layers, self.heads, self.positions
        vit = Dinov2(*sizes, self.dtype, self.stride, self.offset, name="vit")
        maps = vit.layer_maps(image, tuple(self.layers * quarter // 4 for quarter in (1, 2, 3, 4)))
        features = {}
        for stride, channels, x in zip((4, 8, 16, 32), self.channels, maps, strict=True):
            x = nn.Dense(channels, kernel_init=LINEAR, dtype=self.dtype, name=f"project{stride}")(x)
            if stride < STRIDE:
                x = _Enlarge(STRIDE // stride, self.bias, self.dtype, name=f"enlarge{stride}")(x)
            elif stride > STRIDE:
                halve = partial(nn.Conv, kernel_init=LINEAR, dtype=self.dtype, name=f"halve{stride}")
                x = halve(channels, (3, 3), 2, padding=1)(x)
            features[stride] = x
        return features


class _Enlarge(nn.Module):
    """Transposed convolution whose kernel is as large as its stride: one dense layer, every pixel a square of pixels.

    As a dense layer its initial variance counts the right inputs: a transposed convolution's kernel has factor^2 more.
    """

    factor: int
    bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w channels"]:
        batch, height, width, channels = x.shape
        square = (self.factor, self.factor, channels)
        x = nn.Dense(int(np.prod(square)), use_bias=False, kernel_init=LINEAR, dtype=self.dtype, name="dense")(x)
        x = x.reshape(batch, height, width, *square).swapaxes(2, 3)
        x = x.reshape(batch, height * self.factor, width * self.factor, channels)
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
            x += bias.astype(self.dtype)[None, None, None]
        return x


def resize_positions(
    grid: Float[Array, "rows cols channels"], size: tuple[int, int], offset: float = 0.0
) -> Float[Array, "new_rows new_cols channels"]:
    """Position embeddings on another grid: bicubic as PyTorch and OpenCV do it, not antialiased (jax.image differs).

    With an `offset` the new grid counts as so much larger: with 0.1 this is what facebookresearch's DINOv2 does.
    """
    if size == grid.shape[:2]:
        return grid
    down = jnp.asarray(_cubic_weights(grid.shape[0], size[0], offset), grid.dtype)
    along = jnp.asarray(_cubic_weights(grid.shape[1], size[1], offset), grid.dtype)
    return jnp.einsum("ri,cj,ijk->rck", down, along, grid, precision=lax.Precision.HIGHEST)


@lru_cache
def _cubic_weights(old: int, new: int, offset: float) -> Float[np.ndarray, "new old"]:
    """Rows of Keys' cubic kernel with a = -0.75 round each new position's centre; the border repeats."""
    a = -0.75
    centres = (np.arange(new) + 0.5) * old / (new + offset) - 0.5
    weights = np.zeros((new, old))
    for offset in (-1, 0, 1, 2):
        taps = np.floor(centres) + offset
        d = np.abs(centres - taps)
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * (d**3 - 5 * d**2 + 8 * d - 4)
        np.add.at(weights, (np.arange(new), np.clip(taps, 0, old - 1).astype(int)), np.where(d <= 1, near, far))
    return weights


TRANSFORMERS.add("dinov2_vits14", ViTEncoder)
TRANSFORMERS.add("dinov2_vitb14", partial(ViTEncoder, 768, heads=12, channels=(96, 192, 384, 768)))
for _name, _page, _expert in (
    ("dinov2_vits14", "dinov2-small", Dinov2),
    ("dinov2_vitb14", "dinov2-base", partial(Dinov2, width=768, heads=12)),
):
    _file = f"model.safetensors of huggingface.co/facebook/{_page}"
    EXPERTS.add(_name, ExpertKind(_expert, load_vit, _file))
    PUBLISHED.add(_name, load_vit)

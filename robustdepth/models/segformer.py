"""SegFormer (Xie et al., NeurIPS 2021): a hierarchical transformer for segmentation, used as a semantic expert."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.errors import UserError
from robustdepth.imaging.resize import resize_image
from robustdepth.interop.segformer_weights import load_segformer
from robustdepth.models.efficientnet import DepthwiseConv
from robustdepth.models.experts import EXPERTS, ExpertKind
from robustdepth.models.layers import HE_FAN_IN, batch_norm, check_image_size, fan_in_uniform, normalise
from robustdepth.models.resnet import IMAGENET_MEAN, IMAGENET_STD
from robustdepth.models.vit import attend, layer_norm
from robustdepth.types import Array

LINEAR = fan_in_uniform(1.0)
EPSILON = 1e-5  # of every layer norm, as in Hugging Face's implementation
SMALLEST = 32  # pixels: the first stage's keys are means of 8 x 8 positions at stride 4


class Block(nn.Module):
    """Attention to a coarser copy of the map, then a perceptron with a depthwise convolution between its layers."""

    heads: int
    reduction: int  # how much coarser the keys and values are
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        batch, height, width, channels = x.shape
        dense = partial(nn.Dense, kernel_init=LINEAR, dtype=self.dtype)
        norm = partial(layer_norm, epsilon=EPSILON, dtype=self.dtype)

        y = norm(x, name="norm1")
        coarse = y
        if self.reduction > 1:
            window = (self.reduction, self.reduction)
            reduce = partial(nn.Conv, kernel_init=LINEAR, dtype=self.dtype, name="reduction")
            coarse = norm(reduce(channels, window, self.reduction, padding="VALID")(coarse), name="reduction_norm")
        inputs = {"query": y, "key": coarse, "value": coarse}
        query, key, value = (dense(channels, name=name)(z.reshape(batch, -1, channels)) for name, z in inputs.items())
        y = dense(channels, name="projection")(attend(query, key, value, self.heads))
        x = x + y.reshape(batch, height, width, channels)

        y = dense(4 * channels, name="expand")(norm(x, name="norm2"))
        bias = self.param("depthwise_bias", nn.initializers.zeros, y.shape[-1:], jnp.float32)
        y = DepthwiseConv(3, 1, self.dtype, name="depthwise")(y) + bias.astype(self.dtype)[None, None, None]
        return x + dense(channels, name="contract")(nn.gelu(y, approximate=False))


class Stage(nn.Module):
    """A strided convolution into overlapping patches, `depth` blocks and a layer norm."""

    width: int
    depth: int
    heads: int
    reduction: int
    kernel: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w c"]:
        embed = partial(nn.Conv, kernel_init=LINEAR, dtype=self.dtype, name="patch_embedding")
        x = embed(self.width, (self.kernel, self.kernel), self.stride, padding=self.kernel // 2)(x)
        x = layer_norm(x, EPSILON, self.dtype, "patch_norm")
        for i in range(self.depth):
            x = Block(self.heads, self.reduction, self.dtype, name=f"block{i}")(x)
        return layer_norm(x, EPSILON, self.dtype, "norm")


class DecodeHead(nn.Module):
    """The four stages' features to class logits at stride 4: each projected and enlarged, then mixed per pixel."""

    width: int
    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, features: dict[int, Array]) -> Float[Array, "batch height width classes"]:
        size = features[4].shape[1:3]
        projected = []
        for stride in (32, 16, 8, 4):
            dense = nn.Dense(self.width, kernel_init=LINEAR, dtype=self.dtype, name=f"project{stride}")
            projected.append(resize_image(dense(features[stride]), (size[0], size[1])))
        conv = partial(nn.Conv, kernel_size=(1, 1), dtype=self.dtype)
        x = conv(self.width, use_bias=False, kernel_init=HE_FAN_IN, name="fuse")(jnp.concatenate(projected, axis=-1))
        x = nn.relu(batch_norm(x, False, self.dtype, "norm"))
        return conv(self.classes, kernel_init=LINEAR, name="classifier")(x)


class SegFormer(nn.Module):
    """Images in [0, 1] to features at strides 4, 8, 16 and 32, equal to Hugging Face's SegFormer in evaluation.

    The defaults are those of SegFormer-B0 with the 19 classes of Cityscapes. Initialised through `__call__` it has the
    encoder alone; initialised through `logits` it has the segmentation head too. `interop.segformer_weights` fills
    both. Raises `UserError` where the image size is no multiple of 16 or below 32.
    """

    widths: tuple[int, ...] = (32, 64, 160, 256)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    heads: tuple[int, ...] = (1, 2, 5, 8)
    reductions: tuple[int, ...] = (8, 4, 2, 1)
    head_width: int = 256
    classes: int = 19
    dtype: Any = jnp.float32

    def setup(self) -> None:
        shapes = zip(self.widths, self.depths, self.heads, self.reductions, (7, 3, 3, 3), (4, 2, 2, 2), strict=True)
        stage = partial(Stage, dtype=self.dtype)
        self.stages = [stage(*shape) for shape in shapes]
        self.head = DecodeHead(self.head_width, self.classes, self.dtype)

    def __call__(self, image: Float[Array, "batch height width 3"]) -> dict[int, Array]:
        check_image_size(*image.shape[1:3])
        if min(image.shape[1:3]) < SMALLEST:
            raise UserError(
                f"SegFormer needs images of at least {SMALLEST}x{SMALLEST} pixels, got {image.shape[1]}x"
                f"{image.shape[2]} (height x width): set image_size accordingly."
            )
        x = normalise(image, IMAGENET_MEAN, IMAGENET_STD, self.dtype)
        features = {}
        for stride, stage in zip((4, 8, 16, 32), self.stages, strict=True):
            x = stage(x)
            features[stride] = x
        return features

    def logits(self, image: Float[Array, "batch height width 3"]) -> Float[Array, "batch height/4 width/4 classes"]:
        """Class logits at stride 4."""
        return self.head(self(image))


FILE = "the weights of huggingface.co/nvidia/segformer-b0-finetuned-cityscapes-1024-1024"
EXPERTS.add("segformer_b0", ExpertKind(SegFormer, load_segformer, FILE))

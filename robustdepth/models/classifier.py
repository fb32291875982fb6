"""ImageNet classifiers around the encoders: they show on real photos that pretrained weights were loaded right."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.models.build import build_encoder
from robustdepth.models.efficientnet import lite0_norm
from robustdepth.models.layers import HE_FAN_IN
from robustdepth.types import Array


class ResNetClassifier(nn.Module):
    """Features to class logits: global mean and one dense layer."""

    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch classes"]:
        return nn.Dense(self.classes, dtype=self.dtype, name="fc")(x.mean(axis=(1, 2)))


class Lite0Classifier(nn.Module):
    """Features to class logits: 1x1 convolution to 1280 channels, global mean and one dense layer."""

    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch classes"]:
        x = nn.Conv(1280, (1, 1), use_bias=False, kernel_init=HE_FAN_IN, dtype=self.dtype, name="conv_head")(x)
        x = nn.relu6(lite0_norm(x, train, self.dtype, "bn1"))
        return nn.Dense(self.classes, dtype=self.dtype, name="fc")(x.mean(axis=(1, 2)))


class Classifier(nn.Module):
    """Images in [0, 1] to class logits. `interop.convert.load_encoder` fills it from a classifier's weight file."""

    encoder: Any
    classifier: Any

    def __call__(self, image: Float[Array, "batch height width 3"], train: bool) -> Float[Array, "batch classes"]:
        return self.classifier(self.encoder(image, train)[32], train)


def build_classifier(encoder: str, classes: int = 1000, dtype: Any = jnp.float32) -> Classifier:
    """A classifier on the encoder of that name. Raises `UserError` for an unknown name."""
    head = Lite0Classifier if encoder == "efficientnet_lite0" else ResNetClassifier
    return Classifier(build_encoder(encoder, dtype), head(classes, dtype))

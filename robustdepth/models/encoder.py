"""The image encoders, by their names in the configuration; each is added where it is defined."""

from collections.abc import Callable

import flax.linen as nn

from robustdepth.registry import Registry

Encoder = Callable[..., nn.Module]  # (dtype) -> module: (image, train) -> {stride: features}
ENCODERS: Registry[Encoder] = Registry("encoder")  # convolutional ones, with features at strides 2, 4, 8, 16 and 32
# Encoders for the depth network alone, with features at 4, 8, 16 and 32; a DPT decoder follows those without their own.
TRANSFORMERS: Registry[Encoder] = Registry("transformer", taken=ENCODERS)
ENCODERS.taken = TRANSFORMERS
# Decoders that belong to one encoder, by its name: (config.model, dtype) -> module, see `DepthNet`. Others are chosen
# by the kind of the encoder.
OWN_DECODERS: Registry[Callable[..., nn.Module]] = Registry("decoder of the encoder")

"""From names in the configuration to networks."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from robustdepth.errors import UserError, nearest
from robustdepth.geometry.depth import disparity_range
from robustdepth.models.depth_decoder import DepthDecoder, initial_disparity
from robustdepth.models.depth_net import DepthNet
from robustdepth.models.dpt import DPTDecoder
from robustdepth.models.encoder import ENCODERS, OWN_DECODERS, TRANSFORMERS
from robustdepth.models.mask_decoder import MaskDecoder
from robustdepth.models.pose_net import PoseHead, PoseNet
from robustdepth.models.segmentation_net import SegmentationDecoder, SegmentationNet
from robustdepth.models.stereo_net import STEREO_NETWORKS, StereoNet
from robustdepth.models.vit import STRIDE
from robustdepth.types import TEMPORAL
from robustdepth.world.scene import CLASSES

IMAGENET = "imagenet"
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def build_encoder(name: str, dtype: Any, normalisation: str = IMAGENET) -> nn.Module:
    """The convolutional encoder of that name: (image, train) -> {stride: features}. Raises `UserError` for others."""
    return _normalising(_choose("encoder", name, ENCODERS)(dtype=dtype), name, normalisation)


def _normalising(encoder: nn.Module, name: str, normalisation: str) -> nn.Module:
    """The encoder with another input normalisation than ImageNet's, for those that can have one.

    Where its class says RAW it sees colours as they are, and the option is for the pose network alone.
    """
    if normalisation == IMAGENET or getattr(encoder, "RAW", False):
        return encoder
    if not hasattr(encoder, "normalisation"):
        raise UserError(
            f'model.normalisation="{normalisation}" is for ResNets, not for the encoder {name}: use "{IMAGENET}".'
        )
    return encoder.clone(normalisation=normalisation)


def build_depth_net(model: ConfigDict) -> DepthNet:
    """The depth network that `config.model` describes. Raises `UserError` for what cannot be built."""
    dtype = _choose("dtype", model.dtype, DTYPES)
    if model.output_stride not in (1, 2, 4, 8):
        raise UserError(f"model.output_stride is {model.output_stride}: the decoder ends at 1, 2, 4 or 8.")
    most = 5 - (model.output_stride.bit_length() - 1)
    if not 1 <= model.scales <= most:
        raise UserError(
            f"model.scales is {model.scales}: from model.output_stride={model.output_stride} on, the decoder has 1 to "
            f"{most} scales."
        )
    if not 0 < model.min_depth < model.initial_depth < model.max_depth:
        raise UserError(
            f"model.initial_depth is {model.initial_depth}: it must lie between model.min_depth ({model.min_depth}, "
            f"above 0) and model.max_depth ({model.max_depth})."
        )
    tokens = model.get("token_stride", STRIDE)  # of published transformers, which see images as they are
    places = {} if tokens == STRIDE else dict(stride=tokens)
    encoder = _choose("encoder", model.encoder, ENCODERS | TRANSFORMERS)(dtype=dtype, **places)
    encoder = _normalising(encoder, model.encoder, model.get("normalisation", IMAGENET))
    width, stride = model.decoder_width, model.output_stride
    masks = model.get("mask_decoder", "none")  # older model files do not say
    if masks == "concatenated" and model.encoder in TRANSFORMERS:
        raise UserError(
            f'model.mask_decoder="concatenated" is for the U-Net decoder, but model.encoder={model.encoder} has '
            'another: use "loss".'
        )
    # Full-size layers take longest, and masks need no finer grid **[ours]**.
    mask_decoder = MaskDecoder(width, max(stride, 2), dtype) if masks != "none" else None
    decoder = _build_decoder(model, dtype)
    return DepthNet(encoder, decoder, model.freeze_encoder, mask_decoder, masks == "concatenated", tokens)


def _build_decoder(model: ConfigDict, dtype: Any) -> nn.Module:
    if model.encoder in OWN_DECODERS:
        if model.decoder_width != 1:
            raise UserError(
                f"model.decoder_width is {model.decoder_width}: the decoder of model.encoder={model.encoder} has the "
                "width that its authors gave it, use 1."
            )
        return OWN_DECODERS[model.encoder](model, dtype)
    decoder = DPTDecoder if model.encoder in TRANSFORMERS else DepthDecoder
    return decoder(model.decoder_width, model.scales, model.output_stride, initial_disparity(model), dtype)


def build_segmentation_net(model: ConfigDict) -> SegmentationNet:
    """The segmentation network on the procedural world's classes that `config.model` describes. Raises `UserError`."""
    dtype = _choose("dtype", model.dtype, DTYPES)
    decoder = SegmentationDecoder(model.decoder_width, len(CLASSES), model.output_stride, dtype)
    encoder = build_encoder(model.encoder, dtype, model.get("normalisation", IMAGENET))
    return SegmentationNet(encoder, decoder, model.freeze_encoder)


def build_stereo_net(config: ConfigDict) -> StereoNet:
    """The stereo network that `config.stereo` describes, for images of config.image_size. Raises `UserError`."""
    dtype = _choose("dtype", config.model.dtype, DTYPES)
    max_disparity = disparity_range(config.image_size[1], config.stereo.max_disparity)
    return _choose("stereo network", config.stereo.network, STEREO_NETWORKS)(max_disparity=max_disparity, dtype=dtype)


def build_main_net(config: ConfigDict) -> DepthNet | SegmentationNet:
    """The network that maps one image: the depth network, or the segmentation network of config.task."""
    return (build_segmentation_net if config.task == "segmentation" else build_depth_net)(config.model)


def build_networks(config: ConfigDict) -> dict[str, nn.Module]:
    """The networks that learn, by name: "depth", with "pose" where a source view is temporal; or that of the task."""
    if config.task == "segmentation":
        return {"segmentation": build_segmentation_net(config.model)}
    if config.task == "stereo":
        return {"stereo": build_stereo_net(config)}
    networks: dict[str, nn.Module] = {"depth": build_depth_net(config.model)}
    if any(name in TEMPORAL for name in config.data.views):
        networks["pose"] = build_pose_net(config.model)
    return networks


def build_pose_net(model: ConfigDict) -> PoseNet:
    """The pose network that `config.model` describes. Raises `UserError` for what cannot be built."""
    dtype = _choose("dtype", model.dtype, DTYPES)
    encoder = build_encoder(model.pose_encoder, dtype, model.get("normalisation", IMAGENET))
    return PoseNet(encoder, PoseHead(dtype), model.pose_scale)


def _choose(option: str, name: str, table: dict[str, Any]) -> Any:
    if name not in table:
        raise UserError(f"unknown {option} {name!r} in the model's configuration: {nearest(name, table)}")
    return table[name]

"""Fills Depth Anything V2 with published weights: the authors' `.pth` files, and Hugging Face's safetensors."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from robustdepth.errors import UserError
from robustdepth.interop import vit_weights
from robustdepth.interop.fill import Report, Variables, fill
from robustdepth.interop.vit_weights import check_size, split_qkv, to_tokens, vit_name

ENCODER, DECODER = "params/encoder/", "params/decoder/"
_STRIDES = (4, 8, 16, 32)
_LEAVES = {"kernel": "weight", "bias": "bias"}


@dataclasses.dataclass(frozen=True)
class _Naming:
    """How a project names the parameters; {} stands for a map's number, from 0 at stride 4."""

    transformer: vit_weights.Naming
    prefix: str  # of the transformer's parameters
    project: str
    resize: str
    modules: Mapping[str, str]  # our modules in the decoder, without the stride -> theirs
    first_number: int  # of the fused maps
    coarsest_last: bool  # whether they count towards coarser maps
    unused: str  # regex of parameters that are published and never used


AUTHORS = _Naming(
    vit_weights.FACEBOOKRESEARCH,
    "pretrained.",
    "depth_head.projects.{}",
    "depth_head.resize_layers.{}",
    {
        "unit1": "depth_head.scratch.refinenet{}.resConfUnit1",
        "unit2": "depth_head.scratch.refinenet{}.resConfUnit2",
        "projection": "depth_head.scratch.refinenet{}.out_conv",
        "skip": "depth_head.scratch.layer{}_rn",
        "head1": "depth_head.scratch.output_conv1",
        "head2": "depth_head.scratch.output_conv2.0",
        "head3": "depth_head.scratch.output_conv2.2",
        "conv1": "conv1",
        "conv2": "conv2",
    },
    1,
    True,
    r"pretrained\.mask_token|depth_head\.scratch\.refinenet4\.resConfUnit1\..*",
)
HUGGING_FACE = _Naming(
    vit_weights.HUGGING_FACE,
    "backbone.",
    "neck.reassemble_stage.layers.{}.projection",
    "neck.reassemble_stage.layers.{}.resize",
    {
        "unit1": "neck.fusion_stage.layers.{}.residual_layer1",
        "unit2": "neck.fusion_stage.layers.{}.residual_layer2",
        "projection": "neck.fusion_stage.layers.{}.projection",
        "skip": "neck.convs.{}",
        "head1": "head.conv1",
        "head2": "head.conv2",
        "head3": "head.conv3",
        "conv1": "convolution1",
        "conv2": "convolution2",
    },
    0,
    False,
    r"backbone\.embeddings\.mask_token|neck\.fusion_stage\.layers\.0\.residual_layer1\..*",
)


def naming_of(names: Mapping[str, Any]) -> _Naming | None:
    """Whose names a file has; None where it is no Depth Anything."""
    for naming in (AUTHORS, HUGGING_FACE):
        token = naming.prefix + naming.transformer.class_token
        if token in names and f"{naming.project.format(0)}.weight" in names:
            return naming
    return None


def load_depth_anything(
    variables: Variables, weights: Mapping[str, np.ndarray], architecture: str
) -> tuple[dict[str, Any], Report]:
    """Fills a depth network whose encoder and decoder are Depth Anything's, see `models.depth_anything`.

    Args:
      variables: "params" of the network; shapes are enough.
      weights: tensors by name, see `read_weights`.
      architecture: the network's name, for errors and the report.

    Raises:
      UserError: weights of another network or size, unless every parameter finds a tensor of its shape and every other
        tensor is known to be of no use.
    """
    naming = naming_of(weights)
    if naming is None:
        first = ", ".join(list(weights)[:3])
        raise UserError(f"these weights are not of {architecture!r}; the file's first tensors are {first}.")
    weights = split_qkv(weights)
    transformer = {name.removeprefix(naming.prefix): value for name, value in weights.items()}
    check_size(variables, f"{ENCODER}vit/", transformer, naming.transformer, architecture)
    title = "the authors'" if naming is AUTHORS else "Hugging Face"
    return fill(
        variables,
        weights,
        lambda path: _name(path, naming),
        architecture=architecture,
        naming=title,
        unused=naming.unused,
        convert=_convert,
    )


def _name(path: str, naming: _Naming) -> str:
    """Their name of one of our arrays, such as "params/decoder/unit1_8/conv1/kernel"."""
    if path.startswith(f"{ENCODER}vit/"):
        return naming.prefix + vit_name(path.removeprefix(f"{ENCODER}vit/"), naming.transformer)
    *modules, leaf = path.removeprefix(ENCODER).removeprefix(DECODER).split("/")
    if path.startswith(ENCODER):
        kind, stride = re.split(r"(?=\d)", modules[0], maxsplit=1)
        place = naming.project if kind == "project" else naming.resize
        return f"{place.format(_STRIDES.index(int(stride)))}.{_LEAVES[leaf]}"
    first, *inner = modules
    kind, _, stride = first.partition("_")
    place = naming.modules[kind]
    if stride:
        number = _STRIDES.index(int(stride))
        if kind != "skip" and not naming.coarsest_last:
            number = len(_STRIDES) - 1 - number
        place = place.format(number + naming.first_number)
    return ".".join([place, *(naming.modules[module] for module in inner), _LEAVES[leaf]])


def _convert(path: str, value: np.ndarray) -> np.ndarray:
    if "/enlarge" in path and value.ndim == 4:  # a transposed convolution whose kernel is as large as its stride
        return np.asarray(value, np.float32).transpose(0, 2, 3, 1).reshape(len(value), -1)
    dense = re.search(r"/(project\d+|projection_\d+|head3)/kernel$", path)
    if dense and value.ndim == 4:
        value = value[:, :, 0, 0]
    return to_tokens(path, value)

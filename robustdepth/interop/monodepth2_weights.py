"""Fills networks with the weights that monodepth2 publishes, by the names in its files.

monodepth2 (Godard et al., ICCV 2019) may be used for non-commercial purposes only, and so may its weights. This module
knows the names in the files and the paper's table of layers; the networks are this project's own.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from robustdepth.interop.convert import TORCHVISION
from robustdepth.interop.fill import LEAVES, Report, Variables, fill, to_flax

NAMING = "monodepth2's"
MARK, DEPTH_MARK, POSE_MARK = "encoder.conv1.weight", "decoder.0.conv.conv.weight", "net.0.weight"
_UNUSED = r"encoder\.fc\..*|.*\.num_batches_tracked"
_POSE_HEAD = {"conv0": "net.0", "conv1": "net.1", "conv2": "net.2", "motion": "net.3"}
_LEVELS = 5  # of the decoder, whose layers are numbered from the coarsest


def resnet_of(names: Mapping[str, Any]) -> str:
    """Which ResNet an encoder file holds: resnet18, resnet34 or resnet50."""
    if "encoder.layer1.0.conv3.weight" in names:
        return "resnet50"
    return "resnet34" if "encoder.layer1.2.conv1.weight" in names else "resnet18"


def load_depth(
    variables: Variables, weights: Mapping[str, np.ndarray], architecture: str
) -> tuple[dict[str, Any], Report]:
    """Fills a depth network of a ResNet and the U-Net decoder, four scales, full size.

    Args:
      variables: "params" and "batch_stats"; shapes are enough.
      weights: tensors of `encoder.pth` and `depth.pth` by name.
      architecture: the network's name, for errors and the report.

    Raises:
      UserError: unless every array finds a tensor of its shape and every other tensor is known to be of no use.
    """
    return fill(variables, weights, _depth_name, architecture=architecture, naming=NAMING, unused=_UNUSED)


def load_pose(
    variables: Variables, weights: Mapping[str, np.ndarray], architecture: str
) -> tuple[dict[str, Any], Report]:
    """`load_depth` for the pose network, from `pose_encoder.pth` and `pose.pth`.

    Their last layer answers two motions, of which the first is used.
    """

    def convert(path: str, value: np.ndarray) -> np.ndarray:
        return to_flax(value)[..., :6] if "/motion/" in path and len(value) == 12 else to_flax(value)

    options: dict[str, Any] = dict(architecture=architecture, naming=NAMING, unused=_UNUSED)
    return fill(variables, weights, _pose_name, convert=convert, **options)


def _depth_name(path: str) -> str:
    """Their name of one of our arrays, such as "params/decoder/merge3/conv/kernel"."""
    _, part, *modules, leaf = path.split("/")
    if part == "encoder":
        return _encoder_name(modules, leaf)
    kind, level = re.split(r"(?=\d)", modules[0], maxsplit=1)
    if kind == "disparity":
        return f"decoder.{2 * _LEVELS + int(level)}.conv.{LEAVES[leaf]}"
    number = 2 * (_LEVELS - 1 - int(level)) + (kind == "merge")
    return f"decoder.{number}.conv.conv.{LEAVES[leaf]}"


def _pose_name(path: str) -> str:
    _, part, *modules, leaf = path.split("/")
    return _encoder_name(modules, leaf) if part == "encoder" else f"{_POSE_HEAD[modules[0]]}.{LEAVES[leaf]}"


def _encoder_name(modules: list[str], leaf: str) -> str:
    return f"encoder.{TORCHVISION.module('/'.join(modules))}.{LEAVES[leaf]}"

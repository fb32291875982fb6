"""Fills MonoViT with the weights that its authors publish, by the names in `encoder.pth` and `depth.pth`."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from robustdepth.interop.fill import LEAVES, Report, Variables, fill, to_flax

MARK = "mhca_stages.0.InvRes.dwconv.weight"
DEPTH_MARK = "convs.X_31_attention.conv_se.weight"
# Every transformer layer has its path's position encodings under its own name, the decoder all layers under a second
# one, and four of its convolutions are never called.
_UNUSED = (
    r".*\.num_batches_tracked"
    r"|mhca_stages\.\d\.mhca_blks\.\d\.MHCA_layers\.\d\.(factoratt_crpe\.)?c(rp|p)e\..*"
    r"|decoder\.\d+\..*"
    r"|convs\.X_0[0-3]_Conv_0\..*"
)
_PARTS = {  # ours behind a module's name, numbers left out -> theirs
    "patch/depthwise": "dwconv",
    "patch/pointwise": "pwconv",
    "patch/bn": "bn",
    "local/conv1": "conv1.conv",
    "local/bn1": "conv1.bn",
    "local/depthwise": "dwconv",
    "local/bn2": "norm",
    "local/conv2": "conv2.conv",
    "local/bn3": "conv2.bn",
    "path/position": "cpe.proj",
    "path/relative3": "crpe.conv_list.0",
    "path/relative5": "crpe.conv_list.1",
    "path/relative7": "crpe.conv_list.2",
    "path/qkv": "factoratt_crpe.qkv",
    "path/projection": "factoratt_crpe.proj",
    "path/expand": "mlp.fc1",
    "path/contract": "mlp.fc2",
    "path/norm1_": "norm1",
    "path/norm2_": "norm2",
}
_GATE = {"squeeze": "fc.0", "excite": "fc.2", "conv": "conv_se"}


def load_monovit(
    variables: Variables, weights: Mapping[str, np.ndarray], architecture: str
) -> tuple[dict[str, Any], Report]:
    """Fills a depth network whose encoder and decoder are MonoViT's, see `models.monovit`.

    Args:
      variables: "params" and "batch_stats"; shapes are enough.
      weights: tensors of `encoder.pth` and `depth.pth` by name.
      architecture: the network's name, for errors and the report.

    Raises:
      UserError: unless every array finds a tensor of its shape and every other tensor is known to be of no use.
    """
    options: dict[str, Any] = dict(architecture=architecture, naming="MonoViT's", unused=_UNUSED)
    return fill(variables, weights, _name, convert=_convert, **options)


def _name(path: str) -> str:
    """Their name of one of our arrays, such as "params/encoder/stage1_path0/qkv2/kernel"."""
    _, part, module, *inner, leaf = path.split("/")
    names = _decoder_name(module, *inner) if part == "decoder" else _encoder_name(module, *inner)
    return f"{names}.{LEAVES[leaf]}"


def _encoder_name(module: str, inner: str = "") -> str:
    if match := re.fullmatch(r"stem(\d)(_bn)?", module):
        return f"stem.{match[1]}.{'bn' if match[2] else 'conv'}"
    stage, rest = module.removeprefix("stage").split("_", 1)
    if rest.startswith("merge"):
        return f"mhca_stages.{stage}.aggregate.{'bn' if rest.endswith('bn') else 'conv'}"
    if rest == "local":
        return f"mhca_stages.{stage}.InvRes.{_PARTS[f'local/{inner}']}"
    kind, number = rest[:-1], rest[-1]
    if kind == "patch":
        return f"patch_embed_stages.{stage}.patch_embeds.{number}.patch_conv.{_PARTS[f'patch/{inner}']}"
    blocks = f"mhca_stages.{stage}.mhca_blks.{number}"
    if (whole := f"path/{inner}") in _PARTS:
        return f"{blocks}.{_PARTS[whole]}"
    return f"{blocks}.MHCA_layers.{inner[-1]}.{_PARTS[whole[:-1]]}"


def _decoder_name(module: str, inner: str = "") -> str:
    kind, number = re.split(r"(?=\d)", module, maxsplit=1)
    if kind in ("up", "merge"):
        return f"convs.X_{number}_Conv_{int(kind == 'merge')}.conv.conv"
    if kind == "reduce":
        return f"convs.X_{number}_downsample.conv"
    if kind == "disparity":
        return f"convs.dispconv{number}.conv"
    if kind == "gate":
        return f"convs.X_{number}_attention.{_GATE[inner]}"
    return f"convs.f{number}.{'' if inner == 'conv' else 'ca.'}{_GATE[inner]}"


def _convert(path: str, value: np.ndarray) -> np.ndarray:
    if "/reduce" in path and value.ndim == 4:  # a convolution over single pixels
        value = value[:, :, 0, 0]
    return to_flax(value)

"""Fills Lite-Mono with the weights that its authors publish, by the names in `encoder.pth` and `depth.pth`."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from robustdepth.interop.fill import LEAVES, Report, Variables, fill, to_flax

MARK = "downsample_layers.0.0.conv.weight"
NAMES = {  # by the widths of the first stage and the blocks of the last one
    (32, 7): "lite_mono_tiny",
    (48, 7): "lite_mono_small",
    (48, 10): "lite_mono",
    (64, 10): "lite_mono_8m",
}
_UNUSED = r".*\.num_batches_tracked|stages\.\d\.\d\.norm\.(weight|bias)"
_SHRINK = ("stem2.0", "downsample_layers.1.0", "downsample_layers.2.0")
_BLOCK = {  # ours behind the block's name -> theirs
    "conv": "ddwconv.conv",
    "bn": "bn1",
    "norm1": "norm_xca",
    "norm2": "norm",
    "position": "pos_embd.token_projection",
    "attention/qkv": "xca.qkv",
    "attention/projection": "xca.proj",
    "perceptron/expand": "pwconv1",
    "perceptron/contract": "pwconv2",
}
_ALONE = {"perceptron/scale": "gamma", "attention_scale": "gamma_xca", "attention/temperature": "xca.temperature"}


def name_of(weights: Mapping[str, np.ndarray]) -> str | None:
    """Which Lite-Mono an encoder file holds; None where it is of another size than the published ones."""
    blocks = {match[1] for name in weights if (match := re.match(r"stages\.2\.(\d+)\.", name))}
    return NAMES.get((len(weights[MARK]), len(blocks)))


def load_lite_mono(
    variables: Variables, weights: Mapping[str, np.ndarray], architecture: str
) -> tuple[dict[str, Any], Report]:
    """Fills a depth network whose encoder and decoder are Lite-Mono's, see `models.lite_mono`.

    Args:
      variables: "params" and "batch_stats"; shapes are enough.
      weights: tensors of `encoder.pth` and `depth.pth` by name.
      architecture: the network's name, for errors and the report.

    Raises:
      UserError: unless every array finds a tensor of its shape and every other tensor is known to be of no use.
    """
    deepest = max(int(match[1]) for name in weights if (match := re.match(r"stages\.2\.(\d+)\.", name)))
    options: dict[str, Any] = dict(architecture=architecture, naming="Lite-Mono's", unused=_UNUSED)
    return fill(variables, weights, lambda path: _name(path, deepest), convert=_convert, **options)


def _name(path: str, deepest: int) -> str:
    """Their name of one of our arrays, such as "params/encoder/stage2_0/perceptron/expand/kernel"."""
    _, part, *modules, leaf = path.split("/")
    first, inner = modules[0], "/".join(modules[1:])
    kind, level = re.split(r"(?=\d)", first, maxsplit=1)
    if part == "decoder":
        if kind == "disparity":
            return f"decoder.{6 + int(level)}.conv.{LEAVES[leaf]}"
        return f"decoder.{2 * (2 - int(level)) + (kind == 'merge')}.conv.conv.{LEAVES[leaf]}"
    if kind == "stem":
        return f"downsample_layers.0.{level}.conv.{LEAVES[leaf]}"
    if kind == "stem_bn":
        return f"downsample_layers.0.{level}.bn_gelu.bn.{LEAVES[leaf]}"
    if kind == "shrink":
        return f"{_SHRINK[int(level)]}.conv.{LEAVES[leaf]}"
    stage, number = level.split("_")
    block = f"stages.{stage}.{(deepest if stage == '2' else 3) if number == 'global' else number}"
    alone = "/".join((*modules[1:], leaf))
    return f"{block}.{_ALONE[alone]}" if alone in _ALONE else f"{block}.{_BLOCK[inner]}.{LEAVES[leaf]}"


def _convert(path: str, value: np.ndarray) -> np.ndarray:
    if path.endswith("temperature"):
        return np.asarray(value, np.float32).ravel()
    if "/position/" in path and value.ndim == 4:  # a convolution over single pixels
        value = value[:, :, 0, 0]
    return to_flax(value)

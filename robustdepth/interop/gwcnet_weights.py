"""Fills GwcNet-G with the weights that its authors publish (github.com/xy-guo/GwcNet)."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from robustdepth.errors import UserError
from robustdepth.interop.fill import LEAVES, Report, Variables, fill, to_flax

_KINDS = {"conv": "0", "norm": "1"}  # places in a pair of convolution and batch normalisation
_AGGREGATION = {"pre0": "dres0.0", "pre1": "dres0.2", "pre2": "dres1.0", "pre3": "dres1.2"}
_CONCATENATED = "feature_extraction.lastconv."  # GwcNet-GC alone has such tensors
_FIRST = "feature_extraction.firstconv.0.0.weight"


def load_gwcnet(
    variables: Variables, weights: Mapping[str, np.ndarray], architecture: str
) -> tuple[dict[str, Any], Report]:
    """Fills a `models.stereo_net.StereoNet` of the form "gwcnet_g".

    Args:
      variables: its "params" and "batch_stats".
      weights: tensors by name, see `read_weights`; names may begin with "module.", as `DataParallel` writes them.
      architecture: the network's name in the configuration, for errors and the report.

    Raises:
      UserError: where the weights are of another network, unless every parameter finds a tensor of its shape, and
        unless every other tensor is known to be of no use here.
    """
    weights = {name.removeprefix("module."): value for name, value in weights.items()}
    if _FIRST not in weights:
        raise UserError(
            f"these weights are not of a GwcNet ({architecture!r}) with its authors' names; the file's first tensors "
            f"are {', '.join(list(weights)[:3])}."
        )
    if any(name.startswith(_CONCATENATED) for name in weights):
        raise UserError(
            f"these weights are of GwcNet-GC, which also concatenates features; {architecture!r} is GwcNet-G: choose a "
            "gwcnet-g checkpoint."
        )
    return fill(
        variables,
        weights,
        _name,
        architecture=architecture,
        naming="GwcNet",
        unused=r".*\.num_batches_tracked",
        convert=_convert,
    )


def _convert(path: str, value: np.ndarray) -> np.ndarray:
    """As `to_flax`, and 3D kernels OIDHW to DHWIO; transposed ones, IODHW, to DHWOI, as `models.conv3d` keeps them."""
    return np.asarray(value, np.float32).transpose(2, 3, 4, 1, 0) if value.ndim == 5 else to_flax(value)


def _name(path: str) -> str:
    """Their name of our array, such as "params/aggregation/hourglass0/conv1_norm/scale"."""
    _, part, *modules, leaf = path.split("/")
    prefix = _feature_module(modules[0]) if part == "features" else _aggregation_module(*modules)
    return f"{prefix}.{LEAVES[leaf]}"


def _feature_module(module: str) -> str:
    if match := re.fullmatch(r"stem(\d)_(conv|norm)", module):
        return f"feature_extraction.firstconv.{2 * int(match[1])}.{_KINDS[match[2]]}"
    if match := re.fullmatch(r"layer(\d)_(\d+)_(conv1|conv2|shortcut)_(conv|norm)", module):
        stage, block, place, kind = match.groups()
        place = {"conv1": "conv1.0", "conv2": "conv2", "shortcut": "downsample"}[place]
        return f"feature_extraction.layer{stage}.{block}.{place}.{_KINDS[kind]}"
    raise AssertionError(f"{module} is no module of GwcFeatures")


def _aggregation_module(module: str, inner: str = "") -> str:
    place, _, kind = module.partition("_")
    if place in _AGGREGATION:
        return f"{_AGGREGATION[place]}.{_KINDS[kind]}"
    number = int(place[-1])
    if inner:
        place, _, kind = inner.partition("_")
        followed = place in ("conv1", "conv2", "conv3", "conv4")  # by a rectifier, in a sequence of their own
        return f"dres{number + 2}.{place}{'.0' if followed else ''}.{_KINDS[kind]}"
    return f"classif{number}.2" if kind == "cost" else f"classif{number}.0.{_KINDS[kind]}"

"""Fills ESPNetv2 with the weights that its authors publish (EdgeNets, MIT)."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from robustdepth.errors import UserError
from robustdepth.interop.fill import Report, Variables, fill

_STEM = "base_net.level1.conv.weight"  # files with these names are known by it
_PREFIX = "module."  # of models saved from DataParallel
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "slope": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_SEQUENCE = {"conv": "0", "bn": "1", "act": "2"}  # within the decoder's convolutions
_RULES = (  # (our module path, theirs), applied in turn
    (r"^encoder/", "base_net/"),
    (r"(level\d)_down", r"\1_0"),
    (r"(level\d)_block", r"\1/"),
    (r"(base_net/.*)reduce", r"\1proj_1x1"),
    (r"(base_net/.*)branch(\d)", r"\1spp_dw/\2/conv"),
    (r"(base_net/.*)fuse", r"\1br_after_cat"),
    (r"(base_net/.*)expand", r"\1conv_1x1_exp"),
    (r"(base_net/.*)image", r"\1inp_reinf/"),
    (r"(level\d/\d)/act", r"\1/module_act"),
    (r"decoder/pool(\d)", r"bu_dec_l\1"),
    (r"decoder/skip(\d)/project", r"merge_enc_dec_l\1/expansion_layer/cbr"),
    (r"decoder/skip(\d)/gate", r"merge_enc_dec_l\1/wt_layer/1"),
    (r"decoder/fuse(\d)/bn", r"bu_br_l\1/0"),
    (r"decoder/fuse(\d)/act", r"bu_br_l\1/1"),
    (r"(bu_dec_l\d)/project", r"\1/projection_layer/cbr"),
    (r"(bu_dec_l\d)/stage", r"\1/stages/"),
    (r"(bu_dec_l\d)/fuse/bn", r"\1/merge_layer/0/br/0"),
    (r"(bu_dec_l\d)/fuse/act", r"\1/merge_layer/0/br/1"),
    (r"(bu_dec_l\d)/merge/", r"\1/merge_layer/2/cbr/"),
    (r"(bu_dec_l\d)/head", r"\1/merge_layer/3"),
    (r"(bu_dec_l\d)/out/bn", r"\1/br/br/0"),
    (r"(bu_dec_l\d)/out/act", r"\1/br/br/1"),
    (r"/cbr/(conv|bn|act)", lambda match: f"/cbr/{_SEQUENCE[match[1]]}"),
)
# The activation of a downsampling block is never reached: its output goes on to be joined with the pooled input.
_UNUSED = r".*\.num_batches_tracked|base_net\.level\d_0\.eesp\.module_act\.weight"
_DECODER = r"(bu_dec|bu_br|merge_enc_dec)_l\d\..*"


def load_espnetv2(
    variables: Variables, weights: Mapping[str, np.ndarray], architecture: str
) -> tuple[dict[str, Any], Report]:
    """Fills a `models.espnet.ESPNetv2` with published weights.

    Args:
      variables: "params" and "batch_stats" of the encoder alone or of the whole network, see `ESPNetv2`; without a
        decoder the file's is ignored.
      weights: tensors by name, see `read_weights`; EdgeNets' names.
      architecture: the network's name in the configuration, for messages.

    Raises:
      UserError: unless every parameter finds a tensor of its shape and every other tensor is known to be of no use.
    """
    weights = {name.removeprefix(_PREFIX): value for name, value in weights.items()}
    if _STEM not in weights:
        raise UserError(
            f"these weights are not of {architecture!r} with the names of EdgeNets' segmentation networks; "
            f"the file's first tensors are {', '.join(list(weights)[:3]) or 'none'}."
        )
    whole = "decoder" in variables["params"]
    return fill(
        variables,
        weights,
        _name_of,
        architecture=architecture,
        naming="EdgeNets",
        unused=_UNUSED if whole else f"{_UNUSED}|{_DECODER}",
    )


def _name_of(path: str) -> str:
    """EdgeNets' name of one of our arrays, "params/encoder/level1/conv/kernel"."""
    _, _, module = path.partition("/")
    module, _, leaf = module.rpartition("/")
    for pattern, replacement in _RULES:
        module = re.sub(pattern, replacement, module)
    return f"{module}.{_LEAVES[leaf]}".replace("/", ".")

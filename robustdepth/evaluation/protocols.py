"""Frozen, named evaluation protocols. Numbers are comparable only under one protocol and one alignment."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from robustdepth.data.benchmarks.protocol import EIGEN_CROP as EIGEN_CROP
from robustdepth.data.benchmarks.protocol import PROTOCOLS as PROTOCOLS
from robustdepth.data.benchmarks.protocol import WHOLE_IMAGE as WHOLE_IMAGE
from robustdepth.data.benchmarks.protocol import Protocol
from robustdepth.errors import UserError
from robustdepth.evaluation.alignment import check_alignment, default_alignment
from robustdepth.types import AFFINE

WORLD_SEED = 0  # of the evaluation worlds, which are another split than the training worlds, whatever the seed


def resolve_alignment(protocol: Protocol, scale_kind: str, override: str = "") -> tuple[str, str]:
    """The alignment to use, and the name under which the numbers are reported.

    `override` replaces the protocol's own rule; where that changes it, the reported name says so. So does the rule of
    models whose inverse depth has an unknown shift, which no other can judge.
    """
    by_scale, own = default_alignment(scale_kind), protocol.alignment
    if own == "by scale":
        own = by_scale
    elif scale_kind == AFFINE:
        override = override or by_scale
    if not override or check_alignment(override) == own:
        return own, protocol.name
    return override, f"{protocol.name}[alignment={override}]"


def valid_pixels(protocol: Protocol, truth: Float[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The pixels that count: ground truth within the protocol's range, inside its crop."""
    height, width = truth.shape
    top, bottom, left, right = protocol.crop
    crop = slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))
    mask = np.zeros(truth.shape, bool)
    mask[crop] = (truth[crop] > protocol.valid[0]) & (truth[crop] < protocol.valid[1])
    return mask


def check_size(protocol: Protocol, size: tuple[int, ...], wanted: tuple[int, ...], name: str) -> None:
    """Raises UserError where a prediction's size cannot belong to the `wanted` one of image and ground truth.

    That is any difference if the protocol resizes nothing; otherwise an aspect ratio off by more than two (networks
    squash images, but not that much).
    """
    stretch = (size[0] * wanted[1]) / (size[1] * wanted[0])
    if size != wanted and (protocol.resize == "none" or not 0.5 <= stretch <= 2):
        raise UserError(
            f"the prediction for {name} has size {size}, its ground truth {wanted} (height, width): {protocol.name} "
            f"needs predictions of {'that size' if protocol.resize == 'none' else 'the same view'}."
        )

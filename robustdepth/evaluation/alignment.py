"""Bringing a prediction of unknown scale to metres before it is compared with ground truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from robustdepth.errors import UserError, nearest
from robustdepth.types import AFFINE, METRIC

ALIGNMENTS = ("none", "median", "least_squares")


class Alignment(NamedTuple):
    """An affine map of inverse depth: aligned = scale * inverse + shift, in 1/metres."""

    scale: float
    shift: float


def default_alignment(scale_kind: str) -> str:
    """Models whose scale is only relative are scaled by the median; metric models are taken at their word.

    "affine" ones, whose inverse depth has an unknown shift as well, are aligned by least squares.
    """
    return {METRIC: "none", AFFINE: "least_squares"}.get(scale_kind, "median")


def check_alignment(rule: str) -> str:
    """Returns `rule` if it is known. Raises UserError with the nearest names otherwise."""
    if rule not in ALIGNMENTS:
        raise UserError(f"unknown alignment {rule!r}: {nearest(rule, ALIGNMENTS)}")
    return rule


def fit_alignment(rule: str, inverse: Float[np.ndarray, "pixels"], truth: Float[np.ndarray, "pixels"]) -> Alignment:
    """The alignment of one image, from its valid pixels.

    Args:
        rule: "none"; "median": depth is multiplied by median(truth) / median(prediction); "least_squares": scale and
            shift that minimise the squared error of *inverse* depth (Ranftl et al., TPAMI 2020).
        inverse: predicted inverse depth, positive.
        truth: true depth in metres.
    """
    match check_alignment(rule):
        case "none":
            return Alignment(1.0, 0.0)
        case "median":  # the median of depth, not of its inverse: they differ for even counts
            return Alignment(float(np.median(1 / inverse) / np.median(truth)), 0.0)
        case _:
            target = 1 / truth
            spread = inverse - inverse.mean()
            variance = float(np.mean(spread**2))
            # A constant prediction determines only the shift.
            scale = float(np.mean(spread * target)) / variance if variance > 1e-12 * np.mean(inverse) ** 2 else 0.0
            return Alignment(scale, float(target.mean() - scale * inverse.mean()))


def apply_alignment(
    alignment: Alignment, inverse: Float[np.ndarray, "*pixels"], clip: tuple[float, float]
) -> Float[np.ndarray, "*pixels"]:
    """Aligned depth in metres, clipped to `clip`; inverse depth that the shift made negative becomes the far limit."""
    near, far = clip
    return 1 / np.clip(alignment.scale * inverse + alignment.shift, 1 / far, 1 / near)

"""Depth as colours: near is bright, far is dark, linear in inverse depth."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float, UInt8


@dataclasses.dataclass(frozen=True)
class ColorRange:
    """Inverse depths shown darkest and brightest. One range for a whole run: the same depth is the same colour."""

    far: float
    near: float

    @classmethod
    def of(cls, inverse_depths: Float[np.ndarray, "..."]) -> ColorRange:
        """The range that holds all but the nearest and the farthest 2% of these values."""
        far, near = np.percentile(inverse_depths, (2, 98))
        return cls(float(far), float(max(near, far * 1.001)))  # a constant map has no range; show it dark


def colorize(
    inverse_depth: Float[np.ndarray, "height width"], shown: ColorRange
) -> UInt8[np.ndarray, "height width 3"]:
    """RGB picture of a map of inverse depth; values outside the range take its end colours."""
    level = (inverse_depth - shown.far) / (shown.near - shown.far)
    grey = np.round(255 * np.clip(level, 0, 1)).astype(np.uint8)
    return cv2.applyColorMap(grey, cv2.COLORMAP_MAGMA)[..., ::-1]

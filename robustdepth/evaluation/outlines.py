"""How sharp the outlines of a depth map are: boundary F1 of Depth Pro (Bochkovskii et al., arXiv 2410.02073).

At threshold t an occluding contour runs between neighbouring pixels i and j where d(j) / d(i) > 1 + t: j lies behind i.
Contours of the prediction that are contours of the truth, with the same side in front, are hits. Precision is their
share of the predicted contours, recall their share of the true ones, F1 the harmonic mean. Ratios are blind to the
scale of depth; an outline that is one pixel off or blurred counts as missed.
[paper]: F1 is averaged over thresholds from 5% to 25%, the higher ones with more weight. [ours]: ten thresholds, each
weighted by itself, and an F1 of 1 at thresholds where neither map has a contour.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

THRESHOLDS = np.linspace(0.05, 0.25, 10)


def boundary_f1(prediction: Float[np.ndarray, "height width"], truth: Float[np.ndarray, "height width"]) -> float:
    """Boundary F1, in [0, 1], of a positive depth map of any scale against a true one that is dense.

    Pairs with a pixel of unknown true depth (0) count nowhere.
    """
    wanted = _log_ratios(np.where(truth > 0, truth, np.nan))
    known = np.isfinite(wanted)
    found, wanted = _log_ratios(prediction)[known], wanted[known]
    scores = [_f1(found > level, wanted > level) for level in np.log1p(THRESHOLDS)]
    return float(np.average(scores, weights=THRESHOLDS))


def _log_ratios(depth: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "pairs"]:
    """log d(j) - log d(i) for every pixel i and each of its neighbours j to the right, left, below and above."""
    log = np.log(depth.astype(np.float64))
    steps = np.concatenate([np.diff(log, axis=1).ravel(), np.diff(log, axis=0).ravel()])
    return np.concatenate([steps, -steps])


def _f1(found: Bool[np.ndarray, "pairs"], wanted: Bool[np.ndarray, "pairs"]) -> float:
    either = np.sum(found) + np.sum(wanted)
    return float(2 * np.sum(found & wanted) / either) if either else 1.0

"""Refuses stereo pairs that cannot be matched row by row: pairs that are not rectified, or whose views are swapped."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from robustdepth.errors import UserError

FEATURES = 1500  # at most, in each view
RATIO = 0.75  # a match must be that much closer than the second best (Lowe, IJCV 2004)
ENOUGH = 20  # matches; fewer say nothing
ROWS = 1.5  # pixels: median distance of matched rows from which on a pair is not rectified
SWAPPED = -0.5  # pixels: median disparity below which ...
SWAPPED_SHARE = 0.75  # ... and share of negative ones from which on the views are swapped


def check_pair(
    left: UInt8[np.ndarray, "height width 3"], right: UInt8[np.ndarray, "height width 3"], name: str
) -> None:
    """Checks a pair by its matched features; a pair with too few of them passes.

    Args:
      name: of the pair, for the error's sentence.

    Raises:
      UserError: matches lie in different rows, or what stands at x in the left view is right of it in the right one.
    """
    shift = matched_shifts(left, right)
    if len(shift) < ENOUGH:
        return
    rows = float(np.median(np.abs(shift[:, 1])))
    if rows > ROWS:
        raise UserError(
            f"the pair {name} is not rectified: the rows of {len(shift)} matched points differ by {rows:.1f} pixels "
            "(median); rectify the images with the calibration of the rig."
        )
    disparity = float(np.median(shift[:, 0]))
    if disparity < SWAPPED and np.mean(shift[:, 0] < 0) > SWAPPED_SHARE:
        raise UserError(
            f"the pair {name} is swapped: {len(shift)} matched points have a disparity of {disparity:.1f} pixels "
            "(median), which must be positive; exchange the left and the right images."
        )


def matched_shifts(
    left: UInt8[np.ndarray, "height width 3"], right: UInt8[np.ndarray, "height width 3"]
) -> Float[np.ndarray, "match 2"]:
    """Left minus right position (x, y) of matched SIFT features (Lowe, IJCV 2004), pixels."""
    sift = cv2.SIFT.create(FEATURES)
    grey = [cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY) for image in (left, right)]
    (left_points, left_words), (right_points, right_words) = (sift.detectAndCompute(image, None) for image in grey)
    if left_words is None or right_words is None:
        return np.zeros((0, 2), np.float32)
    pairs = [pair for pair in cv2.BFMatcher().knnMatch(left_words, right_words, k=2) if len(pair) == 2]
    matches = [best for best, second in pairs if best.distance < RATIO * second.distance]
    shifts = [np.subtract(left_points[m.queryIdx].pt, right_points[m.trainIdx].pt) for m in matches]
    return np.array(shifts, np.float32).reshape(-1, 2)

"""A depth network as the teacher of a pair's disparities: semi-global matching gives it the rig's unit (METHOD.md 5.1).

**[ours]** A network such as Depth Anything V2 draws outlines and answers everywhere, but its inverse depth q is right
up to a factor, some networks' up to a shift as well. Matching is exact where it is sure, and has holes. So in an image

    disparity = max(a q + b, 0),  a and b fitted to the disparities d that pass the left/right check,

by least squares whose loss turns from square to linear at one pixel; b = 0 where the network has no unknown shift.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8
from scipy.optimize import least_squares

from robustdepth.data.stereo.proxies import LARGEST, check_range
from robustdepth.data.stereo.sgm import Answer, sgm_pair
from robustdepth.errors import UserError
from robustdepth.geometry.stereo import CHECK_PIXELS, fails_check
from robustdepth.imaging.resize import resize_map
from robustdepth.runtime.inference import DepthModel
from robustdepth.types import AFFINE

LEAST_SHARE = 0.01  # of an image's pixels that matching must be sure of; else the image has no answer


@dataclasses.dataclass(frozen=True)
class DepthTeacher:
    """A depth network and the range of disparities in which semi-global matching looks for the unit."""

    model: DepthModel
    max_disparity: int  # pixels

    def match(
        self, left: UInt8[np.ndarray, "height width 3"], right: UInt8[np.ndarray, "height width 3"]
    ) -> tuple[Answer, Answer]:
        """Disparities of both views of a rectified pair, and where they fail the left/right check.

        A view's answer is 0 everywhere, which is unknown, where matching is sure of too little, or contradicts the
        network (a <= 0); a pixel's is where the fit goes beyond what a proxy can hold.

        Raises:
          UserError: the network's answer is not finite, or what matching is sure of is beyond what a proxy can hold.
        """
        views = zip((left, right), sgm_pair(left, right, self.max_disparity), strict=True)
        found = [self._disparity(image, *answer) for image, answer in views]
        of_left, of_right = (disparity[None] for disparity in found)
        failed = np.asarray(fails_check(of_left, of_right))[0]
        failed_right = np.asarray(fails_check(of_right[..., ::-1], of_left[..., ::-1]))[0, :, ::-1]
        return (found[0], failed & (found[0] > 0)), (found[1], failed_right & (found[1] > 0))

    def _disparity(self, image: np.ndarray, matched: np.ndarray, failed: np.ndarray) -> Float[np.ndarray, "_ _"]:
        seen = self.model.inverse_depth(self.model.prepare(image)[None])
        inverse = np.asarray(resize_map(seen, image.shape[:2])[0], np.float64)
        if not np.isfinite(inverse).all():
            raise UserError(f"the network in {self.model.path} answers NaN or infinity: take another one.")
        sure = (matched > 0) & ~failed
        if sure.mean() < LEAST_SHARE:
            return np.zeros(image.shape[:2], np.float32)
        check_range(matched[sure])
        factor, shift = fit(inverse[sure], matched[sure].astype(np.float64), self.model.scale == AFFINE)
        disparity = np.maximum((factor * inverse + shift) * (factor > 0), 0)
        return np.where(disparity <= LARGEST, disparity, 0).astype(np.float32)


def fit(
    inverse: Float[np.ndarray, "pixels"], disparity: Float[np.ndarray, "pixels"], shifted: bool
) -> tuple[float, float]:
    """(a, b) of disparity = a * inverse + b, by least squares that outliers hardly move.

    Args:
      inverse: of the network, positive.
      disparity: pixels.
      shifted: whether there is a b; else it is 0.
    """
    columns = np.stack([inverse, np.ones_like(inverse)] if shifted else [inverse], axis=1)
    start, *_ = np.linalg.lstsq(columns, disparity)

    def residual(solution: np.ndarray) -> np.ndarray:
        return columns @ solution - disparity

    found = least_squares(residual, start, lambda _: columns, x_scale="jac", loss="soft_l1", f_scale=CHECK_PIXELS).x
    return float(found[0]), float(found[1]) if shifted else 0.0

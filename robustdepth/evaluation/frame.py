"""One frame under one protocol: which pixels count, and how a prediction is aligned and scored on them."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float

from robustdepth.errors import UserError
from robustdepth.evaluation.alignment import apply_alignment, fit_alignment
from robustdepth.evaluation.metrics import depth_metrics
from robustdepth.evaluation.outlines import boundary_f1
from robustdepth.evaluation.protocols import Protocol, check_size, valid_pixels
from robustdepth.evaluation.result import Metrics
from robustdepth.types import EvalSample


class ScoredFrame:
    """Ground truth of one sample, to score several predictions on it.

    Raises UserError where the sample has no valid ground truth, or (unless the protocol allows it) one of another size
    than its image.
    """

    def __init__(self, protocol: Protocol, alignment: str, sample: EvalSample):
        if sample.depth.shape != sample.image.shape[:2] and not protocol.own_size:
            raise UserError(
                f"ground truth of {sample.name} has size {sample.depth.shape}, its image {sample.image.shape[:2]} "
                "(height, width): they must agree."
            )
        self.protocol, self.alignment, self.sample = protocol, alignment, sample
        self.mask = valid_pixels(protocol, sample.depth)
        if not self.mask.any():
            raise UserError(f"{sample.name} has no valid ground truth under {protocol.name}: remove it from the split.")
        self.truth = sample.depth[self.mask].astype(np.float64)

    def resize(self, inverse: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "full_height full_width"]:
        """Inverse depth at the ground truth's size, by the protocol's rule."""
        height, width = self.mask.shape
        if inverse.shape == (height, width):
            return inverse
        match self.protocol.resize:
            case "depth_corners":
                return 1 / resize_corners(1 / inverse, (height, width))
            case "depth_nearest":
                return cv2.resize(inverse, (width, height), interpolation=cv2.INTER_NEAREST)
            case _:
                return cv2.resize(inverse, (width, height))

    def check(self, inverse: Float[np.ndarray, "height width"]) -> None:
        """Raises UserError where `inverse` has an impossible size or is not positive and finite everywhere."""
        check_size(self.protocol, inverse.shape, self.sample.image.shape[:2], self.sample.name)
        if not (np.isfinite(inverse).all() and inverse.min() > 0):
            raise UserError(f"the prediction for {self.sample.name} is not positive and finite everywhere.")

    def score(self, inverse: Float[np.ndarray, "height width"]) -> Metrics:
        """Metrics of an inverse depth map over the valid pixels, in float64; of outlines where the truth is dense."""
        full = self.resize(inverse)
        values = full[self.mask].astype(np.float64)
        depth = self._align(values, values)
        everywhere = np.ones((1, self.truth.size), bool)
        scores = {key: value.item() for key, value in depth_metrics(depth[None], self.truth[None], everywhere).items()}
        return scores | {"boundary_f1": boundary_f1(1 / full, self.sample.depth)} if self.protocol.outlines else scores

    def depth(self, inverse: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "full_height full_width"]:
        """The aligned, clipped depth map in metres that `score` judges, at every pixel."""
        full = self.resize(inverse)
        return self._align(full, full[self.mask].astype(np.float64))

    def _align(
        self, inverse: Float[np.ndarray, "*pixels"], valid: Float[np.ndarray, "valid"]
    ) -> Float[np.ndarray, "*pixels"]:
        return apply_alignment(fit_alignment(self.alignment, valid, self.truth), inverse, self.protocol.clip)


def resize_corners(
    values: Float[np.ndarray, "height width"], size: tuple[int, int]
) -> Float[np.ndarray, "new_height new_width"]:
    """Bilinear resize to `size` (height, width) that keeps the centres of the four corner pixels where they are."""
    for axis, new in enumerate(size):
        last = values.shape[axis] - 1
        position = np.linspace(0, last, new, dtype=values.dtype)
        low = position.astype(int)
        part = np.expand_dims(position - low, 1 - axis)
        above = values.take(np.minimum(low + 1, last), axis)
        values = (1 - part) * values.take(low, axis) + part * above
    return values

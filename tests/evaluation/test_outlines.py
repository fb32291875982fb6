"""Boundary F1 against a pixel-by-pixel version and cases that can be counted by hand."""

import numpy as np
import pytest

from robustdepth.evaluation.frame import ScoredFrame
from robustdepth.evaluation.outlines import boundary_f1
from robustdepth.evaluation.protocols import PROTOCOLS
from robustdepth.types import EvalSample


def slow_f1(prediction, truth):
    """Precision and recall by name, pair by pair, in the words of the paper."""
    height, width = truth.shape
    pairs = [
        ((y, x), (y + dy, x + dx))
        for y in range(height)
        for x in range(width)
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))
        if 0 <= y + dy < height and 0 <= x + dx < width
    ]
    total, weights = 0.0, 0.0
    for step in range(10):
        threshold = 0.05 + step * (0.25 - 0.05) / 9
        wanted = {pair for pair in pairs if truth[pair[1]] / truth[pair[0]] > 1 + threshold}
        found = {pair for pair in pairs if prediction[pair[1]] / prediction[pair[0]] > 1 + threshold}
        if wanted and found and wanted & found:
            precision, recall = len(wanted & found) / len(found), len(wanted & found) / len(wanted)
            total += threshold * 2 * precision * recall / (precision + recall)
        elif not wanted and not found:
            total += threshold
        weights += threshold
    return total / weights


def test_it_equals_the_slow_version():
    draw = np.random.default_rng(0)
    for roughness in (0.02, 0.1, 0.3):
        truth = np.exp(roughness * draw.normal(size=(9, 12))) * 10
        prediction = truth * np.exp(0.5 * roughness * draw.normal(size=truth.shape))
        assert boundary_f1(prediction, truth) == pytest.approx(slow_f1(prediction, truth), abs=1e-12)


def step_at(column, near=10.0, far=20.0):
    depth = np.full((6, 8), near)
    depth[:, column:] = far
    return depth


def test_outlines_count_whatever_the_scale_but_only_in_their_place_and_direction():
    truth = step_at(4)
    assert boundary_f1(truth, truth) == 1
    assert boundary_f1(7.3 * truth, truth) == 1
    assert boundary_f1(step_at(5), truth) == 0  # one pixel aside
    assert boundary_f1(step_at(4, near=20.0, far=10.0), truth) == 0  # the wrong side in front
    assert boundary_f1(np.full_like(truth, 10.0), truth) == 0
    assert boundary_f1(truth, np.full_like(truth, 10.0)) == 0
    assert boundary_f1(np.full_like(truth, 3.0), np.full_like(truth, 10.0)) == 1


def test_a_blurred_outline_is_penalised():
    # Of a step by a factor of 2 the prediction makes four steps by 2**(1/4) = 1.19, one of them in place: at the seven
    # thresholds below 0.19 precision is 1/4 and recall 1, so F1 is 0.4; at the three above, 0.
    blurred = np.full((6, 8), 10.0)
    blurred[:, 3:] *= 2 ** np.clip(np.arange(1, 6) / 4, 0, 1)
    thresholds = np.linspace(0.05, 0.25, 10)
    expected = 0.4 * thresholds[thresholds < 0.189].sum() / thresholds.sum()
    assert (thresholds < 0.189).sum() == 7
    assert boundary_f1(blurred, step_at(4)) == pytest.approx(expected, abs=1e-12)


def test_nothing_is_asked_where_the_truth_is_unknown():
    truth, holed = step_at(4), step_at(4)
    holed[:, 3] = 0  # takes the outline away
    assert boundary_f1(np.full_like(truth, 10.0), holed) == 1
    assert boundary_f1(truth, holed) == 1
    assert boundary_f1(step_at(6), holed) == 0


def test_only_protocols_with_dense_truth_report_it():
    image, truth = np.zeros((6, 8, 3), np.uint8), step_at(4)
    scores = {
        name: ScoredFrame(PROTOCOLS[name], "median", EvalSample(image, truth, None, "street")).score(1 / truth)
        for name in ("world", "kitti_sparse_frames")
    }
    assert scores["world"]["boundary_f1"] == 1
    assert "boundary_f1" not in scores["kitti_sparse_frames"]

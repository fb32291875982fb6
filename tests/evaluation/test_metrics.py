"""Metrics against a pixel-by-pixel float64 version; alignment against known scale and shift."""

import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.evaluation.alignment import apply_alignment, default_alignment, fit_alignment
from robustdepth.evaluation.metrics import DEPTH_METRICS, depth_metrics
from tests.evaluation_fakes import reference_metrics_of

CLIP = (1e-3, 80.0)


@pytest.fixture
def images():
    draw = np.random.default_rng(3)
    truth = draw.uniform(2, 70, (4, 9, 11))
    return truth * np.exp(0.3 * draw.normal(size=truth.shape)), truth, draw.random(truth.shape) < 0.4


@pytest.mark.parametrize(("convert", "tolerance"), [(np.asarray, 1e-12), (lambda x: jnp.asarray(x, jnp.float32), 3e-5)])
def test_metrics_equal_the_slow_reference(images, convert, tolerance):
    prediction, truth, mask = images
    with np.errstate(all="raise"):
        found = depth_metrics(
            convert(prediction), convert(truth), jnp.asarray(mask) if convert is not np.asarray else mask
        )
    assert tuple(found) == DEPTH_METRICS
    for i in range(len(truth)):
        wanted = reference_metrics_of(tuple(prediction[i][mask[i]].tolist()), tuple(truth[i][mask[i]].tolist()))
        for key, value in wanted.items():
            assert float(found[key][i]) == pytest.approx(value, rel=tolerance), key


def test_masked_pixels_may_hold_anything(images):
    prediction, truth, mask = images
    clean = depth_metrics(prediction, truth, mask)
    dirty_truth, dirty = np.where(mask, truth, 0.0), np.where(mask, prediction, np.nan)
    for key, value in depth_metrics(dirty, dirty_truth, mask).items():
        np.testing.assert_array_equal(value, clean[key])


def test_a_perfect_prediction_and_one_twice_too_far(images):
    _, truth, mask = images
    perfect, double = depth_metrics(truth, truth, mask), depth_metrics(2 * truth, truth, mask)
    for key in DEPTH_METRICS:
        np.testing.assert_allclose(perfect[key], 1.0 if key.startswith("delta") else 0.0, atol=1e-12)
    np.testing.assert_allclose(double["abs_rel"], 1.0)
    np.testing.assert_allclose(double["rmse_log"], np.log(2))
    np.testing.assert_allclose(double["si_log"], 0.0, atol=1e-7)  # blind to scale
    np.testing.assert_allclose(double["delta3"], 0.0)  # 2 > 1.25^3


def test_median_alignment_recovers_the_scale():
    truth = np.random.default_rng(0).uniform(2, 70, 40)  # an even count, where the median of 1/x is not 1/median
    alignment = fit_alignment("median", 1 / (truth / 7.5), truth)
    np.testing.assert_allclose(apply_alignment(alignment, 7.5 / truth, CLIP), truth, rtol=1e-12)


def test_least_squares_recovers_scale_and_shift_of_inverse_depth():
    truth = np.random.default_rng(0).uniform(2, 70, 41)
    foreign = (1 / truth - 0.01) / 0.3  # some other affine unit
    scale, shift = fit_alignment("least_squares", foreign, truth)
    assert (scale, shift) == pytest.approx((0.3, 0.01))


def test_least_squares_of_a_constant_is_the_mean_inverse_depth():
    truth = np.array([2.0, 4.0, 8.0])
    alignment = fit_alignment("least_squares", np.full(3, 0.7), truth)
    np.testing.assert_allclose(1 / apply_alignment(alignment, np.full(3, 0.7), (1e-3, 1e3)), np.mean(1 / truth))


def test_no_alignment_only_clips():
    inverse = np.array([1e9, 0.5, 1e-9])
    np.testing.assert_allclose(apply_alignment(fit_alignment("none", inverse, inverse), inverse, CLIP), [1e-3, 2, 80])


def test_negative_inverse_depth_after_a_shift_is_far():
    from robustdepth.evaluation.alignment import Alignment

    np.testing.assert_allclose(apply_alignment(Alignment(1.0, -0.2), np.array([0.1]), CLIP), [80.0])


def test_default_and_unknown_alignment():
    assert [default_alignment(kind) for kind in ("relative", "metric")] == ["median", "none"]
    with pytest.raises(UserError, match="unknown alignment 'medain': did you mean median"):
        fit_alignment("medain", np.ones(1), np.ones(1))

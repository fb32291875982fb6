"""What an evaluation's picture shows, and on which scales."""

import numpy as np

from robustdepth.evaluation.pictures import WORST_ERROR, draw_panel


def test_depth_and_truth_share_a_scale_and_unknown_pixels_stay_empty():
    truth = np.tile(np.linspace(4.0, 40.0, 32, dtype=np.float32), (16, 1))
    mask = np.ones((16, 32), bool)
    mask[:4] = False
    figure = draw_panel(np.full((16, 32, 3), 99, np.uint8), 1.25 * truth, truth, mask)
    _, depth, known, error = (axes.images[-1] for axes in figure.axes[:4])
    assert depth.get_clim() == known.get_clim()
    assert 4.0 <= depth.get_clim()[0] < depth.get_clim()[1] <= 40.0
    assert error.get_clim() == (0.0, WORST_ERROR)
    for layer, values in ((known, truth), (error, np.full_like(truth, 0.25))):
        shown = np.ma.masked_invalid(layer.get_array())
        np.testing.assert_array_equal(shown.mask, ~mask)
        np.testing.assert_allclose(shown[4:], values[4:], rtol=1e-6)


def test_sparse_truth_becomes_dots_and_the_worst_error_wins():
    truth, depth = np.full((16, 32), 10.0, np.float32), np.full((16, 32), 11.0, np.float32)
    depth[5, 6] = 14.0
    mask = np.zeros((16, 32), bool)
    mask[5, 5] = mask[5, 6] = True
    figure = draw_panel(np.zeros((16, 32, 3), np.uint8), depth, truth, mask)
    error = np.ma.filled(figure.axes[3].images[-1].get_array(), np.nan)
    assert np.isfinite(error).sum() == 3 * 4
    np.testing.assert_allclose(error[4:7, 4:8], [[0.1, 0.4, 0.4, 0.4]] * 3, rtol=1e-5)

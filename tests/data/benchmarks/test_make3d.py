"""Make3D: Godard's crop of image and laser grid."""

import numpy as np
import pytest
import scipy.io

from robustdepth.data.benchmarks.datasets import open_condition
from robustdepth.errors import UserError
from robustdepth.evaluation.frame import ScoredFrame
from robustdepth.evaluation.protocols import PROTOCOLS
from tests.adverse_recordings import write_make3d


def test_central_rows_of_image_and_grid(tmp_path):
    write_make3d(tmp_path)
    (sample,) = open_condition("make3d", tmp_path)
    assert sample.name == "op57-p-016t000"
    assert sample.image.shape == (852, 1704, 3)  # 2:1
    assert sample.image[0, 0, 0] == pytest.approx(710 // 10, abs=2)  # JPEG
    assert sample.image[-1, 0, 0] == pytest.approx(1561 // 10, abs=2)
    assert sample.depth.shape == (21, 305)
    assert sample.depth[0, 0] == 17
    assert sample.depth[20, 304] == np.float32(37.304)
    assert sample.camera.size == (852, 1704)


def test_predictions_reach_the_grid_by_their_nearest_pixel(tmp_path):
    write_make3d(tmp_path)
    (sample,) = open_condition("make3d", tmp_path)
    frame = ScoredFrame(PROTOCOLS["make3d"], "median", sample)
    assert frame.mask.all()  # 17 to 38 m
    inverse = (1 / (1 + np.arange(42)[:, None] + np.zeros((42, 610)))).astype(np.float32)
    np.testing.assert_allclose(
        1 / frame.resize(inverse), np.tile(1 + np.arange(0, 42, 2)[:, None], (1, 305)), rtol=1e-6
    )
    frame.check(np.ones((192, 640), np.float32))  # the shape of the image, not of the grid
    with pytest.raises(UserError, match="same view"):
        frame.check(np.ones((640, 192), np.float32))


def test_damaged_and_missing_grids_are_named(tmp_path):
    write_make3d(tmp_path)
    grid = tmp_path / "Gridlaserdata" / "depth_sph_corr-op57-p-016t000.mat"
    scipy.io.savemat(grid, {"Position3DGrid": np.zeros((55, 305))})
    with pytest.raises(UserError, match=r"depth_sph_corr-op57-p-016t000\.mat: .*shape \(55, 305\), expected"):
        open_condition("make3d", tmp_path)[0]
    scipy.io.savemat(grid, {"Depth": np.zeros((55, 305, 4))})
    with pytest.raises(UserError, match=r"cannot read laser grid .*Position3DGrid"):
        open_condition("make3d", tmp_path)[0]
    grid.write_bytes(b"half a file")
    with pytest.raises(UserError, match="cannot read laser grid"):
        open_condition("make3d", tmp_path)[0]
    grid.unlink()
    with pytest.raises(UserError, match=r"op57-p-016t000\.mat is missing"):
        open_condition("make3d", tmp_path)

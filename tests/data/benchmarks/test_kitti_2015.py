"""KITTI stereo 2015: depth and pairs from the dataset's own layout, with its calibration or the day's."""

import numpy as np
import pytest

from robustdepth.data.benchmarks.datasets import open_condition
from robustdepth.data.stereo.pairs import open_pairs
from robustdepth.errors import UserError
from tests.adverse_recordings import write_png16
from tests.recordings import picture, write_image


def write_scene(base, number: str, size=(375, 1242)) -> np.ndarray:
    """One scene; returns its disparity, a multiple of 1/256 pixel, unknown in the upper rows."""
    values = np.random.default_rng(int(number)).integers(256, 100 * 256, size)
    values[:100] = 0
    for folder, seed in (("image_2", 1), ("image_3", 2)):
        write_image(base / folder / f"{number}_10.png", picture(seed, size))
    write_png16(base / "disp_occ_0" / f"{number}_10.png", values)
    return values / 256


@pytest.mark.parametrize("inside", ["", "training"])
def test_depth_is_focal_length_times_baseline_over_disparity(tmp_path, inside):
    disparity = write_scene(tmp_path / inside, "000007")
    (sample,) = open_condition("kitti_2015", tmp_path)
    known = disparity > 0
    np.testing.assert_array_equal(sample.depth > 0, known)
    np.testing.assert_allclose(sample.depth[known], 721.5377 * 0.53272 / disparity[known], rtol=1e-5)
    np.testing.assert_allclose(sample.camera.center, (609.5593, 172.854))


def test_a_scenes_own_calibration_counts(tmp_path):
    write_scene(tmp_path, "000003", size=(360, 1220))
    with pytest.raises(UserError, match="has 1220x360 pixels, as no day of KITTI"):
        open_condition("kitti_2015", tmp_path)
    rows = ["P_rect_02: 700 0 600 70 0 700 180 0 0 0 1 0", "P_rect_03: 700 0 600 -280 0 700 180 0 0 0 1 0"]
    folder = tmp_path / "calib_cam_to_cam"
    folder.mkdir()
    (folder / "000003.txt").write_text("\n".join([*rows, "S_rect_02: 1220 360"]) + "\n")
    sample = open_condition("kitti_2015", tmp_path)[0]
    disparity = open_pairs(tmp_path)
    (pair,) = disparity.read()
    known = pair.disparity > 0
    np.testing.assert_allclose(sample.depth[known], 700 * 0.5 / pair.disparity[known], rtol=1e-5)


def test_what_is_missing_is_named(tmp_path):
    write_scene(tmp_path, "000007")
    (tmp_path / "image_3" / "000007_10.png").unlink()
    assert len(open_condition("kitti_2015", tmp_path)) == 1  # depth needs no right image
    with pytest.raises(UserError, match=r"000007_10\.png has no right image in image_3"):
        open_pairs(tmp_path)
    (tmp_path / "disp_occ_0" / "000007_10.png").unlink()
    with pytest.raises(UserError, match=r"disp_occ_0/000007_10\.png is missing"):
        open_condition("kitti_2015", tmp_path)

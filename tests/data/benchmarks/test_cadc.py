"""CADC: projection of labelled scans, the rows that count, lists and copies that are not whole."""

import numpy as np
import pytest

from robustdepth.data.benchmarks.cadc import read_calibration
from robustdepth.data.benchmarks.datasets import open_condition
from robustdepth.errors import UserError
from tests.adverse_recordings import write_cadc
from tests.recordings import picture

FRAMES = ("2018_03_07/0004 3", "2019_02_27/0076 99")


def scanner_point(u: float, v: float, depth: float) -> list[float]:
    """The point at pixel (u, v), in a frame of x ahead, y left, z up; the camera is 0.5 m ahead and 0.6 m below."""
    return [depth + 0.5, -(u - 653.222) / 653.956 * depth, -(v - 508.732) / 655.540 * depth - 0.6]


POINTS = np.array([
    scanner_point(100, 234, 8.0),  # the first row that counts
    scanner_point(700, 773, 25.0),  # the last
    scanner_point(300, 233, 9.0),
    scanner_point(300, 774, 9.0),
    scanner_point(600, 500, 1.9),  # on the car itself
])  # fmt: skip


@pytest.fixture(autouse=True)
def _forget_calibrations():
    read_calibration.cache_clear()


def test_scans_are_projected_and_cropped(tmp_path):
    split = write_cadc(tmp_path, FRAMES, POINTS)
    samples = open_condition("cadc", tmp_path, str(split))
    assert [sample.name for sample in samples] == ["2018_03_07/0004 0000000003", "2019_02_27/0076 0000000099"]
    wanted = np.zeros((540, 1280))
    wanted[0, 100], wanted[539, 700] = 8, 25
    np.testing.assert_allclose(samples[1].depth, wanted, rtol=1e-5)
    np.testing.assert_array_equal(samples[0].image, picture(3, (1024, 1280))[234:774])
    np.testing.assert_allclose(samples[0].camera.center, (653.222, 508.732 - 234), rtol=1e-6)


def test_what_is_missing_is_named(tmp_path):
    split = write_cadc(tmp_path, FRAMES, POINTS)
    with pytest.raises(UserError, match="cadc needs --split=FILE"):
        open_condition("cadc", tmp_path)
    (tmp_path / "2019_02_27/0076/labeled/lidar_points/data/0000000099.bin").unlink()
    with pytest.raises(UserError, match=r"0076/labeled/lidar_points/data/0000000099\.bin is missing"):
        open_condition("cadc", tmp_path, str(split))
    split.write_text("2019_02_27/0076/raw/image_00/data/0000000099.png")
    with pytest.raises(UserError, match="give lines DATE/SEQUENCE/labeled/image_00"):
        open_condition("cadc", tmp_path, str(split))
    split.write_text("2018_03_07/0004/labeled/image_00/data/0000000003.png")
    read_calibration.cache_clear()
    (tmp_path / "2018_03_07/calib/extrinsics.yaml").write_text("T_LIDAR_CAM01: []")
    with pytest.raises(UserError, match=r"2018_03_07/calib is not CADC's: KeyError\('T_LIDAR_CAM00'\)"):
        open_condition("cadc", tmp_path, str(split))
    (tmp_path / "2018_03_07/calib/extrinsics.yaml").unlink()
    with pytest.raises(UserError, match=r"cannot read calibration .*extrinsics\.yaml"):
        open_condition("cadc", tmp_path, str(split))

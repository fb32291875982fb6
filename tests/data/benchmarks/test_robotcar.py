"""Oxford RobotCar in the form of md4all's preparation: clouds in the body frame, test lists, raw images refused."""

import numpy as np
import pytest

from robustdepth.data.benchmarks.datasets import open_condition
from robustdepth.data.benchmarks.robotcar import read_cloud
from robustdepth.errors import UserError
from tests.adverse_recordings import make_grey, write_robotcar
from tests.recordings import picture

NIGHT = "2014-12-16-18-44-24"
FOCAL, CX, CY = 983.044006, 643.646973, 493.378998


def body_point(u: float, v: float, depth: float) -> list[float]:
    """The point at pixel (u, v), in a frame of x ahead, y right, z down."""
    return [depth, (u - CX) / FOCAL * depth, (v - CY) / FOCAL * depth]


POINTS = np.array([body_point(100, 200, 12), body_point(100, 200, 30), body_point(500, 800, 5), body_point(9, 9, -4)])


def test_clouds_are_projected_into_the_upper_rows(tmp_path):
    write_robotcar(tmp_path, NIGHT, ["1418756721422679", "1418756721485000"], POINTS)
    samples = open_condition("robotcar_night", tmp_path)
    assert [sample.name for sample in samples] == [f"{NIGHT} 1418756721422679", f"{NIGHT} 1418756721485000"]
    wanted = np.zeros((768, 1280))  # row 800 is cut off
    wanted[200, 100] = 12
    np.testing.assert_allclose(samples[0].depth, wanted, rtol=1e-5)
    np.testing.assert_array_equal(samples[0].image, picture(3, (960, 1280))[:768])
    np.testing.assert_allclose(samples[0].camera.focal, FOCAL)


def test_unprepared_copies_are_told(tmp_path):
    write_robotcar(tmp_path, NIGHT, ["17"], POINTS)
    with pytest.raises(UserError, match=r"2014-12-09-13-21-02/stereo/left is missing: prepare the traversal"):
        open_condition("robotcar_day", tmp_path)
    make_grey(tmp_path / NIGHT / "stereo" / "left" / "17.png")
    with pytest.raises(UserError, match=r"17\.png is a raw sensor image: prepare"):
        open_condition("robotcar_night", tmp_path)[0]
    (cloud,) = tmp_path.rglob("17.pcd.bin")
    cloud.write_bytes(cloud.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"cannot read cloud .*17\.pcd\.bin"):
        read_cloud(cloud)
    cloud.unlink()
    with pytest.raises(UserError, match=r"17\.pcd\.bin is missing"):
        open_condition("robotcar_night", tmp_path)
    (tmp_path / "models" / "stereo_wide_left.txt").write_text("983.0 983.0")
    with pytest.raises(UserError, match=r"stereo_wide_left\.txt.*copy 'models' of the RobotCar SDK"):
        open_condition("robotcar_night", tmp_path)

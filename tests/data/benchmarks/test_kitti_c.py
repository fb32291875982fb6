"""KITTI-C folders: corrupted images at 640x192 with the ground truth of the clean protocol."""

import numpy as np
import pytest

from robustdepth.data.benchmarks.datasets import open_condition
from robustdepth.data.recordings.kitti_raw import lidar_samples
from robustdepth.errors import UserError
from robustdepth.evaluation.frame import ScoredFrame
from robustdepth.evaluation.protocols import PROTOCOLS
from tests.adverse_recordings import write_kitti_c
from tests.recordings import DRIVE, SIZE, point_at, write_kitti_raw, write_scan


@pytest.fixture
def split(tmp_path):
    write_kitti_raw(tmp_path, numbers=[2], sides="l")
    write_scan(tmp_path, 2, np.array([point_at(u, v, 5 + u / 10) for u in range(5, 155, 5) for v in (25, 35, 45)]))
    (tmp_path / "split.txt").write_text(f"{DRIVE} 2 l\n")
    return str(tmp_path / "split.txt")


def test_corrupted_image_and_clean_ground_truth(tmp_path, split):
    image = write_kitti_c(tmp_path, "fog", 3, DRIVE, 2)
    (sample,) = open_condition("kitti_c_fog_3", tmp_path, split)
    (clean,) = lidar_samples(tmp_path, split=split)
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(sample.depth, clean.depth)
    assert sample.depth.shape == SIZE
    assert sample.name == clean.name
    assert sample.camera.size == (192, 640)
    np.testing.assert_allclose(sample.camera.focal, clean.camera.focal * [640 / SIZE[1], 192 / SIZE[0]])


def test_scores_are_those_of_the_eigen_protocol(tmp_path, split):
    write_kitti_c(tmp_path, "jpeg_compression", 5, DRIVE, 2)
    (sample,) = open_condition("kitti_c_jpeg_compression_5", tmp_path, split)
    (clean,) = lidar_samples(tmp_path, split=split)
    inverse = np.linspace(0.02, 0.2, 64 * 200, dtype=np.float32).reshape(64, 200)
    scores = [
        ScoredFrame(PROTOCOLS[name], "median", frame).score(inverse)
        for name, frame in (("kitti_c_jpeg_compression_5", sample), ("kitti_eigen", clean))
    ]
    assert scores[0] == scores[1]


def test_what_is_missing_is_named(tmp_path, split):
    write_kitti_c(tmp_path, "dark", 1, DRIVE, 7)
    with pytest.raises(UserError, match=r"kitti_c/dark/2/kitti_data is missing: unpack RoboDepth's"):
        open_condition("kitti_c_dark_2", tmp_path, split)
    with pytest.raises(UserError, match=r"dark/1/.*0000000002\.png is missing"):
        open_condition("kitti_c_dark_1", tmp_path, split)
    with pytest.raises(UserError, match="kitti_c_dark_1 needs --split=FILE, the 697 Eigen"):
        open_condition("kitti_c_dark_1", tmp_path)
    (tmp_path / "split.txt").write_text(f"{DRIVE} 7 l\n")
    with pytest.raises(UserError, match="has no LiDAR scan"):
        open_condition("kitti_c_dark_1", tmp_path, split)
    with pytest.raises(UserError, match="unknown condition 'kitti_c_dark_6'; did you mean"):
        open_condition("kitti_c_dark_6", tmp_path, split)

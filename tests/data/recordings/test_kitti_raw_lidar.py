"""KITTI raw: LiDAR that falls where geometry says, and the ground truth that is made of it."""

import numpy as np
import pytest

from robustdepth.data.images import BadImage
from robustdepth.data.lidar import project_lidar
from robustdepth.data.recordings.kitti_raw import lidar_samples
from robustdepth.errors import UserError
from tests.recordings import (
    CX,
    CY,
    DRIVE,
    FX,
    FY,
    LEFT_X,
    RIGHT_X,
    SCANNER_POSITION,
    SIZE,
    picture,
    point_at,
    projection,
    truncate,
    write_image,
    write_kitti_raw,
    write_scan,
)


def test_lidar_points_become_the_ground_truth_that_published_numbers_use(tmp_path):
    write_kitti_raw(tmp_path)
    wanted = {(10, 5): 4.0, (159, 47): 20.0, (1, 1): 7.5, (80, 30): 79.0}
    write_scan(tmp_path, 2, [point_at(u, v, depth) for (u, v), depth in wanted.items()])
    samples = lidar_samples(tmp_path)
    assert len(samples) == 1
    sample = samples[0]
    assert sample.name == f"{DRIVE} 0000000002 l"
    np.testing.assert_array_equal(sample.image, picture(2))
    expected = np.zeros(SIZE, np.float32)
    for (u, v), depth in wanted.items():
        expected[v - 1, u - 1] = depth - SCANNER_POSITION[2]  # ahead of the scanner, one pixel up and left
    np.testing.assert_allclose(sample.depth, expected, rtol=1e-5)
    np.testing.assert_allclose([*sample.camera.focal, *sample.camera.center], [FX, FY, CX, CY])
    assert sample.camera.size == SIZE


def test_right_camera_sees_the_scan_from_its_own_place(tmp_path):
    write_kitti_raw(tmp_path)
    write_scan(tmp_path, 1, [point_at(100.0, 10.0, 9.0, x=RIGHT_X) + np.array([0, 0.01, 0])])
    split = tmp_path / "split.txt"
    split.write_text(f"{DRIVE} 0000000001 r")
    sample = lidar_samples(tmp_path, split=str(split))[0]
    assert list(zip(*np.nonzero(sample.depth), strict=True)) == [(9, 99)]
    np.testing.assert_array_equal(sample.image, picture(51))


def test_lidar_points_land_on_their_pixels_with_their_depth():
    wanted = {(10, 5): 4.0, (159, 47): 20.0, (0, 0): 7.5, (80, 30): 79.0}
    points = np.array([point_at(u, v, depth) for (u, v), depth in wanted.items()])
    depth = project_lidar(points, projection(LEFT_X), SIZE)
    assert np.count_nonzero(depth) == len(wanted)
    np.testing.assert_allclose([depth[v, u] for u, v in wanted], list(wanted.values()), rtol=1e-5)


def test_the_nearest_point_wins_and_points_outside_or_behind_drop_out():
    one_pixel = [(20.3, 7.2, 30.0), (20.0, 7.0, 5.0), (19.6, 6.6, 12.0)]
    dropped = [(8.0, 8.0, -3.0), (-0.6, 5.0, 4.0), (159.6, 5.0, 4.0), (5.0, 47.6, 4.0)]
    points = np.array([point_at(*point) for point in (*one_pixel, *dropped)])
    depth = project_lidar(points, projection(LEFT_X), SIZE)
    assert np.count_nonzero(depth) == 1
    assert depth[7, 20] == pytest.approx(5.0)


def test_improved_ground_truth_is_the_png_over_256(tmp_path):
    write_kitti_raw(tmp_path)
    folder = tmp_path / DRIVE / "proj_depth" / "groundtruth" / "image_02"
    depth = np.zeros(SIZE, np.uint16)
    depth[3, 4] = 5 * 256 + 128
    write_image(folder / "0000000003.png", depth)
    inside = tmp_path / "val" / DRIVE.split("/")[1] / "proj_depth" / "groundtruth" / "image_02"
    write_image(inside / "0000000000.png", depth)
    samples = lidar_samples(tmp_path, improved=True)
    assert [sample.name.split()[1] for sample in samples] == ["0000000000", "0000000003"]
    for sample in samples:
        assert sample.depth.dtype == np.float32
        assert sample.depth[3, 4] == 5.5
        assert np.count_nonzero(sample.depth) == 1
    write_image(folder / "0000000003.png", depth[:, :80])
    with pytest.raises(UserError, match="80x48 pixels, its image 160x48"):
        samples[1]
    write_image(folder / "0000000003.png", picture(0))
    with pytest.raises(UserError, match="not 16 bits"):
        samples[1]


def test_incomplete_evaluation_data_is_named(tmp_path):
    write_kitti_raw(tmp_path)
    write_scan(tmp_path, 1, [point_at(10, 10, 10)])
    split = tmp_path / "split.txt"
    split.write_text(f"{DRIVE} 2 l")
    with pytest.raises(UserError, match=r"2 l' .* has no ground truth"):
        lidar_samples(tmp_path, split=str(split))
    split.write_text(f"{DRIVE} 9 l")
    with pytest.raises(UserError, match=r"9 l' .* has no image"):
        lidar_samples(tmp_path, split=str(split))
    scan = tmp_path / DRIVE / "velodyne_points/data/0000000001.bin"
    scan.write_bytes(scan.read_bytes()[:9])
    with pytest.raises(UserError, match=r"0000000001\.bin"):
        lidar_samples(tmp_path)[0]
    truncate(tmp_path / DRIVE / "image_02/data/0000000001.png")
    with pytest.raises(BadImage, match=r"0000000001\.png"):
        lidar_samples(tmp_path)[0]


def test_real_lidar_frames(real_data):
    """The counts that the recordings have, and a road that passes 1.65 m under the camera."""
    root = real_data / "kitti_raw"
    assert [len(lidar_samples(root, drives=drives)) for drives in (("9001",), ("0005",), ())] == [36, 20, 56]
    sample = lidar_samples(root, drives=("0005",))[0]
    assert sample.image.shape == (375, 1242, 3)
    rows, columns = np.nonzero(sample.depth)
    depth = sample.depth[rows, columns]
    assert 15_000 < len(depth) < 25_000
    assert 3 < depth.min() < depth.max() < 90
    road = (rows > 300) & (abs(columns - 500) < 150)
    ahead = depth[road] - 0.27  # of the camera; the ground truth counts from the scanner, one pixel up
    height = (rows[road] + 1 - sample.camera.center[1]) / sample.camera.focal[1] * ahead
    slope, height_at_camera = np.polyfit(ahead, height, 1)
    assert height_at_camera == pytest.approx(1.65, abs=0.1)
    assert abs(slope) < 0.03

"""The median depth map: from LiDAR, from stereo pairs, from worlds; always of known depth here."""

import types

import numpy as np
import pytest

from robustdepth.data.median import median_depth_map
from tests.recordings import (
    DRIVE,
    FX,
    SIZE,
    config_for,
    point_at,
    write_image,
    write_kitti_odometry,
    write_kitti_raw,
    write_scan,
)


def wall(depth: float) -> np.ndarray:
    """LiDAR points of a wall that fills the left half of the image, one a pixel."""
    return np.array([point_at(u, v, depth) for u in range(SIZE[1] // 2) for v in range(SIZE[0])])


def test_lidar_median_over_frames_and_holes_take_the_nearest_pixel(tmp_path):
    write_kitti_raw(tmp_path, sides="l")
    for number, depth in enumerate((4.0, 30.0, 10.0)):
        write_scan(tmp_path, number, wall(depth))
    config = config_for("kitti_raw", tmp_path)
    for size in (SIZE, (24, 80)):
        depth, origin = median_depth_map(config, size)
        assert origin == "LiDAR of 3 training frames"
        assert (depth.shape, depth.dtype) == (size, np.float32)
        np.testing.assert_allclose(depth, 10.0, rtol=1e-5)


def test_a_scan_that_cannot_be_read_is_left_out(tmp_path, caplog):
    write_kitti_raw(tmp_path, numbers=range(3), sides="l")
    wall = np.array([point_at(u, v, 20.0) for u in range(SIZE[1]) for v in range(SIZE[0])])
    for number in range(3):
        write_scan(tmp_path, number, wall)
    (tmp_path / DRIVE / "velodyne_points" / "data" / "0000000001.bin").write_bytes(b"")
    depth, origin = median_depth_map(config_for("kitti_raw", tmp_path), SIZE)
    np.testing.assert_allclose(depth, 20.0, rtol=1e-5)
    assert origin == "LiDAR of 2 training frames"
    assert "0000000001.bin: it holds no point in 0 bytes" in caplog.text


def test_median_of_an_even_number_of_values(tmp_path):
    write_kitti_raw(tmp_path, sides="l")
    write_scan(tmp_path, 0, wall(4.0))
    write_scan(tmp_path, 1, wall(8.0))
    depth, _ = median_depth_map(config_for("kitti_raw", tmp_path), SIZE)
    np.testing.assert_allclose(depth, 6.0, rtol=1e-5)


def test_lidar_of_other_drives_than_the_training_set_is_not_used(tmp_path):
    write_kitti_raw(tmp_path, sides="l")
    other = "2011_09_26/2011_09_26_drive_0002_sync"
    write_kitti_raw(tmp_path, sides="l", drive=other)
    write_scan(tmp_path, 1, wall(20.0))
    write_scan(tmp_path, 1, wall(5.0), drive=other)
    depth, _ = median_depth_map(config_for("kitti_raw", tmp_path, sequences=("0001",)), SIZE)
    np.testing.assert_allclose(depth, 20.0, rtol=1e-5)


def test_stereo_pairs_of_a_fronto_parallel_wall(tmp_path):
    """Shifting a texture by d pixels is a wall at f b / d."""
    write_kitti_odometry(tmp_path, "06", cameras=[0, 1], count=2)
    disparity = 8
    texture = np.random.default_rng(0).integers(0, 255, (SIZE[0] // 2, SIZE[1] // 2 + disparity), np.uint8)
    texture = np.kron(texture, np.ones((2, 2), np.uint8))[:, : SIZE[1] + disparity]
    for number in range(2):
        write_image(tmp_path / f"sequences/06/image_0/{number:06d}.png", texture[:, :-disparity])
        write_image(tmp_path / f"sequences/06/image_1/{number:06d}.png", texture[:, disparity:])
    config = config_for("kitti_odometry", tmp_path, views=("stereo",))
    depth, origin = median_depth_map(config, SIZE)
    assert origin == "stereo matching of 4 training frames"
    # Away from the borders, where the matching windows leave the image.
    np.testing.assert_allclose(depth[:, 4:-4], FX * 0.54 / disparity, rtol=0.02)


@pytest.fixture
def renderer(monkeypatch):
    """Worlds whose lower half lies at (index + 1) metres under a sky; remembers the views asked for."""
    asked = []

    def render(indices, *, seed, split, size, views):
        assert split == "train"
        asked.append((len(indices), views))
        depth = np.broadcast_to(
            np.asarray(indices, np.float32)[:, None, None, None] + 1, (len(indices), 1, *size)
        ).copy()
        labels = np.ones(depth.shape, np.int32)
        depth[..., : size[0] // 2, :] = 100.0
        labels[..., : size[0] // 2, :] = 7
        return None, types.SimpleNamespace(depth=depth, labels=labels)

    monkeypatch.setattr("robustdepth.world.generate.render_examples", render)
    monkeypatch.setattr("robustdepth.world.layout.CLASSES", (*"abcdefg", "sky"))
    return asked


def test_worlds_count_without_their_sky(tmp_path, renderer):
    depth, origin = median_depth_map(config_for("none", tmp_path, batch=64), (32, 96))
    assert origin == "true depth of 128 training worlds"
    np.testing.assert_allclose(depth, 64.5)
    assert renderer == [(64, ("previous", "next"))] * 2


def test_recordings_without_any_depth_fall_back_to_worlds(tmp_path, renderer):
    write_kitti_odometry(tmp_path, "00", cameras=[0])
    _, origin = median_depth_map(config_for("kitti_odometry", tmp_path), (32, 96))
    assert origin == "true depth of 128 training worlds"
    assert renderer[0] == (16, ())


def test_real_stereo_median_shows_a_road(real_data):
    """Road below the camera gets farther towards the horizon; at the bottom it is 5 to 8 metres away."""
    config = config_for("kitti_odometry", real_data / "kitti_odometry", views=("stereo",), sequences=("06", "91"))
    depth, _ = median_depth_map(config, (96, 320))
    again, _ = median_depth_map(config, (96, 320))
    np.testing.assert_array_equal(depth, again)
    rows = np.median(depth[:, 80:240], axis=1)
    assert 5 < rows[-1] < 8
    assert (np.diff(rows[60:]) <= 0).all()

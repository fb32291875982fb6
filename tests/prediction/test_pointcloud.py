"""Point clouds: geometry against closed forms, files against a reader of their own."""

import math
import pathlib
import struct

import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.geometry.camera import make_camera
from robustdepth.prediction.pointcloud import camera_from_field_of_view, points, write_ply


def read_ply(path: pathlib.Path) -> tuple[list[str], list[tuple]]:
    """Header lines and (x, y, z, red, green, blue) rows, read byte by byte as the format is defined."""
    header, body = path.read_bytes().split(b"end_header\n", 1)
    row = struct.Struct("<fffBBB")
    return header.decode("ascii").splitlines(), [row.unpack_from(body, i) for i in range(0, len(body), row.size)]


def test_the_depth_of_a_plane_becomes_that_plane():
    """Road 1.5 below the camera, which looks 10 degrees down: every point fulfils n . p = 1.5."""
    size, pitch = (24, 40), math.radians(10)
    camera = make_camera(30.0, 32.0, 18.0, 10.0, size)
    normal = np.array([0.0, math.cos(pitch), math.sin(pitch)])
    x, y = np.meshgrid((np.arange(40) - 18.0) / 30, (np.arange(24) - 10.0) / 32)
    rays = np.stack([x, y, np.ones_like(x)], axis=-1)
    depth = np.clip(1.5 / (rays @ normal), 0.1, 1e4)
    below = (rays @ normal) > 1e-2
    cloud = points(depth.astype(np.float32), camera)
    np.testing.assert_allclose(cloud[below] @ normal, 1.5, rtol=1e-4)
    np.testing.assert_allclose(cloud[..., 2], depth, rtol=1e-6)
    assert cloud[10, 18, :2].tolist() == [0, 0]  # the principal point looks straight ahead
    assert (cloud[0, 0, :2] < 0).all()  # x to the right, y down


def test_a_field_of_view_reaches_from_edge_to_edge():
    camera = camera_from_field_of_view(90.0, (100, 200))
    np.testing.assert_allclose(camera.focal, [100, 100])
    np.testing.assert_allclose(camera.center, [99.5, 49.5])
    for degrees in (0.0, -5.0, 180.0, math.nan):
        with pytest.raises(UserError, match="between 0 and 180 degrees"):
            camera_from_field_of_view(degrees, (100, 200))


def test_a_ply_file_holds_points_and_colours_in_row_order(tmp_path):
    cloud = np.arange(18, dtype=np.float32).reshape(2, 3, 3) / 7
    colors = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14
    write_ply(tmp_path / "cloud.ply", cloud.reshape(6, 3), colors.reshape(6, 3))
    header, rows = read_ply(tmp_path / "cloud.ply")
    assert header[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 6"]
    assert header[3:] == [f"property float {axis}" for axis in "xyz"] + [
        f"property uchar {channel}" for channel in ("red", "green", "blue")
    ]
    np.testing.assert_array_equal([row[:3] for row in rows], cloud.reshape(6, 3))
    np.testing.assert_array_equal([row[3:] for row in rows], colors.reshape(6, 3))


def test_a_point_cloud_without_a_camera_is_refused():
    with pytest.raises(UserError, match="needs a camera"):
        points(np.ones((2, 2), np.float32), None)

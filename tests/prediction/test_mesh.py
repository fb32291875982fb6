"""Surfaces: planes stay whole, gaps are cut, and a GLB file holds what an independent reading of it says."""

import json
import struct

import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.geometry.camera import make_camera
from robustdepth.prediction.mesh import on_surface, triangles, write_glb
from robustdepth.prediction.pointcloud import points

CAMERA = make_camera(700.0, 700.0, 620.0, 180.0, (375, 1242))


def road() -> np.ndarray:
    """A road 1.5 m below a level camera, to 100 m, and above it a wall at 100 m."""
    below = np.maximum(np.arange(375) - 180.0, 1e-9)
    return np.repeat(np.minimum(1.5 * 700 / below, 100.0)[:, None], 1242, axis=1).astype(np.float32)


def test_a_road_does_not_tear_however_small_the_angle():
    depth = road()
    change = np.abs(depth[2:] - depth[:-2]) / depth[1:-1]
    assert (change > 0.04).mean() > 0.1  # without the surface's own slope this would be cut
    kept = on_surface(depth, 0.04)
    assert kept[:, 30:-30].mean() > 0.995
    assert on_surface(depth, 0.0).all()


@pytest.mark.parametrize("blurred", [1, 5])
def test_the_gap_around_a_thing_is_cut_and_the_thing_is_kept(blurred):
    """A car at 8 m before the wall at 100 m; a network's edges are ramps of some pixels."""
    inverse = 1 / road()
    inverse[100:180, 400:600] = 1 / 8
    ramp = np.ones(blurred) / blurred
    inverse = np.apply_along_axis(
        lambda row: np.convolve(np.pad(row, blurred // 2, mode="edge"), ramp, "valid"), 1, inverse
    )
    depth = (1 / inverse).astype(np.float32)
    kept = on_surface(depth, 0.04)
    between = (depth[140] > 8.5) & (depth[140] < 90)
    assert between.any() == (blurred > 1)
    assert not kept[140][between].any()
    assert not kept[140, 399:401].any()
    assert kept[110:170, 410:590].all()
    assert kept[140, 200:390].all()


def test_triangles_cover_the_grid_and_leave_out_squares_with_a_gap():
    whole = triangles(np.ones((5, 7), bool), 2).astype(int)
    assert len(whole) == 2 * 2 * 3
    assert set(whole.ravel()) == set(range(3 * 4))
    x, y = whole % 4, whole // 4
    doubled = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    assert (doubled == -1).all()  # half a square each, all turning one way
    kept = np.ones((5, 7), bool)
    kept[1, 3] = False  # between the rows and columns that are taken
    assert len(triangles(kept, 2)) == 2 * 2 * 3 - 2


def read_glb(path) -> tuple[dict, dict[str, np.ndarray], bytes]:
    """The content, arrays and picture of a GLB file, read as glTF 2.0 defines it."""
    data = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    content = json.loads(data[20 : 20 + size])
    body = data[20 + size + 8 :]

    def array(accessor: int, columns: int) -> np.ndarray:
        about = content["accessors"][accessor]
        view = content["bufferViews"][about["bufferView"]]
        start = view.get("byteOffset", 0) + about.get("byteOffset", 0)
        kind = {5126: "<f4", 5125: "<u4", 5123: "<u2"}[about["componentType"]]
        return np.frombuffer(body, kind, about["count"] * columns, start).reshape(-1, columns)

    (mesh,) = content["meshes"]
    (part,) = mesh["primitives"]
    arrays = {
        "points": array(part["attributes"]["POSITION"], 3),
        "where": array(part["attributes"]["TEXCOORD_0"], 2),
        "faces": array(part["indices"], 1).reshape(-1, 3),
    }
    view = content["bufferViews"][content["images"][0]["bufferView"]]
    return content, arrays, body[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]


def test_a_glb_file_holds_the_surface_and_its_picture(tmp_path):
    pytest.importorskip("trimesh", reason="GLB files need trimesh: pip install robustdepth[mesh]")
    size = (20, 30)
    camera = make_camera(25.0, 25.0, 14.5, 9.5, size)
    depth = np.full(size, 4.0, np.float32)
    image = np.full((*size, 3), (250, 10, 10), np.uint8)
    write_glb(tmp_path / "a.glb", points(depth, camera), image, np.ones(size, bool), 1)
    content, arrays, picture = read_glb(tmp_path / "a.glb")
    assert content["asset"]["version"] == "2.0"
    assert content["images"][0]["mimeType"] == "image/jpeg"
    assert "KHR_materials_unlit" in content["materials"][0]["extensions"]  # the picture has light of its own
    assert content["extensionsUsed"] == ["KHR_materials_unlit"]
    assert picture.startswith(b"\xff\xd8")
    assert len(arrays["faces"]) == 2 * 19 * 29
    np.testing.assert_allclose(arrays["points"][:, 2], -4)  # looking along -z
    x, y = arrays["points"][:, 0] / 4 * 25 + 14.5, -arrays["points"][:, 1] / 4 * 25 + 9.5
    np.testing.assert_allclose(arrays["where"], np.stack([(x + 0.5) / 30, (y + 0.5) / 20], -1), atol=1e-4)
    a, b, c = np.moveaxis(arrays["points"][arrays["faces"]], 1, 0)
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()  # the front, by the right-hand rule, faces the camera


def test_a_surface_of_gaps_alone_is_refused(tmp_path):
    pytest.importorskip("trimesh", reason="GLB files need trimesh: pip install robustdepth[mesh]")
    nothing = np.zeros((4, 4), bool)
    with pytest.raises(UserError, match=r"a\.glb: no surface is left .* larger --edge"):
        write_glb(tmp_path / "a.glb", np.ones((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8), nothing, 1)
    assert not (tmp_path / "a.glb").exists()

"""Pairs with true disparity: files written by hand, KITTI projected independently, worlds against their own images."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from robustdepth.data.stereo.pairs import open_pairs, read_disparity, read_pfm, world_pairs
from robustdepth.errors import UserError
from tests.recordings import (
    DAY,
    DRIVE,
    FX,
    LEFT_X,
    RIGHT_X,
    SIZE,
    picture,
    point_at,
    projection,
    truncate,
    write_image,
    write_kitti_raw,
    write_scan,
)

HEIGHT, WIDTH = 40, 96


@pytest.fixture
def checked(monkeypatch):
    """Takes any two images for a rectified pair, and returns the names of those that were to be checked."""
    names = []
    monkeypatch.setattr("robustdepth.data.stereo.pairs.check_pair", lambda left, right, name: names.append(name))
    return names


def texture(seed=0, shift=0):
    """Noise with something at every scale, its content `shift` pixels further left."""
    draw = np.random.default_rng(seed)
    sheet = draw.integers(0, 256, (HEIGHT, WIDTH + 32, 3)).astype(np.float32)
    sheet = sum(cv2.GaussianBlur(sheet, (0, 0), sigma) * sigma for sigma in (1, 2, 4))
    sheet = 255 * (sheet - sheet.min()) / (sheet.max() - sheet.min())
    return sheet[:, shift : shift + WIDTH].astype(np.uint8)


def truth(seed=0):
    return (1 + 20 * np.random.default_rng(seed).random((HEIGHT, WIDTH))).astype(np.float32)


def write_pfm(path, values):
    path.write_bytes(f"Pf\n{values.shape[1]} {values.shape[0]}\n-1\n".encode() + values[::-1].astype("<f4").tobytes())


def write_pair(folder, left="im0.png", right="im1.png", disparity="disp0.pfm", seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    write_image(folder / left, texture(seed))
    write_image(folder / right, texture(seed, shift=5))
    write_pfm(folder / disparity, truth(seed))


# Disparity files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "order"), [("-1", "<"), ("1.0", ">"), ("-0.003922", "<"), ("3e-3", ">")])
def test_a_pfm_written_by_hand_in_both_byte_orders(tmp_path, scale, order):
    """Rows from the bottom up; Middlebury's files say 0.003922 beside numbers that are pixels all the same."""
    header = f"Pf\n3 2\n{scale}\n".encode()
    (tmp_path / "a.pfm").write_bytes(header + struct.pack(f"{order}6f", 4, 5, 6, 1, 2.5, np.inf))
    np.testing.assert_array_equal(read_pfm(tmp_path / "a.pfm"), np.float32([[1, 2.5, np.inf], [4, 5, 6]]))
    np.testing.assert_array_equal(read_disparity(tmp_path / "a.pfm"), np.float32([[1, 2.5, 0], [4, 5, 6]]))


def test_a_pfm_is_read_as_opencv_reads_and_writes_it(tmp_path):
    path, values = tmp_path / "a.pfm", truth()
    assert cv2.imwrite(str(path), values)
    np.testing.assert_array_equal(read_pfm(path), values)
    write_pfm(path, values)
    np.testing.assert_array_equal(read_pfm(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "no portable float map"),
        (b"PF\n3 2\n-1\n" + bytes(72), "no portable float map with one channel"),
        (b"Pf\n3 2\n0\n" + bytes(24), "no portable float map"),
        (b"Pf\n3 -2\n-1\n" + bytes(24), "no portable float map"),
        (b"Pf\n0 2\n-1\n", "says 0x2 pixels"),
        (b"Pf\n3 2\n-1\n" + bytes(22), "says 3x2 pixels, it holds 5.5"),
        (b"Pf\n3 2\n-1\n" + bytes(28), "says 3x2 pixels, it holds 7"),
    ],
)
def test_damaged_pfm(tmp_path, data, sentence):
    (tmp_path / "a.pfm").write_bytes(data)
    with pytest.raises(UserError, match=sentence):
        read_disparity(tmp_path / "a.pfm")


def test_arrays_and_pngs_with_their_scales(tmp_path):
    values = np.array([[1.5, np.inf, np.nan], [0, -3, 60]], np.float64)
    known = np.float32([[1.5, 0, 0], [0, 0, 60]])
    np.savez(tmp_path / "a.npz", values)
    np.save(tmp_path / "a.npy", values)
    for name in ("a.npz", "a.npy"):
        found = read_disparity(tmp_path / name)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, known)
    Image.fromarray(np.uint8([[0, 7], [211, 1]])).save(tmp_path / "whole.png")
    np.testing.assert_array_equal(read_disparity(tmp_path / "whole.png"), np.float32([[0, 7], [211, 1]]))
    cv2.imwrite(str(tmp_path / "fine.png"), np.uint16([[0, 256], [384, 65535]]))
    np.testing.assert_array_equal(read_disparity(tmp_path / "fine.png"), np.float32([[0, 1], [1.5, 65535 / 256]]))


def test_damaged_or_foreign_disparity_files(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.ones((2, 2)), b=np.ones((2, 2)))
    np.save(tmp_path / "colour.npy", np.ones((2, 2, 3)))
    np.save(tmp_path / "text.npy", np.array([["a"]]))
    np.save(tmp_path / "short.npy", np.ones((9, 9)))
    truncate(tmp_path / "short.npy")
    np.savez(tmp_path / "short.npz", np.ones((9, 9)))
    truncate(tmp_path / "short.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    write_image(tmp_path / "colour.png", texture())
    write_image(tmp_path / "short.png", texture()[..., 0])
    truncate(tmp_path / "short.png")
    for name in ("two.npz", "colour.npy", "text.npy", "short.npy", "short.npz", "empty.npz", "colour.png", "short.png"):
        with pytest.raises(UserError, match=name):
            read_disparity(tmp_path / name)


# Folders of pairs -----------------------------------------------------------------------------------------------------


def test_every_layout_is_found_by_its_names(tmp_path, checked):
    write_pair(tmp_path / "Adirondack", seed=1)
    (tmp_path / "Adirondack" / "calib.txt").write_text("cam0=[1 0 0]\ndoffs=31.1\nndisp=290\nvmin=5\n")
    write_image(tmp_path / "aloe" / "aloeL.jpg", texture(2))
    write_image(tmp_path / "aloe" / "aloeR.jpg", texture(2, 5))
    Image.fromarray(np.full((HEIGHT, WIDTH), 9, np.uint8)).save(tmp_path / "aloe" / "aloeGT.png")
    write_image(tmp_path / "bike" / "motorcycle_left.png", texture(3))
    write_image(tmp_path / "bike" / "motorcycle_right.png", texture(3, 5))
    np.savez(tmp_path / "bike" / "motorcycle_disp.npz", np.where(truth(3) > 10, np.inf, truth(3)))
    write_image(tmp_path / "own" / "left.png", texture(4))
    write_image(tmp_path / "own" / "right.jpg", texture(4, 5))
    cv2.imwrite(str(tmp_path / "own" / "disparity.png"), np.full((HEIGHT, WIDTH), 640, np.uint16))
    (tmp_path / "notes").mkdir()

    pairs = open_pairs(tmp_path)
    found = {pair.name: pair for pair in pairs.read()}
    assert list(found) == checked == ["Adirondack", "aloe/aloe", "bike/motorcycle", "own"]
    assert pairs.count == 4
    np.testing.assert_array_equal(found["Adirondack"].left, texture(1))
    np.testing.assert_array_equal(found["Adirondack"].right, texture(1, 5))
    np.testing.assert_array_equal(found["Adirondack"].disparity, truth(1))
    np.testing.assert_array_equal(found["bike/motorcycle"].disparity, np.where(truth(3) > 10, 0, truth(3)))
    assert set(found["aloe/aloe"].disparity.ravel()) == {9.0}
    assert set(found["own"].disparity.ravel()) == {2.5}
    # What the calibration says; else just beyond the largest true disparity.
    assert [found[name].max_disparity for name in ("Adirondack", "aloe/aloe", "own")] == [290, 10, 3]


def test_a_single_folder_is_enough_and_names_choose(tmp_path, checked):
    write_pair(tmp_path, "aL.png", "aR.png", "aGT.pfm")
    write_pair(tmp_path, "bL.png", "bR.png", "bGT.pfm", seed=1)
    assert [pair.name for pair in open_pairs(tmp_path).read()] == ["a", "b"]
    assert [pair.name for pair in open_pairs(tmp_path, ["b"]).read()] == ["b"]
    with pytest.raises(UserError, match="'c' is not under"):
        open_pairs(tmp_path, ["c"])
    write_pair(tmp_path / "alone")
    (only,) = open_pairs(tmp_path / "alone").read()
    assert only.name == "alone"


def test_no_pair_and_missing_files(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="no stereo pair found under"):
            open_pairs(folder)
    write_pair(tmp_path / "a")
    (tmp_path / "a" / "disp0.pfm").unlink()
    with pytest.raises(UserError, match=r"pair a has no true disparity.*disp0\.pfm"):
        open_pairs(tmp_path)
    (tmp_path / "a" / "im1.png").unlink()
    with pytest.raises(UserError, match="pair a has no right image"):
        open_pairs(tmp_path)


def test_sizes_that_differ_and_a_truth_that_says_nothing(tmp_path, checked):
    write_pair(tmp_path / "a")
    write_image(tmp_path / "a" / "im1.png", texture()[:, 1:])
    with pytest.raises(UserError, match="pair a: the right image has 95x40 pixels, the left image 96x40"):
        list(open_pairs(tmp_path).read())
    write_pair(tmp_path / "a")
    write_pfm(tmp_path / "a" / "disp0.pfm", truth()[::2, ::2])
    with pytest.raises(UserError, match="pair a: the true disparity has 48x20 pixels"):
        list(open_pairs(tmp_path).read())
    write_pfm(tmp_path / "a" / "disp0.pfm", np.full_like(truth(), np.inf))
    with pytest.raises(UserError, match="pair a has no pixel of known disparity"):
        list(open_pairs(tmp_path).read())
    write_pair(tmp_path / "a")
    (tmp_path / "a" / "calib.txt").write_text("ndisp=many\n")
    with pytest.raises(UserError, match="ndisp=many"):
        list(open_pairs(tmp_path).read())


def test_swapped_images_are_refused(tmp_path):
    write_pair(tmp_path / "a")
    assert len(list(open_pairs(tmp_path).read())) == 1
    write_pair(tmp_path / "a", left="im1.png", right="im0.png")
    with pytest.raises(UserError):
        list(open_pairs(tmp_path).read())


# KITTI raw ------------------------------------------------------------------------------------------------------------


def test_kitti_s_disparity_is_the_shift_between_the_cameras(tmp_path, checked):
    write_kitti_raw(tmp_path, numbers=range(3))
    wanted = {(10, 5): 4.0, (159, 47): 20.0, (80, 30): 79.0}
    points = [point_at(u, v, depth) for (u, v), depth in wanted.items()]
    write_scan(tmp_path, 1, [*points, point_at(10, 5, 6.0)])  # a point behind another one
    write_scan(tmp_path, 2, points)
    (tmp_path / DRIVE / "image_03/data/0000000002.png").unlink()  # frame 0 has no scan, frame 2 no right image
    pairs = open_pairs(tmp_path)
    (pair,) = pairs.read()
    assert pairs.count == 1
    assert checked == [pair.name] == [f"{DRIVE} 0000000001"]
    np.testing.assert_array_equal(pair.left, picture(1))
    np.testing.assert_array_equal(pair.right, picture(51))
    expected = np.zeros(SIZE, np.float32)
    for ((u, v), _), point in zip(wanted.items(), points, strict=True):
        left, right = projection(LEFT_X) @ [*point, 1], projection(RIGHT_X) @ [*point, 1]
        assert left[0] / left[2] == pytest.approx(u)
        expected[v, u] = left[0] / left[2] - right[0] / right[2]
    np.testing.assert_allclose(pair.disparity, expected, rtol=1e-5)
    assert pair.max_disparity == int(FX * (RIGHT_X - LEFT_X) / 4) + 1


def test_kitti_without_pairs_or_drives(tmp_path, checked):
    write_kitti_raw(tmp_path)
    with pytest.raises(UserError, match="has image_02, image_03 and a scan"):
        open_pairs(tmp_path)
    write_scan(tmp_path, 1, [point_at(10, 5, 4.0)])
    assert open_pairs(tmp_path, ["0001"]).count == 1
    with pytest.raises(UserError, match="'0007' is not under"):
        open_pairs(tmp_path, ["0007"])


def test_a_real_scan_against_both_cameras_own_projections(real_data):
    """Every point is projected into camera 2 and camera 3 by their own matrices, in float64, point by point."""
    root = real_data / "kitti_raw"
    pair = next(open_pairs(root, ["0005"]).read())
    rows = {}
    for name in ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt"):
        for line in (root / DAY / name).read_text().splitlines():
            key, _, numbers = line.partition(":")
            rows[key] = numbers.split()
    number = {key: np.array(rows[key], float) for key in ("R", "T", "R_rect_00", "P_rect_02", "P_rect_03")}
    scan = np.fromfile(root / pair.name.split()[0] / "velodyne_points/data/0000000000.bin", np.float32).reshape(-1, 4)
    points = scan[:, :3].astype(float) @ number["R"].reshape(3, 3).T + number["T"]
    points = np.column_stack([points @ number["R_rect_00"].reshape(3, 3).T, np.ones(len(points))])
    left, right = (points @ number[f"P_rect_0{camera}"].reshape(3, 4).T for camera in (2, 3))
    ahead = left[:, 2] > 0.1
    left, right = left[ahead], right[ahead]
    column, row = np.rint(left[:, 0] / left[:, 2]).astype(int), np.rint(left[:, 1] / left[:, 2]).astype(int)
    height, width = pair.disparity.shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    shift = left[:, 0] / left[:, 2] - right[:, 0] / right[:, 2]
    expected = np.zeros((height, width))
    np.maximum.at(expected, (row[inside], column[inside]), shift[inside])
    assert (height, width) == (375, 1242)
    assert (expected > 0).sum() > 15_000
    # The cameras' positions along the optical axis differ by 16 micrometres, which their own projections include.
    np.testing.assert_allclose(pair.disparity, expected, atol=2e-3)


# Worlds ---------------------------------------------------------------------------------------------------------------


def test_a_world_s_disparity_leads_from_the_left_image_to_the_right_one():
    pairs = world_pairs((32, 64), count=3, seed=0, batch_size=2)
    rendered = list(pairs.read())
    assert [pair.name for pair in rendered] == ["world_00000", "world_00001", "world_00002"]
    assert pairs.count == 3
    rows, columns = np.indices((32, 64), np.float32)
    for pair in rendered:
        assert (pair.disparity > 0).all()  # the sky, too
        assert pair.disparity.max() < pair.max_disparity <= pair.disparity.max() + 1

        def error(disparity, pair=pair):
            seen = cv2.remap(pair.right, columns - disparity, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            return np.median(np.abs(seen.astype(int) - pair.left).max(axis=2)[:, 16:])

        assert error(pair.disparity) < 0.6 * min(error(0 * pair.disparity), error(-pair.disparity))

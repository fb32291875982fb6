"""KITTI raw: layouts, calibration, speed, and LiDAR that falls where geometry says."""

import numpy as np
import pytest
from PIL import Image

from robustdepth.data.calibration import Calibration
from robustdepth.data.images import BadImage
from robustdepth.data.lidar import project_lidar
from robustdepth.data.recordings.kitti_raw import lidar_samples, right_camera_x
from robustdepth.data.source import build_source
from robustdepth.errors import UserError
from tests.recordings import (
    CX,
    CY,
    DAY,
    DRIVE,
    FX,
    FY,
    LEFT_X,
    RIGHT_X,
    SCANNER_POSITION,
    SIZE,
    config_for,
    picture,
    point_at,
    projection,
    truncate,
    write_image,
    write_kitti_raw,
    write_oxts,
    write_scan,
)

STEREO = ("previous", "next", "stereo")


def test_examples_hold_the_right_images_and_intrinsics_after_the_resize(tmp_path):
    write_kitti_raw(tmp_path)
    source = build_source(config_for("kitti_raw", tmp_path, size=(24, 80)))
    assert len(source) == 4  # the left camera; the first and last frame have one neighbour each
    example = source[1]
    resized = [np.array(Image.fromarray(picture(n)).resize((80, 24), Image.Resampling.BILINEAR)) for n in range(3)]
    np.testing.assert_array_equal(example.target, resized[1])
    np.testing.assert_array_equal(example.sources, np.stack([resized[0], resized[2]]))
    np.testing.assert_allclose(example.focal, [FX / 2, FY / 2])
    np.testing.assert_allclose(example.center, [(CX + 0.5) / 2 - 0.5, (CY + 0.5) / 2 - 0.5])
    assert example.source_valid.tolist() == [True, True]
    assert (example.baseline, example.index) == (0, 1)  # no stereo view is asked for


def test_clip_ends_lack_a_view(tmp_path):
    write_kitti_raw(tmp_path)
    source = build_source(config_for("kitti_raw", tmp_path))
    assert [source[i].source_valid.tolist() for i in (0, 3)] == [[False, True], [True, False]]
    assert not source[0].sources[0].any()


def test_frame_step_and_gaps(tmp_path):
    write_kitti_raw(tmp_path, numbers=(0, 1, 2, 5, 7), sides="l")
    source = build_source(config_for("kitti_raw", tmp_path, frame_step=2))
    assert [view.target.number for view in source.views] == [0, 2, 5, 7]
    with pytest.raises(UserError, match="frame_step=9"):
        build_source(config_for("kitti_raw", tmp_path, frame_step=9))


def test_baseline_has_the_sign_of_the_other_camera(tmp_path):
    write_kitti_raw(tmp_path)
    source = build_source(config_for("kitti_raw", tmp_path, views=STEREO))
    assert len(source) == 8
    baselines = {view.target.side: source[i].baseline for i, view in enumerate(source.views)}
    np.testing.assert_allclose(baselines["l"], RIGHT_X - LEFT_X, atol=1e-6)
    np.testing.assert_allclose(baselines["r"], LEFT_X - RIGHT_X, atol=1e-6)
    rows = {"P2": projection(-1.5, 9.0, 1.0), "P3": projection(1.0, 2.0, 3.0)}
    assert right_camera_x(Calibration(tmp_path, rows), "P2", "P3") == pytest.approx(2.5)


def test_a_left_point_reappears_in_the_right_image_where_the_baseline_says():
    depth, baseline = 7.0, RIGHT_X - LEFT_X
    point = np.append(point_at(60.0, 20.0, depth), 1.0)
    u, _, z = projection(RIGHT_X) @ point
    assert u / z == pytest.approx(60.0 - FX * baseline / depth)


def test_speed_times_time_is_the_distance(tmp_path):
    write_kitti_raw(tmp_path)
    write_oxts(tmp_path, speeds=(10.0, 12.0, -4.0, 0.0), seconds=(1.0, 1.1, 1.25, 1.35))
    source = build_source(config_for("kitti_raw", tmp_path, views=STEREO))
    np.testing.assert_allclose(source[1].speed, [1.2, 1.8, 0.0], rtol=1e-6)
    np.testing.assert_allclose(source[2].speed, [0.6, 0.4, 0.0], rtol=1e-6)  # backwards is a distance too
    np.testing.assert_allclose(source[0].speed, [0.0, 1.0, 0.0], rtol=1e-6)


def test_split_file_chooses_targets_in_its_order(tmp_path):
    write_kitti_raw(tmp_path, suffix=".jpg")
    split = tmp_path / "split.txt"
    split.write_text(f"{DRIVE} 2 r\n\n{DRIVE} 0000000001 l\n")
    source = build_source(config_for("kitti_raw", tmp_path, split=str(split)))
    assert [view.target.key[1:] for view in source.views] == [(2, "r"), (1, "l")]
    split.write_text("".join(f"{DRIVE} {number} l\n" for number in (1, 90, 91, 92, 93)))
    with pytest.raises(UserError, match=r"4 of the 5 frames .* 90 l"):
        build_source(config_for("kitti_raw", tmp_path, split=str(split)))
    assert len(build_source(config_for("kitti_raw", tmp_path, split=str(split), max_bad_images=4))) == 1


@pytest.mark.parametrize("line", ["drive", f"{DRIVE} one l", f"{DRIVE} 1 m", f"{DRIVE} 1 l extra", ""])
def test_broken_split_lines_are_named(tmp_path, line):
    write_kitti_raw(tmp_path)
    split = tmp_path / "split.txt"
    split.write_text(line)
    with pytest.raises(UserError, match=r"split\.txt"):
        build_source(config_for("kitti_raw", tmp_path, split=str(split)))


def test_drives_are_chosen_by_name_or_number(tmp_path):
    other = f"{DAY}/{DAY}_drive_0002_sync"
    write_kitti_raw(tmp_path)
    write_kitti_raw(tmp_path, numbers=range(3), drive=other)
    for name in (other, other.split("/")[1], "0002"):
        source = build_source(config_for("kitti_raw", tmp_path, sequences=(name,)))
        assert {view.target.clip for view in source.views} == {other}
    with pytest.raises(UserError, match=r"0007.*not under"):
        build_source(config_for("kitti_raw", tmp_path, sequences=("0007",)))


def test_missing_recording_or_calibration(tmp_path):
    with pytest.raises(UserError, match=r"no drive .* found under"):
        build_source(config_for("kitti_raw", tmp_path))
    write_kitti_raw(tmp_path)
    calibration = tmp_path / DAY / "calib_cam_to_cam.txt"
    calibration.write_text(calibration.read_text().replace("P_rect_03", "P_nonsense"))
    with pytest.raises(UserError, match="no row P_rect_03"):
        build_source(config_for("kitti_raw", tmp_path))
    calibration.unlink()
    with pytest.raises(UserError, match=r"cannot read calibration .*calib_cam_to_cam\.txt"):
        build_source(config_for("kitti_raw", tmp_path))


@pytest.mark.parametrize(
    ("row", "text", "sentence"),
    [
        ("P_rect_02", "", "holds 0 numbers, not 12"),
        ("P_rect_03", "1 2 3", "holds 3 numbers, not 12"),
        ("R_rect_00", "1 0 0 0 1 0 0 0", "holds 8 numbers, not 9"),
        ("S_rect_02", "160", "holds 1 numbers, not 2"),
        ("S_rect_02", "0 48", "no size of an image"),
        ("P_rect_02", "9e1 0 79 0 0 80 x 0 0 0 1 0", "no number"),
        ("P_rect_02", "90 0 nan 0 0 80 23 0 0 0 1 0", "cannot be"),
        ("P_rect_02", "0 0 0 0 0 0 0 0 0 0 0 0", "no projection"),
    ],
)
def test_damaged_rows_are_named_with_file_and_line(tmp_path, row, text, sentence):
    write_kitti_raw(tmp_path)
    path = tmp_path / DAY / "calib_cam_to_cam.txt"
    lines = path.read_text().splitlines()
    (number,) = (i for i, line in enumerate(lines) if line.startswith(f"{row}:"))
    lines[number] = f"{row}: {text}"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=rf"calib_cam_to_cam\.txt line {number + 1}: row {row} .*{sentence}"):
        build_source(config_for("kitti_raw", tmp_path))


def test_left_and_right_are_not_swapped(tmp_path):
    write_kitti_raw(tmp_path)
    write_scan(tmp_path, 1, np.array([[0.0, 0, 9]]))
    path = tmp_path / DAY / "calib_cam_to_cam.txt"
    right = path.read_text()
    path.write_text(right.replace("rect_02", "x").replace("rect_03", "rect_02").replace("x", "rect_03"))
    for read in (lambda: build_source(config_for("kitti_raw", tmp_path)), lambda: lidar_samples(tmp_path)):
        with pytest.raises(UserError, match=r"row P_rect_03 stands 0\.54 m to the left of that of P_rect_02"):
            read()


def test_a_row_that_stands_there_twice_says_the_same(tmp_path):
    write_kitti_raw(tmp_path)
    path = tmp_path / DAY / "calib_cam_to_cam.txt"
    path.write_text(path.read_text() * 2)
    assert len(build_source(config_for("kitti_raw", tmp_path))) == 4
    path.write_text(path.read_text() + "P_rect_02: 9 0 7 0 0 8 2 0 0 0 1 0\n")
    with pytest.raises(UserError, match=r"calib_cam_to_cam\.txt says P_rect_02 in lines 4 and 13, with other numbers"):
        build_source(config_for("kitti_raw", tmp_path))


def test_an_impossible_camera_names_its_file(tmp_path):
    write_kitti_raw(tmp_path)
    path = tmp_path / DAY / "calib_cam_to_cam.txt"
    path.write_text("\ufeff" + path.read_text().replace("S_rect_02: 1.6", "S_rect_02: 0.16"))
    with pytest.raises(UserError, match=r"calib_cam_to_cam\.txt, row P_rect_02: principal point"):
        build_source(config_for("kitti_raw", tmp_path))


def test_other_systems_files_among_speeds_and_times(tmp_path):
    write_kitti_raw(tmp_path)
    write_oxts(tmp_path, speeds=(10.0,) * 4, seconds=(1.0, 1.1, 1.2, 1.3))
    data = tmp_path / DRIVE / "oxts" / "data"
    (data / "._0000000000.txt").write_bytes(b"\0\5\x16\7")
    (data / "readme.txt").write_text("speeds")
    source = build_source(config_for("kitti_raw", tmp_path))
    np.testing.assert_allclose(source[1].speed, [1.0, 1.0], rtol=1e-6)
    (data / "0000000001.txt").write_text("nan " * 30)
    with pytest.raises(UserError, match=r"cannot read the speed in .*0000000001\.txt"):
        build_source(config_for("kitti_raw", tmp_path))
    (data.parent / "timestamps.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match=r"cannot read .*timestamps\.txt"):
        build_source(config_for("kitti_raw", tmp_path))


def test_images_of_another_size_than_the_calibration_are_refused(tmp_path):
    write_kitti_raw(tmp_path)
    write_image(tmp_path / DRIVE / "image_02/data/0000000001.png", picture(1, (24, 80)))
    with pytest.raises(BadImage, match="80x24 pixels, but its camera is for 160x48"):
        build_source(config_for("kitti_raw", tmp_path))[0]


# LiDAR ---------------------------------------------------------------------------------------------------------------


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

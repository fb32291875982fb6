"""KITTI raw: layouts, calibration and speed."""

import numpy as np
import pytest
from PIL import Image

from robustdepth.data.calibration import Calibration
from robustdepth.data.images import BadImage
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
    config_for,
    picture,
    point_at,
    projection,
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

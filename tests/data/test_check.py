"""What `prepare check` finds in recordings: motion, gaps, black frames, and what cannot be used."""

import cv2
import numpy as np
import pytest

from robustdepth.data.check import check, field_of_view, parallax_of
from robustdepth.errors import UserError
from robustdepth.geometry.camera import make_camera
from tests.prepare_command import run_prepare
from tests.recordings import (
    CAMERA,
    data_options,
    truncate,
    write_clip,
    write_image,
    write_kitti_odometry,
    write_kitti_raw,
)


def test_field_of_view_is_that_of_the_image_edges():
    assert field_of_view(make_camera(50.0, 25.0, 49.5, 24.5, (50, 100))) == pytest.approx((90.0, 90.0))
    # The principal point at the left edge: everything lies to one side.
    assert field_of_view(make_camera(100.0, 100.0, -0.5, 49.5, (100, 100)))[0] == pytest.approx(45.0)


def test_parallax_is_what_no_rotation_explains():
    camera = make_camera(400.0, 400.0, 319.5, 95.5, (192, 640))
    rng = np.random.default_rng(0)
    points = rng.uniform((0, 0), (640, 192), (300, 2))
    rays = np.column_stack([(points - camera.center) / camera.focal, np.ones(300)])

    def see(world: np.ndarray) -> np.ndarray:
        return camera.focal * world[:, :2] / world[:, 2:] + camera.center

    rotation, _ = cv2.Rodrigues(np.array([0.01, 0.05, -0.02]))
    assert np.abs(see(rays @ rotation.T) - points).mean() > 10
    assert parallax_of(points, see(rays @ rotation.T), camera) < 1e-3
    depth = rng.uniform(4, 40, (300, 1))
    sideways = see((rays * depth) @ rotation.T + np.array([0.5, 0, 0]))
    assert parallax_of(points, sideways, camera) > 2


def moving_clip(folder, steps, count: int = 6) -> None:
    """A texture that moves `steps` pixels a frame."""
    write_clip(folder, count=0, camera=CAMERA | {"width": 320, "height": 96, "cx": 159.5, "cy": 47.5})
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 255, (96, 400, 3), np.uint8), (0, 0), 1.5)
    for number in range(count):
        write_image(folder / f"{number}.png", texture[:, number * steps : number * steps + 320])


def test_check_tells_static_frames_from_moving_ones(tmp_path, monkeypatch, capsys):
    moving_clip(tmp_path / "moves", steps=4)
    moving_clip(tmp_path / "stands", steps=0)
    moves, stands = check(data_options("frames", tmp_path))
    assert (moves.name, moves.frames, moves.pairs, moves.static) == ("moves", 6, 5, 0)
    assert moves.motion == pytest.approx(8.0, abs=0.2)  # 4 pixels of 320 are 8 of 640
    assert (stands.static, stands.motion) == (5, pytest.approx(0.0, abs=1e-3))
    run_prepare(monkeypatch, "check", tmp_path)
    text = capsys.readouterr().out
    assert "moves: 6 frames of 320x96" in text
    assert "static: 5 of 5 pairs" in text
    assert "the camera often stands still" in text


def test_check_names_gaps_and_black_frames(tmp_path, monkeypatch, capsys):
    moving_clip(tmp_path / "clip", steps=4)
    for number, new in ((4, 400), (5, 401)):
        (tmp_path / "clip" / f"{number}.png").rename(tmp_path / "clip" / f"{new}.png")
    write_clip(tmp_path / "dark", count=0)
    for number in range(6):
        write_image(tmp_path / "dark" / f"{number}.png", np.full((48, 160, 3), number, np.uint8))
    clip, dark = check(data_options("frames", tmp_path))
    assert (clip.gaps, clip.pairs, clip.flat) == (("3 to 400",), 4, 0)
    assert (dark.gaps, dark.pairs, dark.flat) == ((), 5, 6)
    run_prepare(monkeypatch, "check", tmp_path)
    text = capsys.readouterr().out
    assert "1 gaps in the numbering, over which no views are paired: 3 to 400" in text
    assert "6 frames are black or of one colour" in text


def test_check_takes_images_of_any_shape(tmp_path):
    write_clip(
        tmp_path / "strip", count=0, camera=CAMERA | {"width": 4000, "height": 2, "fx": 2000, "cx": 2000, "cy": 1}
    )
    for number in range(3):
        write_image(tmp_path / "strip" / f"{number}.png", np.full((2, 4000, 3), 90, np.uint8))
    (strip,) = check(data_options("frames", tmp_path))
    assert (strip.size, strip.pairs, strip.static, strip.flat) == ((2, 4000), 2, 2, 3)


def test_check_doubts_focal_lengths_that_differ(tmp_path):
    write_clip(tmp_path / "usual", count=3, camera=CAMERA | {"fy": CAMERA["fx"]})
    write_clip(tmp_path / "wrong", count=3, camera=CAMERA | {"fy": 2 * CAMERA["fx"]})
    usual, wrong = check(data_options("frames", tmp_path))
    assert "times fx" not in str(usual)
    assert "warning: fy is 2 times fx, which is right for stretched images only" in str(wrong)


def test_check_reports_the_stereo_rig(tmp_path):
    write_kitti_odometry(tmp_path, "06", cameras=[0, 1])
    (report,) = check(data_options("kitti_odometry", tmp_path))
    assert (report.frames, report.stereo, report.baseline) == (4, 4, pytest.approx(0.54))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cx": 200}, "principal point"),
        ({"fx": -1}, "focal lengths must be positive"),
        ({"width": 320}, "if the images were resized"),
        ({"width": CAMERA["height"], "height": CAMERA["width"], "cx": 1, "cy": 1}, "width and height are swapped"),
    ],
)
def test_check_rejects_impossible_intrinsics(tmp_path, monkeypatch, change, message):
    write_clip(tmp_path / "clip", camera=CAMERA | change)
    with pytest.raises(UserError, match=message):
        run_prepare(monkeypatch, "check", tmp_path)


def test_check_rejects_one_frame_unreadable_images_and_empty_folders(tmp_path, monkeypatch):
    write_kitti_raw(tmp_path / "raw", numbers=[3], sides="l")
    with pytest.raises(UserError, match="has one frame only"):
        run_prepare(monkeypatch, "check", tmp_path / "raw", "--data=kitti_raw")
    write_clip(tmp_path / "clip")
    truncate(tmp_path / "clip" / "frame_9.png")
    with pytest.raises(UserError, match=r"1 of 4 images are bad, the first: .*frame_9\.png"):
        run_prepare(monkeypatch, "check", tmp_path / "clip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no camera\.json"):
        run_prepare(monkeypatch, "check", tmp_path / "empty")

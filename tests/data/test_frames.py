"""Your own footage: folders, videos, camera.json, and clear words about what cannot be right."""

import json

import cv2
import numpy as np
import pytest

from robustdepth.data.source import build_source
from robustdepth.errors import UserError
from tests.recordings import CAMERA, CX, CY, FX, FY, SIZE, config_for, picture, write_clip, write_image


def test_a_folder_of_images_in_natural_order(tmp_path):
    write_clip(tmp_path / "clip")  # frame_8, frame_9, frame_10, frame_11
    source = build_source(config_for("frames", tmp_path / "clip", size=SIZE))
    assert len(source) == 4
    example = source[2]
    np.testing.assert_array_equal(example.target, picture(2))
    np.testing.assert_array_equal(example.sources, np.stack([picture(1), picture(3)]))
    np.testing.assert_allclose([*example.focal, *example.center], [FX, FY, CX, CY])
    assert not example.speed.any()


def test_folder_of_clips_never_mixes_them(tmp_path):
    write_clip(tmp_path / "a", count=2)
    write_clip(tmp_path / "deep" / "b", count=3, camera=CAMERA | {"fps": 10, "speed": 5})
    source = build_source(config_for("frames", tmp_path))
    assert [(view.target.clip, view.target.number) for view in source.views] == [
        ("a", 0), ("a", 1), ("deep/b", 0), ("deep/b", 1), ("deep/b", 2)
    ]  # fmt: skip
    assert source[1].source_valid.tolist() == [True, False]
    np.testing.assert_allclose(source[3].speed, [0.5, 0.5])
    assert len(build_source(config_for("frames", tmp_path, sequences=("b",)))) == 3


def test_right_images_make_a_stereo_rig(tmp_path):
    write_clip(tmp_path / "rig", camera=CAMERA | {"baseline": 0.12}, right=True)
    (tmp_path / "rig" / "right" / "frame_9.png").unlink()
    source = build_source(config_for("frames", tmp_path, size=SIZE, views=("previous", "stereo")))
    examples = {view.target.key[1:]: source[i] for i, view in enumerate(source.views)}
    np.testing.assert_array_equal(examples[0, "l"].sources[1], picture(50))
    np.testing.assert_array_equal(examples[0, "r"].sources[1], picture(0))
    np.testing.assert_allclose([examples[0, "l"].baseline, examples[0, "r"].baseline], [0.12, -0.12])
    assert examples[1, "l"].source_valid.tolist() == [True, False]
    assert (1, "r") not in examples


@pytest.fixture
def video(tmp_path, monkeypatch):
    """A video of six frames at 20 frames per second, with a camera.json and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "footage"
    folder.mkdir()
    writer = cv2.VideoWriter(str(folder / "drive.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20, SIZE[::-1])
    for number in range(6):
        writer.write(picture(number)[..., ::-1])
    writer.release()
    (folder / "camera.json").write_text(json.dumps(CAMERA | {"speed": 4}))
    return folder / "drive.avi"


def test_a_video_is_read_in_random_order(video):
    for root in (video, video.parent):
        source = build_source(config_for("frames", root, size=SIZE))
        assert len(source) == 6
        for index in (4, 1):
            np.testing.assert_allclose(source[index].target.astype(float), picture(index), atol=12)
            np.testing.assert_allclose(source[index].sources[1].astype(float), picture(index + 1), atol=12)
        np.testing.assert_allclose(source[1].speed, 4 / 20, rtol=1e-5)


def test_a_video_is_unpacked_once(video, monkeypatch):
    build_source(config_for("frames", video))
    monkeypatch.setattr(cv2, "imwrite", None)  # a second unpacking would fail
    assert len(build_source(config_for("frames", video))) == 6


def test_wide_video_is_unpacked_smaller_with_its_camera(video, monkeypatch):
    monkeypatch.setattr("robustdepth.data.video.MAX_WIDTH", 80)
    frame = build_source(config_for("frames", video)).views[0].target
    assert frame.camera.size == (24, 80)
    np.testing.assert_allclose([*frame.camera.focal, *frame.camera.center], [FX / 2, FY / 2, 39.25, 11.25])


def test_videos_that_cannot_be_used(video):
    (video.parent / "camera.json").write_text(json.dumps(CAMERA | {"width": 320}))
    with pytest.raises(UserError, match=r"160x48 pixels, but its camera\.json is for 320x48"):
        build_source(config_for("frames", video))
    video.write_bytes(b"not a video")
    with pytest.raises(UserError, match=r"cannot decode video .*drive\.avi"):
        build_source(config_for("frames", video))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fx": -90}, r"camera\.json: focal lengths must be positive"),
        ({"cx": 400}, r"camera\.json: principal point .* lies outside the image of 160x48"),
        ({"fy": "80"}, "\"fy\" is '80', but must be a number"),
        ({"fy": float("nan")}, '"fy" is nan, but must be a number'),
        ({"width": 0}, '"width" is 0, but must be positive'),
        ({"focal": 3}, 'unknown entry "focal"'),
        ({"speed": 3}, 'gives "speed" but no "fps"'),
        ({"baseline": 0.1}, "holds no image named like one in"),
        (
            {"width": 320, "height": 96, "fx": 180, "fy": 160, "cx": 158.5, "cy": 46.5},
            "width=160, height=48, fx=90.00, fy=80.00, cx=79.00, cy=23.00",
        ),
    ],
)
def test_impossible_cameras(tmp_path, change, message):
    write_clip(tmp_path / "clip", camera=CAMERA | change)
    with pytest.raises(UserError, match=message):
        build_source(config_for("frames", tmp_path))


def test_missing_entries_and_broken_files(tmp_path):
    write_clip(tmp_path / "clip", camera={name: value for name, value in CAMERA.items() if name != "cy"})
    with pytest.raises(UserError, match='lacks "cy"'):
        build_source(config_for("frames", tmp_path))
    for text in ("{", "[]"):
        (tmp_path / "clip" / "camera.json").write_text(text)
        with pytest.raises(UserError, match=r"camera\.json"):
            build_source(config_for("frames", tmp_path))
    (tmp_path / "clip" / "camera.json").unlink()
    with pytest.raises(UserError, match=r"no camera\.json in"):
        build_source(config_for("frames", tmp_path))
    with pytest.raises(UserError, match="does not exist"):
        build_source(config_for("frames", tmp_path / "nowhere"))


def test_empty_folder_and_single_image(tmp_path):
    write_clip(tmp_path / "clip", count=0)
    with pytest.raises(UserError, match="holds 0 images"):
        build_source(config_for("frames", tmp_path))
    write_image(tmp_path / "clip" / "only.png", picture(0))
    with pytest.raises(UserError, match="holds 1 images, but a clip needs two"):
        build_source(config_for("frames", tmp_path))

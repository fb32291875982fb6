"""Videos as own footage: read in any order, unpacked once, and clear words about what cannot be used."""

import json
import os
import pwd
import struct
import tempfile

import cv2
import numpy as np
import pytest

from robustdepth.data.source import build_source
from robustdepth.data.video import VideoReader
from robustdepth.errors import UserError
from tests.recordings import (
    CAMERA,
    FX,
    FY,
    SIZE,
    config_for,
    picture,
)


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
    with pytest.raises(UserError, match=r"drive\.avi cannot be decoded as a video"):
        build_source(config_for("frames", video))


def test_a_clock_is_no_rate(video):
    """Files of frames at any times give their clock's 90,000 ticks a second; OpenCV shows them as frames."""
    content = bytearray(video.read_bytes())
    place = content.index(b"strh") + 28  # of AVI's scale and rate
    assert struct.unpack_from("<II", content, place) == (1, 20)
    content[place : place + 8] = struct.pack("<II", 1, 90_000)
    video.write_bytes(content)
    with pytest.raises(UserError, match='gives "speed" but no "fps"'):
        build_source(config_for("frames", video))
    (video.parent / "camera.json").write_text(json.dumps(CAMERA | {"speed": 4, "fps": 20}))
    np.testing.assert_allclose(build_source(config_for("frames", video))[1].speed, 4 / 20, rtol=1e-5)


def test_a_pipe_is_no_video(tmp_path):
    os.mkfifo(tmp_path / "live.mp4")
    with pytest.raises(UserError, match=r"live\.mp4 is no file"):
        VideoReader(tmp_path / "live.mp4")


def test_a_video_that_ends_early_gives_the_frames_it_has(video, caplog):
    noise = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 20, SIZE[::-1])
    for _ in range(40):
        writer.write(noise.integers(0, 255, (*SIZE, 3), np.uint8))
    writer.release()
    content = bytearray(video.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 3] = bytes(len(content) // 3)
    video.write_bytes(content)
    assert 10 < len(build_source(config_for("frames", video))) < 30
    assert "of its 40 frames: it is damaged. These" in caplog.text


@pytest.mark.parametrize("home", ["unknown", "not a folder"])
def test_a_video_is_unpacked_without_a_home(video, home, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if home == "unknown":
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(pwd, "getpwuid", lambda user: {}[user])  # as for a user id that no account has
    else:
        (tmp_path / "file").touch()
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert len(build_source(config_for("frames", video))) == 6
    assert len(list((tmp_path / f"robustdepth-{os.getuid()}" / "videos").glob("*/*.jpg"))) == 6

"""Films that are predicted keep their rate, and damaged ones are named."""

import os
import resource

import cv2
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.prediction.video import VideoWriter, writable_rate
from tests.prediction_files import SIZE, predict, red, save_video

pytestmark = pytest.mark.usefixtures("made_up_network")


def test_a_video_that_ends_early_keeps_its_frames_and_is_named(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (*SIZE, 3), np.uint8) for _ in range(40)]
    film = save_video(tmp_path / "film.avi", frames)
    content = bytearray(film.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 3] = bytes(len(content) // 3)  # a hole, while the header stays whole
    film.write_bytes(content)
    with pytest.raises(UserError, match=r"film.avi could be decoded for only \d+ of its 40 frames"):
        predict([film], tmp_path / "out", kinds=("color", "npz"))
    assert (tmp_path / "out" / "film" / "000000_depth.npz").is_file()


@pytest.mark.parametrize("rate", [66.667, 196.263, 29.97002997, 23.976, 0.5, 500.0])
def test_films_keep_their_rate(tmp_path, rate):
    film = save_video(tmp_path / "film.avi", [red(80), red(120), red(160)], rate)
    predict([film], tmp_path / "out", kinds=("color",))
    video = cv2.VideoCapture(str(tmp_path / "out" / "film_color.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(rate, rel=1e-4)
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_a_full_disk_leaves_no_half_film(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name in ("film.mp4", "film.webm"):
        whole, cut = VideoWriter(tmp_path / name, 12.0, SIZE), VideoWriter(tmp_path / f"cut_{name}", 12.0, SIZE)
        for frame in rng.integers(0, 255, (40, *SIZE, 3), np.uint8):
            whole.write(frame)
            cut.write(frame)
        whole.close()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, limits[1]))
        try:
            with pytest.raises(UserError, match=rf"cut_{name} could not be written whole"):
                cut.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert [path.name for path in tmp_path.glob("*.*") if name in path.name] == [name]


def test_rates_that_no_film_has_are_brought_into_range():
    assert [writable_rate(rate) for rate in (1e-9, 90_000.0, 1e12)] == [0.1, 65_535.0, 65_535.0]


def test_a_name_that_is_no_utf8_is_told_and_costs_no_other_film(tmp_path):
    """As from an archive of another system; OpenCV ends the whole process at such a name."""
    film = save_video(tmp_path / "film.avi", [red(80)] * 3)
    strange = tmp_path / os.fsdecode(b"caf\xe9.avi")
    strange.write_bytes(film.read_bytes())
    with pytest.raises(UserError, match=r"1 of the inputs .*\n.*caf\\udce9\.avi is not in UTF-8.*: rename it"):
        predict([strange, film], tmp_path / "out", kinds=("npz",))
    assert (tmp_path / "out" / "film" / "000002_depth.npz").is_file()
    with pytest.raises(UserError, match=r"caf\\udce9\.mp4 is not in UTF-8"):
        VideoWriter(strange.with_suffix(".mp4"), 10.0, SIZE)


def test_an_infinite_rate_is_refused_at_once(tmp_path, monkeypatch):
    opened = cv2.VideoCapture

    class Hurried:
        """A video whose header gives an impossible rate."""

        def __init__(self, path: str):
            self.isOpened = opened(path).isOpened

        def get(self, name: int) -> float:
            return float("inf") if name == cv2.CAP_PROP_FPS else 32.0

    film = save_video(tmp_path / "film.avi", [red(80)] * 3)
    monkeypatch.setattr(cv2, "VideoCapture", Hurried)
    with pytest.raises(UserError, match=r"film\.avi says that it has inf frames per second: convert it"):
        predict([film], tmp_path / "out")
    assert not (tmp_path / "out" / "film").exists()
    with pytest.raises(UserError, match="cannot have inf frames"):
        VideoWriter(tmp_path / "film.mp4", float("inf"), SIZE)

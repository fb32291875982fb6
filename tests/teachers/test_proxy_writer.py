"""Proxies on disk: exact to 1/256 pixel, the same after any interruption, and never those of something else."""

import json
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from robustdepth.data.images import BadImage
from robustdepth.data.source import open_recording
from robustdepth.data.stereo.proxies import decode, encode, open_proxies, read_numbers
from robustdepth.data.stereo.sgm import sgm_disparity
from robustdepth.errors import UserError
from robustdepth.teachers import proxy_writer
from robustdepth.teachers.proxy_writer import Method, stereo_pairs, write_proxies
from tests.checkpoints import contents
from tests.prepare_command import run_prepare
from tests.recordings import CAMERA, SIZE, data_options, truncate, write_kitti_odometry
from tests.stereo_rig import DISPARITY, frames_of, run_proxies, write_rig


def test_numbers_are_kittis_with_the_check_in_the_lowest_bit(tmp_path):
    rng = np.random.default_rng(0)
    disparity = rng.uniform(0.01, 255, (40, 60)).astype(np.float32)
    disparity[:5] = 0
    disparity[5] = 0.001  # known, though nearly nothing
    failed = (rng.random((40, 60)) < 0.3) & (disparity > 0)
    values = encode(disparity, failed)
    assert values.dtype == np.uint16
    again, failed_again = decode(values)
    np.testing.assert_array_equal(failed_again, failed)
    np.testing.assert_array_equal(again > 0, disparity > 0)
    assert np.max(np.abs(again - disparity)[disparity > 0.01]) <= 1 / 256
    # As KITTI's development kit reads it, uint16 / 256 with 0 for unknown: the check's bit adds at most 1/256 pixel.
    Image.fromarray(values).save(tmp_path / "proxy.png")
    with Image.open(tmp_path / "proxy.png") as image:
        by_kitti = np.array(image).astype(np.float32) / 256
    error = np.abs(by_kitti - disparity)[disparity != np.float32(0.001)]
    passed = ~failed[disparity != np.float32(0.001)]
    assert np.max(error) <= 2 / 256
    assert np.max(error[passed]) <= 1 / 256


@pytest.mark.parametrize("value", [256.5, np.nan, np.inf])
def test_disparities_beyond_the_range_are_refused(value):
    with pytest.raises(UserError, match=r"beyond the range of a proxy, 256\.0 pixels"):
        encode(np.full((4, 4), value, np.float32), np.zeros((4, 4), bool))


def test_proxies_of_both_views_are_read_back(tmp_path, monkeypatch, capsys):
    write_rig(tmp_path / "clip")
    run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "out")
    assert "holds the disparities of 8 images" in capsys.readouterr().out
    recording = open_recording(data_options("frames", tmp_path / "clip"))
    proxies = open_proxies(tmp_path / "out")
    for frame in recording.frames:
        disparity, failed = proxies.read(frame, SIZE)
        middle = np.s_[:, 10:-10]  # both views show it
        assert np.mean(np.abs(disparity[middle] - DISPARITY) < 0.3) > 0.95
        assert np.mean(failed[middle]) < 0.02
    left, right = (recording.read(recording.frames[i], SIZE) for i in (0, 4))
    assert (recording.frames[0].key[1:], recording.frames[4].key[1:]) == ((0, "l"), (0, "r"))
    expected, expected_failed = sgm_disparity(left, right, 32)
    disparity, failed = proxies.read(recording.frames[0], SIZE)
    np.testing.assert_allclose(disparity, expected, atol=1 / 256)
    np.testing.assert_array_equal(failed, expected_failed)
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert metadata["files"] == 8
    assert metadata["clips"]["clip"]["pairs"] == 4
    known = [np.mean(proxies.read(frame, SIZE)[0] > 0) for frame in recording.frames]
    assert metadata["known"] == pytest.approx(np.mean(known), abs=1e-6)


def test_other_sizes_get_the_nearest_pixel_in_their_own_pixels(tmp_path, monkeypatch):
    write_rig(tmp_path / "clip", count=2)
    run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "out", "--height=48", "--width=80")
    read_numbers(tmp_path / "out" / "clip" / "r" / "0000000001.png", (48, 80))  # refuses any other size
    frame, proxies = frames_of(tmp_path / "clip")[1], open_proxies(tmp_path / "out")
    disparity, failed = proxies.read(frame, (48, 80))
    double, failed_double = proxies.read(frame, (96, 160))
    np.testing.assert_array_equal(double, 2 * np.repeat(np.repeat(disparity, 2, axis=0), 2, axis=1))
    np.testing.assert_array_equal(failed_double, np.repeat(np.repeat(failed, 2, axis=0), 2, axis=1))
    third, _ = proxies.read(frame, (16, 80))
    np.testing.assert_array_equal(third, disparity[1::3])
    assert np.median(disparity[:, 10:-10]) == pytest.approx(DISPARITY / 2, abs=0.3)


def test_packed_frames_read_the_proxies_of_the_recording(tmp_path, monkeypatch):
    write_kitti_odometry(tmp_path / "raw", "06", cameras=[0, 1])
    size = ("--height=32", "--width=96")
    words = ["kitti_odometry", f"--source={tmp_path / 'raw'}", f"--output={tmp_path / 'packed'}", *size]
    run_prepare(monkeypatch, *words)
    run_proxies(monkeypatch, tmp_path / "raw", tmp_path / "out", data="kitti_odometry")
    proxies = open_proxies(tmp_path / "out")
    raw = {frame.key: frame for frame in frames_of(tmp_path / "raw", "kitti_odometry")}
    for frame in frames_of(tmp_path / "packed", "packed"):
        np.testing.assert_array_equal(proxies.read(frame, (32, 96))[0], proxies.read(raw[frame.key], (32, 96))[0])


class Killed(BaseException):
    """The end of a process, as no handler expects it."""


def killer(after: int) -> Callable[[bytes], None]:
    """Raises `Killed` from the file `after` on, once that lies half written."""
    count = 0
    original = proxy_writer.Image.Image.save

    def save(image, path, *arguments):
        nonlocal count
        count += 1
        original(image, path, *arguments)
        if count > after:
            truncate(path)
            raise Killed

    return save


def test_killed_and_continued_equals_uninterrupted(tmp_path, monkeypatch, capsys):
    write_rig(tmp_path / "clip")
    run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "whole")
    for after in (3, 0, 2):
        with monkeypatch.context() as patch:
            patch.setattr(proxy_writer.Image.Image, "save", killer(after))
            with pytest.raises(Killed):
                run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "resumed")
        with pytest.raises(UserError, match=r"are not finished: run .* again, it goes on"):
            open_proxies(tmp_path / "resumed")
    run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "resumed")
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "resumed").rglob("*")}
    capsys.readouterr()
    run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "resumed")
    assert "already holds the proxies of 4 pairs" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "resumed").rglob("*")} == before


def test_another_preparation_or_folder_is_left_alone(tmp_path, monkeypatch):
    write_rig(tmp_path / "clip", count=2)
    run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "out")
    with pytest.raises(UserError, match=r"another preparation \(method differs, at max_disparity\)"):
        run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "out", "--max_disparity=64")
    with pytest.raises(UserError, match=r"another preparation \(clips differs, at clip\)"):
        run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "out", "--height=32", "--width=96")
    with pytest.raises(UserError, match="not empty and holds no proxies"):
        run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "clip")


def test_a_full_disk_is_told_and_leaves_no_half_file(tmp_path, monkeypatch):
    write_rig(tmp_path / "clip", count=2)

    def save(image, path, *arguments):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(proxy_writer.Image.Image, "save", save)
    with pytest.raises(UserError, match=r"No space left on device; make room, then run the same command again"):
        run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.png"))


def test_unreadable_images_get_no_proxies_until_they_are_mended(tmp_path, monkeypatch):
    write_rig(tmp_path / "clip")
    good = (tmp_path / "clip" / "2.png").read_bytes()
    truncate(tmp_path / "clip" / "2.png")
    run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "out")
    frames, proxies = frames_of(tmp_path / "clip"), open_proxies(tmp_path / "out")
    proxies.read(frames[1], SIZE)
    with pytest.raises(BadImage, match=r"has no proxy of 'clip 0000000002 l': run .*prepare proxies"):
        proxies.read(frames[2], SIZE)
    (tmp_path / "clip" / "2.png").write_bytes(good)
    run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "out")
    assert np.any(proxies.read(frames[2], SIZE)[0])


def test_damaged_and_foreign_proxies_are_refused(tmp_path, monkeypatch):
    write_rig(tmp_path / "clip", count=3)
    run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "out")
    frames, proxies = frames_of(tmp_path / "clip"), open_proxies(tmp_path / "out")
    folder = tmp_path / "out" / "clip" / "l"
    truncate(folder / "0000000000.png")
    Image.fromarray(np.zeros((20, 30), np.uint16)).save(folder / "0000000001.png")
    for number, reason in enumerate(("cannot read proxy", "it has 30x20 pixels, its image 160x48")):
        with pytest.raises(BadImage, match=rf"{reason}.*Delete it and run"):
            proxies.read(frames[number], SIZE)
    write_rig(tmp_path / "other" / "clip", count=2, camera=CAMERA | {"fx": 95.0})
    with pytest.raises(UserError, match=r"of another recording \(its focal is 0\.5625, not 0\.5938\)"):
        proxies.read(frames_of(tmp_path / "other")[0], SIZE)
    write_rig(tmp_path / "third", count=2)
    with pytest.raises(UserError, match="has no proxies of 'third', but of clip"):
        proxies.read(frames_of(tmp_path / "third")[0], SIZE)
    with pytest.raises(UserError, match=r"no proxies in .*: write them with"):
        open_proxies(tmp_path / "nowhere")
    shutil.copytree(tmp_path / "out", tmp_path / "damaged")
    truncate(tmp_path / "damaged" / "metadata.json")
    with pytest.raises(UserError, match=r"cannot read .*metadata\.json"):
        open_proxies(tmp_path / "damaged")


def test_a_network_that_answers_nonsense_is_stopped(tmp_path):
    write_rig(tmp_path / "clip", count=2)
    recording, pairs = stereo_pairs("frames", str(tmp_path / "clip"))
    nonsense = np.full(SIZE, np.nan, np.float32), np.zeros(SIZE, bool)
    method = Method({"name": "made up"}, lambda size: lambda left, right: (nonsense, nonsense), parallel=False)
    with pytest.raises(UserError, match="beyond the range"):
        write_proxies(recording, pairs, tmp_path / "out", method)

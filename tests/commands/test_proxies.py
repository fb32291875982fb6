"""The command `prepare proxies`: what it refuses, which pairs it takes, and what it asks a network."""

import flax.linen as nn
import numpy as np
import pytest

from robustdepth.data.source import open_recording
from robustdepth.data.stereo.proxies import open_proxies
from robustdepth.errors import UserError
from robustdepth.teachers.stereo_teacher import StereoTeacher, StereoView
from tests.recordings import SIZE, data_options, write_clip, write_kitti_odometry
from tests.stereo_rig import run_proxies, write_rig


def test_recordings_without_usable_pairs_are_refused(tmp_path, monkeypatch):
    write_clip(tmp_path / "mono")
    write_kitti_odometry(tmp_path / "odometry", "00", cameras=[0])
    for data, folder in (("frames", "mono"), ("kitti_odometry", "odometry")):
        with pytest.raises(UserError, match="no stereo pairs: the right images, the baseline or its sign are missing"):
            run_proxies(monkeypatch, tmp_path / folder, tmp_path / "out", data=data)
    write_rig(tmp_path / "swapped", swapped=True)
    with pytest.raises(UserError, match="the pair 'swapped 0' is swapped"):
        run_proxies(monkeypatch, tmp_path / "swapped", tmp_path / "out")
    write_kitti_odometry(tmp_path / "sign", "06", cameras=[0, 1])
    calibration = tmp_path / "sign" / "sequences" / "06" / "calib.txt"
    rows = calibration.read_text().replace("P1", "PX").replace("P0", "P1").replace("PX", "P0")
    calibration.write_text(rows)
    with pytest.raises(UserError, match=r"stands 0\.54 m to the left of that of P0, so the rows may be swapped"):
        run_proxies(monkeypatch, tmp_path / "sign", tmp_path / "out", data="kitti_odometry")


def test_what_the_command_does_not_know_is_refused(tmp_path, monkeypatch):
    write_rig(tmp_path / "clip", count=2)
    for arguments, method, message in (
        ((), "sgbm", "--method=sgbm is neither"),
        ((), "depth:", "--method=depth: names no network"),
        (("--height=48",), "sgm", "give both --height and --width"),
        (("--max_disparity=300",), "sgm", "between 1 and 255 pixels"),
        (("--max_disparity=64",), str(tmp_path), "is for sgm and depth:"),
    ):
        with pytest.raises(UserError, match=message):
            run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "out", *arguments, method=method)


def test_split_chooses_pairs(tmp_path, monkeypatch):
    write_rig(tmp_path / "clip")
    (tmp_path / "split.txt").write_text("clip 2 r\nclip 1 l\n")
    run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "out", f"--split={tmp_path / 'split.txt'}")
    files = sorted(str(path.relative_to(tmp_path / "out" / "clip")) for path in (tmp_path / "out").rglob("*.png"))
    assert files == [f"{side}/000000000{number}.png" for side in "lr" for number in (1, 2)]


def test_a_stereo_network_is_asked_for_both_views(tmp_path, monkeypatch):
    """A made-up network that answers with the red of its target, mirrored where the baseline is negative."""
    write_rig(tmp_path / "clip", count=2)

    class Teacher(StereoTeacher):
        def look(self, target, source, baseline):
            assert target.shape == source.shape == (1, *SIZE, 3)
            disparity = (target[..., 0] / 4 + 1).astype(np.float32)
            failed = np.broadcast_to(baseline[:, None, None] < 0, disparity.shape)
            nothing = np.zeros((1, 1, 1, 1), np.float32)
            return StereoView(disparity, failed, nothing, nothing)

    weights = {"w": np.arange(3.0)}
    (tmp_path / "teacher").mkdir()
    asked = []

    def load(path, size, mesh) -> Teacher:
        asked.append((path, size[1]))
        return Teacher(nn.Dense(1), dict(weights))

    monkeypatch.setattr("robustdepth.commands.proxies.load_teacher", load)
    run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "out", method=str(tmp_path / "teacher"))
    assert asked == [(str(tmp_path / "teacher"), SIZE[1])]
    recording = open_recording(data_options("frames", tmp_path / "clip"))
    proxies = open_proxies(tmp_path / "out")
    for frame in recording.frames:
        disparity, failed = proxies.read(frame, SIZE)
        np.testing.assert_allclose(disparity, recording.read(frame, SIZE)[..., 0] / 4 + 1, atol=1 / 256)
        assert np.all(failed == (frame.side == "r"))
    weights["w"] = weights["w"] + 1
    with pytest.raises(UserError, match=r"another preparation \(method differs, at checkpoint\)"):
        run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "out", method=str(tmp_path / "teacher"))

"""Packed frames: they train like the recording, and an interrupted preparation goes on."""

import json
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from robustdepth.data import pack
from robustdepth.data.images import BadImage, read_image
from robustdepth.data.source import build_source
from robustdepth.data.stream import train_stream
from robustdepth.errors import UserError
from tests.prepare_command import run_prepare
from tests.recordings import (
    CAMERA,
    DRIVE,
    config_for,
    picture,
    truncate,
    write_clip,
    write_kitti_odometry,
    write_kitti_raw,
    write_oxts,
)

RECORDS = "robustdepth_frames/1.0.0"


def pack_raw(monkeypatch, root, output, *arguments) -> None:
    run_prepare(
        monkeypatch, "kitti_raw", f"--source={root}", f"--output={output}", "--height=32", "--width=96", *arguments
    )


def test_packed_frames_train_like_the_recording(tmp_path, monkeypatch):
    write_kitti_raw(tmp_path / "raw")
    write_oxts(tmp_path / "raw", speeds=(10.0, 12.0, -4.0, 0.0), seconds=(1.0, 1.1, 1.25, 1.35))
    pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed")
    views = ("previous", "next", "stereo")
    raw = build_source(config_for("kitti_raw", tmp_path / "raw", views=views))
    packed = build_source(config_for("packed", tmp_path / "packed", views=views))
    assert {view.target.key for view in packed.views} == {view.target.key for view in raw.views}
    index = {view.target.key: i for i, view in enumerate(packed.views)}
    for i, view in enumerate(raw.views):
        expected, found = raw[i], packed[index[view.target.key]]
        for name in ("source_valid", "focal", "center", "baseline", "speed"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(found.target.astype(float), expected.target, atol=6)  # JPEG
        np.testing.assert_allclose(found.sources.astype(float), expected.sources, atol=6)
    assert sorted(path.name for path in (tmp_path / "packed").iterdir()) == ["robustdepth_frames"]


def test_raw_frames_are_exactly_those_of_the_recording(tmp_path, monkeypatch):
    write_kitti_raw(tmp_path / "raw", sides="l")
    pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed", "--encoding=raw")
    files = {path.name for path in (tmp_path / "packed").rglob("*") if path.is_file()}
    assert files == {"metadata.json", "pixels.array_record"}
    raw = build_source(config_for("kitti_raw", tmp_path / "raw"))
    packed = build_source(config_for("packed", tmp_path / "packed"))
    assert [view.target.key for view in packed.views] == [view.target.key for view in raw.views]
    for i in range(len(raw)):
        for name in ("target", "sources", "source_valid", "focal", "center"):
            np.testing.assert_array_equal(getattr(packed[i], name), getattr(raw[i], name), err_msg=name)
    halved = build_source(config_for("packed", tmp_path / "packed", size=(16, 48)))
    expected = cv2.resize(raw[0].target, (48, 16), interpolation=cv2.INTER_AREA)  # smooth images: any filter will do
    np.testing.assert_allclose(halved[0].target.astype(float), expected, atol=4)
    np.testing.assert_allclose(halved[0].focal, raw[0].focal / 2, rtol=1e-6)


def test_damaged_packed_frames_are_told(tmp_path, monkeypatch):
    write_kitti_raw(tmp_path / "raw", numbers=range(6), sides="l")
    pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed", "--encoding=raw")
    file = tmp_path / "packed" / RECORDS / "pixels.array_record"
    pixels = bytearray(file.read_bytes())
    pixels[pixels.index(picture_at(tmp_path / "raw", 2)[:64])] ^= 255
    file.write_bytes(pixels)
    source = build_source(config_for("packed", tmp_path / "packed"))
    with pytest.raises(BadImage, match=rf"{DRIVE} 0000000002 l .*pack it again"):
        source[2]
    assert source[4].source_valid.all()
    file.write_bytes(pixels[: len(pixels) // 2])
    with pytest.raises(UserError, match=r"pixels\.array_record is damaged"):
        build_source(config_for("packed", tmp_path / "packed"))


def test_damaged_descriptions_of_packed_frames_are_told(tmp_path, monkeypatch):
    write_kitti_raw(tmp_path / "raw", sides="l")
    pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed", "--encoding=raw")
    file = tmp_path / "packed" / RECORDS / "metadata.json"
    whole = json.loads(file.read_text())
    for text in ("", "[]", '{"identity": {}}', json.dumps(whole | {"frames": [{"clip": "a"}]}), "[" * 99_999):
        file.write_text(text)
        with pytest.raises(UserError, match=r"metadata\.json is damaged .* pack it again"):
            build_source(config_for("packed", tmp_path / "packed"))
    with pytest.raises(UserError, match=r"metadata\.json is damaged"):
        pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed", "--encoding=raw")
    (tmp_path / "other" / "unfinished").mkdir(parents=True)
    (tmp_path / "other" / "unfinished" / "job.json").write_text('{"fra')
    with pytest.raises(UserError, match=r"job\.json is damaged .* pack again"):
        pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "other")


def picture_at(root, number: int) -> bytes:
    """The pixels that are packed for a frame of the left camera."""
    return read_image(root / DRIVE / f"image_02/data/{number:010d}.png", (32, 96)).tobytes()


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_packed_stream_resumes_and_does_not_depend_on_threads(tmp_path, monkeypatch, encoding):
    write_kitti_raw(tmp_path / "raw")
    pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed", f"--encoding={encoding}")
    monkeypatch.setattr("robustdepth.data.source.CACHE_BYTES", 0)  # every frame is read from the records again
    config = config_for("packed", tmp_path / "packed", threads=0)
    stream = train_stream(config)
    reference = [next(stream) for _ in range(6)]
    config.data.threads = 4
    stream = train_stream(config)
    stream.set_state({"step": 2})
    for batch in reference[2:]:
        again = next(stream)
        np.testing.assert_array_equal(again.target, batch.target)
        np.testing.assert_array_equal(again.sources, batch.sources)


def test_split_packs_its_targets_and_their_views_only(tmp_path, monkeypatch):
    write_kitti_raw(tmp_path / "raw", numbers=range(8))
    (tmp_path / "split.txt").write_text(f"{DRIVE} 6 r\n{DRIVE} 2 l\n")
    pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed", f"--split={tmp_path / 'split.txt'}")
    source = build_source(config_for("packed", tmp_path / "packed"))
    assert [view.target.key[1:] for view in source.views] == [(6, "r"), (2, "l")]
    packed = json.loads((tmp_path / "packed" / RECORDS / "metadata.json").read_text())["frames"]
    assert sorted((frame["number"], frame["side"]) for frame in packed) == [
        (1, "l"), (2, "l"), (2, "r"), (3, "l"), (5, "r"), (6, "l"), (6, "r"), (7, "r")
    ]  # fmt: skip


def test_finished_preparation_is_left_alone_and_never_mixed(tmp_path, monkeypatch, capsys):
    write_kitti_raw(tmp_path / "raw")
    pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "packed").rglob("*")}
    pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed")
    assert "already prepared" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "packed").rglob("*")} == before
    with pytest.raises(UserError, match=r"holds another preparation \(size is \[32, 96\], not \[32, 128\]\)"):
        pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed", "--width=128")
    with pytest.raises(UserError, match=r"holds another preparation \(quality is 95, not exact\)"):
        pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed", "--encoding=raw")


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_interrupted_preparation_goes_on_without_decoding_again(tmp_path, monkeypatch, encoding):
    write_kitti_raw(tmp_path / "raw", numbers=range(6), sides="l")
    original, decoded = pack.open_recording, []

    def recording(stop_after: int):
        def open_recording(data):
            found = original(data)

            def read(frame, size):
                if len(decoded) >= stop_after:
                    raise KeyboardInterrupt
                decoded.append(frame.number)
                return found.read(frame, size)

            return type(found)(found.frames, read)

        return open_recording

    monkeypatch.setattr(pack, "open_recording", recording(3))
    with pytest.raises(KeyboardInterrupt):
        pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed", f"--encoding={encoding}")
    with pytest.raises(UserError, match=r"no packed frames .* \(again\)"):
        build_source(config_for("packed", tmp_path / "packed"))
    with pytest.raises(UserError, match="holds another preparation"):
        pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed", f"--encoding={encoding}", "--width=128")
    monkeypatch.setattr(pack, "open_recording", recording(100))
    pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed", f"--encoding={encoding}")
    assert sorted(decoded) == list(range(6))
    assert len(build_source(config_for("packed", tmp_path / "packed"))) == 6


def test_killed_preparation_goes_on(tmp_path):
    """The true binary, killed without warning in the middle, packs the same frames when run again."""
    write_kitti_raw(tmp_path / "raw", numbers=range(300), sides="l")
    command = [sys.executable, "-m", "robustdepth.prepare", "kitti_raw", "--source", tmp_path / "raw"]
    command += ["--output", tmp_path / "packed", "--height", "32", "--width", "96"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    unfinished = tmp_path / "packed" / "unfinished"
    while process.poll() is None and len(list(unfinished.glob("*.jpg"))) < 20:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "packed" / RECORDS).exists()
    subprocess.run(command, check=True, capture_output=True)
    source = build_source(config_for("packed", tmp_path / "packed", size=(32, 96)))
    assert len(source) == 300
    np.testing.assert_allclose(source[250].target.mean(), cv2.resize(picture(250), (96, 32)).mean(), atol=2)


def test_bad_images_are_left_out_up_to_a_limit(tmp_path, monkeypatch, caplog):
    write_kitti_raw(tmp_path / "raw", numbers=range(30), sides="l")
    truncate(tmp_path / "raw" / DRIVE / "image_02/data/0000000004.png")
    pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed")
    assert "0000000004.png" in caplog.text
    source = build_source(config_for("packed", tmp_path / "packed"))
    assert 4 not in {view.target.number for view in source.views}
    shutil.rmtree(tmp_path / "packed")
    for number in range(17):
        truncate(tmp_path / "raw" / DRIVE / f"image_02/data/{number:010d}.png")
    with pytest.raises(UserError, match="more than 16 images cannot be read"):
        pack_raw(monkeypatch, tmp_path / "raw", tmp_path / "packed")


def test_own_footage_and_odometry_can_be_packed(tmp_path, monkeypatch):
    write_clip(tmp_path / "clip", camera=CAMERA | {"baseline": 0.1}, right=True)
    write_kitti_odometry(tmp_path / "odometry", "00", cameras=[0])
    for name in ("frames", "kitti_odometry"):
        source = {"frames": tmp_path / "clip", "kitti_odometry": tmp_path / "odometry"}[name]
        run_prepare(monkeypatch, name, "--source", source, "--output", tmp_path / name, "--height=32", "--width=96")
        assert len(build_source(config_for("packed", tmp_path / name))) == 4

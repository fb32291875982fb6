"""The input benchmark: what it counts, what it concludes, and the command as a user runs it."""

import json
import sys
import time

import jax
import numpy as np
import pytest

from robustdepth import prepare
from robustdepth.data.bench import Reading, measure_reading, table, verdict
from robustdepth.data.recordings.clips import Recording
from robustdepth.data.source import ViewSource, build_source
from robustdepth.data.stream import train_stream
from robustdepth.errors import UserError
from tests.recordings import config_for, data_options, write_kitti_raw

SLEEP = 0.02  # seconds for one frame


@pytest.fixture
def slow(tmp_path) -> ViewSource:
    """A drive of two frames, so that each target has one of two views; reading a frame sleeps."""
    write_kitti_raw(tmp_path, numbers=range(2), sides="l")
    config = config_for("kitti_raw", tmp_path)
    recording = build_source(config).views

    def read(frame, size):
        time.sleep(SLEEP)
        return np.zeros((*size, 3), np.uint8)

    frames = [view.target for view in recording]
    return ViewSource(Recording(frames, read), config.data, (32, 96), keep=False)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_rates_are_those_of_a_source_of_known_speed(slow, tmp_path, threads):
    reading = measure_reading(config_for("kitti_raw", tmp_path, batch=2), slow, threads, seconds=1.0)
    assert reading.threads == threads
    fastest = max(threads, 1) / SLEEP  # a missing view is neither read nor counted
    assert 0.4 * fastest < reading.images_per_second < 1.3 * fastest  # what was read ahead counts too
    assert reading.samples_per_second == pytest.approx(reading.images_per_second / 2)
    assert reading.cpu_seconds_per_1000_images < 1000 * SLEEP / 2  # sleeping is not computing


def test_frames_are_decoded_again_only_where_they_are_not_kept(slow, tmp_path):
    reads = []

    def read(frame, size):
        reads.append(frame.number)
        return np.zeros((*size, 3), np.uint8)

    recording = Recording([view.target for view in slow.views], read)
    for keep, expected in ((True, [0, 1]), (False, [0, 1, 0, 1])):
        source = ViewSource(recording, data_options("kitti_raw", tmp_path, views=("next",)), (32, 96), keep=keep)
        assert source.fits
        reads.clear()
        for _ in range(2):
            assert source[0].sources.shape == (1, 32, 96, 3)
        assert reads == expected


def test_a_closed_stream_gives_no_more_batches(tmp_path):
    write_kitti_raw(tmp_path, sides="l")
    stream = train_stream(config_for("kitti_raw", tmp_path))
    next(stream)
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        next(stream)


def test_verdict_chooses_the_fewest_threads_that_suffice(tmp_path):
    readings = [Reading(1, 300.0, 100.0, 1.0), Reading(2, 600.0, 200.0, 1.0), Reading(4, 900.0, 300.0, 1.0)]
    data = data_options("kitti_raw", tmp_path)
    keeps_up, sentence = verdict(readings, 150.0, data)
    assert keeps_up
    assert "data.threads=2 reading reaches 200 samples/s, the model consumes 150" in sentence
    keeps_up, sentence = verdict(readings, 280.0, data)  # 300 is enough, but not with a quarter to spare
    assert keeps_up is False
    assert sentence.endswith("pack the frames: python -m robustdepth.prepare kitti_raw --encoding=raw.")
    keeps_up, sentence = verdict(readings, None, data)
    assert keeps_up is None
    assert "300 samples/s (data.threads=4)" in sentence


def test_table_shows_what_one_core_can_do():
    first, second = table([Reading(2, 1234.4, 411.0, 0.5)]).splitlines()
    assert first.split()[0] == "threads"
    assert second.split() == ["2", "1,234", "411", "0.50", "2,000"]


def bench(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare", "bench", *map(str, arguments)])
    prepare.main()


def test_the_command_measures_packed_frames_and_says_what_to_change(tmp_path, monkeypatch, capsys):
    write_kitti_raw(tmp_path / "raw", sides="l")
    advice = {"jpeg": "pack the frames again with --encoding=raw", "raw": "cores"}
    for encoding in ("jpeg", "raw"):
        folder = tmp_path / encoding
        command = ["prepare", "kitti_raw", f"--source={tmp_path / 'raw'}", f"--output={folder}", "--height=32"]
        monkeypatch.setattr(sys, "argv", [*command, "--width=96", f"--encoding={encoding}"])
        prepare.main()
        output = tmp_path / "found" / f"{encoding}.json"
        quick = (f"--source={folder}", "--height=32", "--width=96", "--batch=2", "--seconds=0.05", "--threads=0,2")
        bench(monkeypatch, *quick, "--consumes=1e9", f"--output={output}")
        out = capsys.readouterr().out
        found = json.loads(output.read_text())
        assert [reading["threads"] for reading in found["readings"]] == [0, 2]
        assert (found["size"], found["batch"], found["views"]) == ([32, 96], 2, ["previous", "next"])
        assert found["keeps_up"] is False
        assert found["verdict"] in out
        assert advice[encoding] in found["verdict"]
        bench(monkeypatch, *quick, "--consumes=0.001")
        assert "The input keeps up: with data.threads=0" in capsys.readouterr().out


def test_the_command_times_a_step_of_an_experiment(tmp_path, monkeypatch, capsys):
    write_kitti_raw(tmp_path / "raw", sides="lr")
    (tmp_path / "experiment.py").write_text("from tests.tiny import tiny_config\n\nget_config = tiny_config\n")
    flags = (f"--source={tmp_path / 'raw'}", "--data=kitti_raw", f"--config={tmp_path / 'experiment.py'}")
    with jax.numpy_dtype_promotion("standard"):  # Optax multiplies Python floats with its integer step count
        bench(monkeypatch, *flags, "--seconds=0.05", "--threads=1", f"--output={tmp_path / 'found.json'}")
    out = capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["size"], found["batch"], found["views"]) == ([32, 64], 8, ["stereo"])
    assert found["consumes"] > 0
    assert f"here: {found['consumes']:,.1f} samples/s" in out
    assert found["keeps_up"] == (found["readings"][0]["samples_per_second"] >= 1.25 * found["consumes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads=two"], "--threads=two: write whole numbers"),
        (["--seconds=0"], "must be positive"),
        (["--consumes=-3"], "must be positive"),
        (["--batch=-1"], "must be positive"),
        (["--config=nowhere.py"], "nowhere.py does not exist"),
        ([], "no packed frames"),
    ],
)
def test_mistakes_are_told(tmp_path, monkeypatch, arguments, message):
    with pytest.raises(UserError, match=message):
        bench(monkeypatch, f"--source={tmp_path}", *arguments)

"""`prepare check_dataset` and `prepare evaluation`: reports, counts, packing without loss."""

import dataclasses
import sys

import numpy as np
import pytest

from robustdepth import prepare
from robustdepth.data.benchmarks import packed as packed_benchmarks
from robustdepth.data.benchmarks.datasets import DATASETS, check_dataset, open_condition
from robustdepth.errors import UserError
from robustdepth.evaluation.protocols import PROTOCOLS
from robustdepth.evaluation.samples import protocol_samples
from tests.adverse_recordings import write_driving_stereo, write_nuscenes
from tests.recordings import truncate


def run(monkeypatch, *arguments) -> None:
    """The binary's main function with a command line."""
    monkeypatch.setattr(sys, "argv", ["prepare", *map(str, arguments)])
    prepare.main()


def test_published_counts():
    counts = {name: dataset.conditions for name, dataset in DATASETS.items()}
    assert set(counts["driving_stereo"].values()) == {500}
    assert set(counts["cityscapes"].values()) == {1525}
    assert (counts["make3d"], counts["cadc"]) == ({"make3d": 134}, {"cadc": 510})
    assert set(counts["virtual_kitti2"].values()) == {447 + 233 + 270 + 339 + 837}  # frames of its five scenes
    assert (len(counts["kitti_c"]), set(counts["kitti_c"].values())) == (90, {697})
    assert counts["nuscenes"]["nuscenes_night_500"] == 500


def test_check_tells_what_is_there_and_what_is_not(tmp_path, monkeypatch, capsys):
    for weather in ("sunny", "cloudy", "foggy"):
        write_driving_stereo(tmp_path, weather, count=2)
    truncate(max((tmp_path / "foggy" / "depth-map-full-size").iterdir()))
    with pytest.raises(UserError, match=r"driving_stereo is not complete under .*: drivingstereo_sunny, .*_foggy\.$"):
        run(monkeypatch, "check_dataset", "driving_stereo", f"--root={tmp_path}")
    text = capsys.readouterr().out
    assert "from: https://drivingstereo-dataset.github.io" in text
    assert "expected in" in text
    assert "drivingstereo_cloudy: 2 frames INSTEAD OF 500" in text
    assert "drivingstereo_rainy: INCOMPLETE" in text
    assert "rainy/left-image-full-size is missing" in text
    assert "drivingstereo_foggy: INCOMPLETE. cannot read ground truth" in text


def test_a_whole_copy_passes(tmp_path, monkeypatch, capsys):
    stereo = DATASETS["driving_stereo"]
    small = dataclasses.replace(stereo, conditions=dict.fromkeys(stereo.conditions, 3))
    monkeypatch.setitem(DATASETS, "driving_stereo", small)
    for weather in ("sunny", "cloudy", "rainy", "foggy"):
        write_driving_stereo(tmp_path, weather)
    run(monkeypatch, "check_dataset", "driving_stereo", f"--root={tmp_path}")
    assert "drivingstereo_rainy: 3 frames\n" in capsys.readouterr().out
    damaged = sorted((tmp_path / "rainy" / "left-image-full-size").iterdir())[1]
    truncate(damaged)
    assert check_dataset("driving_stereo", tmp_path).faults == []  # the first and the last frame are whole
    assert check_dataset("driving_stereo", tmp_path, read_all=True).faults == ["drivingstereo_rainy"]


def test_conditions_without_their_list_are_passed_over(tmp_path):
    write_nuscenes(tmp_path, np.array([[0.0, 10, 0]]), {"scene-0003": "a", "scene-0012": "rain", "scene-0013": "night"})
    report = check_dataset("nuscenes", tmp_path)
    assert report.faults == []
    assert any("nuscenes_night_500: not checked; give --split" in line for line in report.lines)
    assert check_dataset("cadc", tmp_path).faults == ["cadc"]
    with pytest.raises(UserError, match=r"expected in .*nowhere: DATE/calib[^$]*is no folder"):
        check_dataset("cadc", tmp_path / "nowhere")
    with pytest.raises(UserError, match="unknown dataset 'nuscene': did you mean nuscenes"):
        check_dataset("nuscene", tmp_path)


def assert_same_samples(packed, original):
    assert len(packed) == len(original) > 0
    for one, other in zip(packed, original, strict=True):
        assert (one.name, one.camera.size) == (other.name, other.camera.size)
        assert one.depth.dtype == np.float32
        for field in ("image", "depth"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        np.testing.assert_array_equal(one.camera.focal, other.camera.focal)
        np.testing.assert_array_equal(one.camera.center, other.camera.center)


def test_packing_keeps_every_bit_and_evaluation_reads_it(tmp_path, monkeypatch, capsys):
    source, output = tmp_path / "source", tmp_path / "packed"
    write_driving_stereo(source, "rainy", count=12)  # more than ten: "10" must not come before "9"
    command = ("evaluation", "drivingstereo_rainy", f"--root={source}", f"--output={output}")
    run(monkeypatch, *command)
    assert "packed 12 frames of drivingstereo_rainy" in capsys.readouterr().out
    assert [path.name for path in output.iterdir()] == ["robustdepth_evaluation"]
    samples = protocol_samples(PROTOCOLS["drivingstereo_rainy"], data_root=str(output))
    assert_same_samples(samples, open_condition("drivingstereo_rainy", source))
    with pytest.raises(UserError, match="packed with its own choice of frames: leave --split=x out"):
        protocol_samples(PROTOCOLS["drivingstereo_rainy"], data_root=str(output), split="x")
    run(monkeypatch, *command)
    assert "already prepared: 12 frames" in capsys.readouterr().out
    min((source / "rainy" / "left-image-full-size").iterdir()).unlink()
    with pytest.raises(UserError, match="holds another choice of frames"):
        run(monkeypatch, *command)
    truncate(next(output.rglob("metadata.json")))
    with pytest.raises(UserError, match=r"metadata\.json is damaged .* pack again"):
        run(monkeypatch, *command)


def test_damaged_sources_stop_the_packing(tmp_path):
    write_driving_stereo(tmp_path / "source", "rainy")
    truncate(min((tmp_path / "source" / "rainy" / "left-image-full-size").iterdir()))
    arguments = ("drivingstereo_rainy", tmp_path / "source", tmp_path / "packed")
    with pytest.raises(UserError, match="cannot read image"):
        packed_benchmarks.pack_condition(*arguments)
    with pytest.raises(UserError, match=r"is not finished; run .* evaluation drivingstereo_rainy"):
        protocol_samples(PROTOCOLS["drivingstereo_rainy"], data_root=str(tmp_path / "packed"))


def test_beam_is_asked_for_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)
    write_driving_stereo(tmp_path, "rainy", count=1)
    with pytest.raises(UserError, match=r"Apache Beam is not installed: pip install \"robustdepth\[beam\]\""):
        packed_benchmarks.pack_condition("drivingstereo_rainy", tmp_path, tmp_path / "out", beam="runner=DirectRunner")


@pytest.mark.filterwarnings("default")  # Beam's own
def test_beam_packs_the_same_records(tmp_path):
    pytest.importorskip("apache_beam")
    write_driving_stereo(tmp_path / "source", "rainy", count=12)
    packed_benchmarks.pack_condition(
        "drivingstereo_rainy", tmp_path / "source", tmp_path / "packed", beam="runner=DirectRunner"
    )
    packed = packed_benchmarks.open_packed(tmp_path / "packed", "drivingstereo_rainy")
    assert_same_samples(packed, open_condition("drivingstereo_rainy", tmp_path / "source"))

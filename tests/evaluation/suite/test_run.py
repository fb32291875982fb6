"""The suite: what is planned with the data at hand, several models side by side, and what happens when one fails."""

import json
import subprocess
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict

from robustdepth.data.benchmarks.datasets import DATASETS
from robustdepth.errors import UserError
from robustdepth.evaluation.protocols import PROTOCOLS
from robustdepth.evaluation.robustness.corruptions import depth_estimation_error
from robustdepth.evaluation.run import Options
from robustdepth.evaluation.suite import plan as plan_module
from robustdepth.evaluation.suite import run
from robustdepth.evaluation.suite.plan import make_plan, models_of, named_paths
from robustdepth.evaluation.suite.run import run_suite
from tests.adverse_recordings import write_driving_stereo
from tests.evaluation_fakes import FakeModel, FakeSamples

COUNT, SIZE = 4, (32, 32)
CONFIG = ConfigDict({"name": "fake", "model": {"encoder": "none"}, "data": {"grey": 0.0}})


def planned(plan):
    return [work.protocol.name for work in plan.work]


WORLDS = ["world", "world[fog]", "world[rain]", "world[snow]", "world[night]"]


def test_without_data_worlds_in_clear_air_and_weather_are_planned_and_all_else_is_missing():
    plan = make_plan({}, {})
    assert planned(plan) == WORLDS
    assert [work.weather for work in plan.work] == ["", "fog", "rain", "snow", "night"]
    assert [work.corruptible for work in plan.work] == [True, False, False, False, False]
    assert sorted(name for missing in plan.missing for name in missing.protocols) == sorted({*PROTOCOLS} - {"world"})
    commands = [missing.command for missing in plan.missing]
    assert commands[0] == "python -m robustdepth.prepare check DIR --data=kitti_raw"
    assert commands[1:] == [f"python -m robustdepth.prepare check_dataset {name} --root=DIR" for name in DATASETS]
    assert all(missing.page.startswith("http") for missing in plan.missing)
    assert all(
        f"--data_roots={name}=DIR" in missing.need for name, missing in zip(DATASETS, plan.missing[1:], strict=True)
    )


def test_conditions_that_take_a_list_wait_for_it(tmp_path):
    roots = {"nuscenes": str(tmp_path), "kitti_c": str(tmp_path), "kitti_raw": str(tmp_path)}
    plan = make_plan(roots, {})
    assert planned(plan) == [
        *WORLDS, "kitti_sparse_frames", "nuscenes_day_clear", "nuscenes_day_rain", "nuscenes_night",
    ]  # fmt: skip
    needs = {tuple(missing.protocols): missing.need for missing in plan.missing}
    assert "--splits=nuscenes_night_500=FILE with lines" in needs["nuscenes_night_500",]
    assert "--splits=kitti_eigen=FILE" in needs["kitti_eigen",]
    assert any(len(names) == 90 and "--splits=kitti_c=FILE" in need for names, need in needs.items())

    plan = make_plan(roots, {"nuscenes": "a.txt", "kitti_c": "b.txt", "kitti_eigen": "c.txt"})
    splits = {work.protocol.name: work.split for work in plan.work}
    assert splits["nuscenes_night_500"] == "a.txt"
    assert splits["nuscenes_night"] == ""  # it takes none
    assert splits["kitti_c_fog_3"] == "b.txt"
    assert splits["kitti_eigen"] == "c.txt"
    assert "kitti_sparse_frames" not in splits  # the same recordings; the whole test split says more


def test_a_choice_of_protocols_drops_the_rest(tmp_path):
    plan = make_plan({"nuscenes": str(tmp_path)}, {}, ["nuscenes_night", "make3d"])
    assert planned(plan) == ["nuscenes_night"]
    assert [list(missing.protocols) for missing in plan.missing] == [["make3d"]]


@pytest.mark.parametrize(
    ("roots", "splits", "drives", "sentence"),
    [
        ({"nuscene": "."}, {}, (), "--data_roots: unknown dataset 'nuscene': did you mean nuscenes"),
        ({"nuscenes": "nowhere"}, {}, (), "--data_roots=nuscenes=nowhere: there is no such folder"),
        ({}, {"kitti_eigen": "x.txt"}, (), "--splits names 'kitti_eigen', and nothing that is evaluated"),
        ({"make3d": "."}, {"make3d": "x.txt"}, (), "--splits names 'make3d'"),
        ({}, {}, ("2011_09_26/drive",), "--drives chooses frames of kitti_sparse_frames only"),
    ],
)
def test_refused_plans(roots, splits, drives, sentence):
    with pytest.raises(UserError, match=sentence):
        make_plan(roots, splits, drives=drives)


def test_a_suite_is_of_depth_in_images():
    with pytest.raises(UserError, match="protocol 'odometry' is not: evaluate it by itself"):
        make_plan({}, {}, ["world", "odometry"])


def test_named_paths():
    assert named_paths("--models", ["a=runs/a", "b=x=y"]) == {"a": "runs/a", "b": "x=y"}
    for entry in ("runs/a", "=x", "a="):
        with pytest.raises(UserError, match=f"--models={entry} is not NAME=PATH"):
            named_paths("--models", [entry])
    with pytest.raises(UserError, match="--models names 'a' twice"):
        named_paths("--models", ["a=x", "a=y"])
    assert models_of([], "runs/Q1") == {"Q1": "runs/Q1"}
    assert models_of([], "") == {}
    with pytest.raises(UserError, match="--models goes without --workdir and --checkpoint"):
        models_of(["a=x"], "runs/Q1")


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """Two fake networks in tmp_path, "good" and "metric"; fake samples for every protocol; the baseline's map.

    Worlds in weather have a test of their own: rendering it takes seconds.
    """
    monkeypatch.setattr(plan_module, "WEATHER", ())
    for name in ("good", "metric"):
        (tmp_path / name).mkdir()
    scale = {"good": "relative", "metric": "metric"}
    np.savez(tmp_path / "good" / "train_median.npz", depth=np.full((4, 8), 25, np.float32), origin="256 worlds")
    monkeypatch.setattr(
        run,
        "load_model",
        lambda path: FakeModel(image_size=SIZE, path=path, scale=scale[path.split("/")[-1]], config=CONFIG),
    )
    monkeypatch.setattr(run, "protocol_samples", lambda protocol, **_: FakeSamples(COUNT, SIZE))
    return {name: str(tmp_path / name) for name in scale}


def read(folder):
    return json.loads((folder / "report.json").read_text())


def test_one_report_for_all_models(tmp_path, fakes, capsys):
    out, plan = tmp_path / "out", make_plan({"make3d": str(tmp_path)}, {}, ["world", "make3d", "cadc"])
    options = Options(["world", "make3d"], batch_size=8)
    content = run_suite(fakes, plan, str(out), options)
    assert content == read(out)
    assert set(content) == {"date", "models", "missing", "failed"}
    assert list(content["models"]) == ["good", "metric"]
    for name, report in content["models"].items():
        assert report == read(out / name)  # the usual report of one evaluation
        assert list(report["protocols"]) == ["world", "make3d"]
        assert report["model"]["path"] == fakes[name]
        assert "256 worlds" in report["train_median_origin"]  # one baseline for all: the first model's
    assert [row["protocols"] for row in content["missing"]] == [["cadc"]]
    assert content["failed"] == []
    page = (out / "report.html").read_text()
    assert page.count("<img ") == 2 * 2 * 3  # models, protocols, the best frame and the two worst
    text = (out / "report.md").read_text()
    abs_rel = [report["protocols"]["world"]["metrics"]["abs_rel"] for report in content["models"].values()]
    for where in (text, capsys.readouterr().out):
        assert f"| **{abs_rel[0]:.3f}** |" in where
        assert "check_dataset cadc --root=DIR" in where
    assert "[good](good/report.md)" in text
    with pytest.raises(UserError, match=r"already holds a report.json: choose another --output or pass --overwrite"):
        run_suite(fakes, plan, str(out), options)


def test_corruptions_are_set_against_the_first_model_and_left_out_for_adverse_datasets(tmp_path, fakes):
    plan = make_plan({"make3d": str(tmp_path)}, {}, ["world", "make3d"])
    options = Options(["world"], batch_size=8, corruptions=["brightness"], severities=["2"])
    content = run_suite({"good": fakes["good"], "again": fakes["metric"]}, plan, str(tmp_path / "out"), options)
    good, again = (content["models"][name]["protocols"]["world"]["corruptions"] for name in ("good", "again"))
    for entry in (good, again):
        assert entry["baseline"]["name"] == "good"
        assert entry["baseline"]["dee"] == {"brightness": good["by_corruption"]["brightness"]["dee"]}
        assert entry["mce"] == pytest.approx(100)  # worlds are aligned, and both read the same depth
    assert good["clean_dee"] == depth_estimation_error(content["models"]["good"]["protocols"]["world"]["metrics"])
    assert all("corruptions" not in report["protocols"]["make3d"] for report in content["models"].values())
    assert "under corruptions" in (tmp_path / "out" / "report.html").read_text()


def test_worlds_in_weather_are_the_same_worlds_and_harder(tmp_path, fakes, monkeypatch):
    """Red is depth for the fake network, so the fog's grey misleads it; the truth stays, so constants stay."""
    monkeypatch.setattr(plan_module, "WEATHER", ("fog",))
    opened = []
    monkeypatch.setattr(run, "protocol_samples", lambda protocol, **_: opened.append(1) or FakeSamples(COUNT, SIZE))
    content = run_suite(
        {"good": fakes["good"]}, make_plan({}, {}), str(tmp_path / "out"), Options(["world"], batch_size=8)
    )
    assert opened == [1]  # rendered once
    found = content["models"]["good"]["protocols"]
    assert list(found) == ["world", "world[fog]"]
    assert found["world[fog]"]["baselines"] == found["world"]["baselines"]
    assert found["world[fog]"]["metrics"]["abs_rel"] > 1.1 * found["world"]["metrics"]["abs_rel"]
    assert "world[fog]" in (tmp_path / "out" / "report.html").read_text()


def test_what_fails_is_told_and_loses_nothing_else(tmp_path, fakes, monkeypatch):
    def samples(protocol, **_):
        if protocol.name == "make3d":
            raise UserError("Test134 is missing: unpack it.")
        found = FakeSamples(COUNT, SIZE)
        if protocol.name == "vkitti2_fog":
            found[2].depth[:] = 0  # a frame in the middle has no ground truth
        return found

    monkeypatch.setattr(run, "protocol_samples", samples)
    names = ["world", "make3d", "vkitti2_fog", "vkitti2_rain"]
    plan = make_plan({"make3d": str(tmp_path), "virtual_kitti2": str(tmp_path)}, {}, names)
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"3 of the suite's evaluations failed, first make3d: Test134 is missing"):
        run_suite(fakes, plan, str(out), Options(names, batch_size=8))
    content = read(out)
    assert [(row["protocol"], row["model"]) for row in content["failed"]] == [
        ("make3d", "good, metric"), ("vkitti2_fog", "good"), ("vkitti2_fog", "metric"),
    ]  # fmt: skip
    assert "has no valid ground truth" in content["failed"][1]["error"]
    for report in content["models"].values():
        assert list(report["protocols"]) == ["world", "vkitti2_rain"]
    for file in ("report.md", "report.html"):
        assert "Test134 is missing: unpack it." in (out / file).read_text()


def test_real_files_and_foreign_predictions_side_by_side(tmp_path, fakes, monkeypatch):
    monkeypatch.undo()  # real samples; the network is a fake still
    monkeypatch.setattr(run, "load_model", lambda path: FakeModel(path=path, image_size=(40, 88), config=CONFIG))
    depths = write_driving_stereo(tmp_path / "data", "rainy", count=3)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    np.savez(foreign / "drivingstereo_rainy.npz", depth=np.maximum(depths, 1 / 512).astype(np.float32) / 2)
    names = ["world", "drivingstereo_rainy"]
    plan = make_plan({"driving_stereo": str(tmp_path / "data")}, {}, names[1:])
    models = {"good": fakes["good"], "others": str(foreign)}
    content = run_suite(models, plan, str(tmp_path / "out"), Options(names, batch_size=8))
    entries = [report["protocols"]["drivingstereo_rainy"] for report in content["models"].values()]
    assert entries[0]["baselines"] == entries[1]["baselines"]
    assert entries[1]["metrics"]["abs_rel"] < 0.01 < entries[0]["metrics"]["abs_rel"]  # true up to one factor
    assert content["models"]["others"]["model"]["predictions"].endswith("drivingstereo_rainy.npz")
    assert f"<b>{entries[1]['metrics']['abs_rel']:.3f}</b>" in (tmp_path / "out" / "report.html").read_text()


def test_refused_suites(tmp_path, fakes):
    plan, options, out = make_plan({}, {}), Options(["world"], batch_size=8), str(tmp_path / "out")
    with pytest.raises(UserError, match=r"the suite has nothing to evaluate: give --models"):
        run_suite({}, plan, out, options)
    with pytest.raises(UserError, match=r"'../x' is no name for a model"):
        run_suite({"../x": fakes["good"]}, plan, out, options)
    np.save(tmp_path / "mine.npy", np.ones((1, 2, 2), np.float32))
    with pytest.raises(UserError, match=r"mine.npy: files of predictions are named as their protocol"):
        run_suite({"x": str(tmp_path / "mine.npy")}, plan, out, options)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--suite=adverse", "--data_root=x"], "--data_root goes not with --suite"),
        (["--models=a=b"], "--models goes only with --suite"),
    ],
)
def test_flags_that_do_not_go_together(tmp_path, flags, sentence):
    command = [sys.executable, "-m", "robustdepth.evaluate", f"--output={tmp_path / 'out'}", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"error: {sentence}" in done.stderr

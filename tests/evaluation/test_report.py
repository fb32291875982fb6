"""The command from model to report: the report's shape, what is refused, and following a training job."""

import json
import os
import signal
import threading

import cv2
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.evaluation import run, watch
from robustdepth.evaluation.report import save_report
from robustdepth.evaluation.run import Options, run_evaluation
from tests.evaluation_fakes import FakeModel, FakeSamples

COUNT = 5


@pytest.fixture(autouse=True)
def fakes(monkeypatch, tmp_path):
    """A fake network in tmp_path/work, fake samples for every protocol, a median map for the baseline."""
    work = tmp_path / "work"
    work.mkdir()
    np.savez(work / "train_median.npz", depth=np.full((4, 8), 25, np.float32), origin="true depth of 256 worlds")
    monkeypatch.setattr(run, "load_model", lambda path, step=None: FakeModel(path=str(work), step=step or 7))
    monkeypatch.setattr(watch, "load_model", run.load_model)
    monkeypatch.setattr(run, "protocol_samples", lambda protocol, **_: FakeSamples(COUNT))
    return work


def test_report_shape(tmp_path, fakes, capsys):
    run_evaluation(str(fakes), str(tmp_path / "out"), Options(["world", "kitti_sparse_frames"], flip=True))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report) == {"protocols", "model", "train_median_origin", "versions"}
    assert list(report["protocols"]) == ["world", "kitti_sparse_frames"]
    entry = report["protocols"]["world"]
    assert entry["alignment"] == "median"
    assert entry["count"] == COUNT == len(entry["per_image"])
    assert set(entry["baselines"]) == {"constant", "train_median"}
    for metrics in (entry["metrics"], *entry["baselines"].values()):
        assert {"abs_rel", "sq_rel", "rmse", "rmse_log", "delta1", "delta2", "delta3"} <= set(metrics)
    assert set(entry["per_image"][0]) == {"name", *entry["metrics"]}
    assert entry["metrics"]["rmse"] == pytest.approx(np.mean([row["rmse"] for row in entry["per_image"]]))
    assert report["model"] == {
        "path": str(fakes), "step": 7, "name": "fake", "encoder": "none", "image_size": [16, 32],
        "scale": "relative", "flip": True,
    }  # fmt: skip
    assert {"jax", "numpy", "python", "robustdepth"} <= set(report["versions"])
    assert report["train_median_origin"].startswith("true depth of 256 worlds")

    text = (tmp_path / "out" / "report.md").read_text()
    assert "WARNING: 5 images instead of the 100" in text
    pictures = sorted((tmp_path / "out" / "pictures").glob("*.png"))
    assert len(pictures) == 2 * COUNT
    for picture in pictures:
        assert f"pictures/{picture.name}" in text
        height, width, _ = cv2.imread(str(picture)).shape  # two by two, of images of 16x32
        assert width == 1200
        assert 600 <= height <= 700
    printed = capsys.readouterr().out
    assert f"{entry['metrics']['abs_rel']:.3f}" in printed
    assert "| train_median |" in printed


def test_a_report_is_never_overwritten_silently(tmp_path, fakes):
    out = str(tmp_path / "out")
    run_evaluation(str(fakes), out, Options(["world"]))
    with pytest.raises(
        UserError, match=r"out already holds a report.json: choose another --output or pass --overwrite"
    ):
        run_evaluation(str(fakes), out, Options(["world"]))
    run_evaluation(str(fakes), out, Options(["world"], alignment="none"), overwrite=True)
    assert list(json.loads((tmp_path / "out" / "report.json").read_text())["protocols"]) == ["world[alignment=none]"]


def test_foreign_predictions_need_no_model(tmp_path):
    predictions = [5 + 50 * (sample.image[..., 0] / np.float32(255)) for sample in FakeSamples(COUNT)]
    np.save(tmp_path / "depth.npy", np.stack(predictions))
    options = Options(
        ["kitti_sparse_frames"],
        predictions=str(tmp_path / "depth.npy"),
        train_median=str(tmp_path / "work" / "train_median.npz"),
    )
    (result,) = run_evaluation("", str(tmp_path / "out"), options)
    assert result.alignment == "median"
    assert result.metrics["abs_rel"] < 0.4 < result.baselines["constant"]["abs_rel"]
    model = json.loads((tmp_path / "out" / "report.json").read_text())["model"]
    assert model == {
        "predictions": str(tmp_path / "depth.npy"), "kind": "depth", "scale": "relative", "matched_by": "order"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"protocols": []}, "--protocols is empty: give world, kitti_eigen or others"),
        ({"protocols": ["wrld"]}, "unknown protocol 'wrld': did you mean world"),
        ({"protocols": ["world"], "alignment": "mean"}, "unknown alignment 'mean'"),
        ({"protocols": ["world"], "batch_size": 0}, "--batch_size=0 must be 1 or more"),
        ({"protocols": ["odometry"], "predictions": "x.npy"}, "odometry needs a model"),
    ],
)
def test_refused_options(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Options(**options)


def test_exactly_one_thing_to_evaluate(tmp_path):
    for path, predictions in (("", ""), ("work", "x.npy")):
        with pytest.raises(UserError, match=r"give either --workdir or --checkpoint .* or --predictions"):
            run_evaluation(path, str(tmp_path / "out"), Options(["world"], predictions=predictions))


def test_an_output_that_is_a_file(tmp_path, fakes):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write in .*file .*: choose another --output"):
        run_evaluation(str(fakes), str(tmp_path / "file"), Options(["world"]))


def test_a_name_that_is_no_utf8_stands_in_the_report(tmp_path):
    save_report(tmp_path, {"name": "caf\udce9"}, "of caf\udce9 ± 1")
    assert (tmp_path / "report.md").read_bytes() == "of caf\\udce9 ± 1".encode()
    assert json.loads((tmp_path / "report.json").read_text())["name"] == "caf\udce9"


def test_a_log_that_cannot_be_written_ends_the_watch_with_a_sentence(tmp_path, fakes, monkeypatch):
    monkeypatch.setattr(watch, "latest_step", lambda _: 10)
    (tmp_path / "out" / "watch.jsonl").mkdir(parents=True)
    with pytest.raises(UserError, match=r"cannot read and write .*watch.jsonl \(Is a directory\): choose another"):
        watch.watch(str(fakes), str(tmp_path / "out"), Options(["world"]), poll_seconds=0.01)
    (tmp_path / "out" / "watch.jsonl").rmdir()
    monkeypatch.setattr(watch, "evaluate_step", lambda *_: (tmp_path / "out" / "watch.jsonl").mkdir())
    with pytest.raises(UserError, match=r"cannot write .*watch.jsonl \(Is a directory\): mend this"):
        watch.watch(str(fakes), str(tmp_path / "out"), Options(["world"]), poll_seconds=0.01)


def test_watch_follows_a_training_until_it_is_finished(tmp_path, fakes, monkeypatch):
    steps = iter([None, 10, 10, 20, 20, 20])
    last = []

    def latest_step(_):
        last.append(next(steps))
        if len(last) == 4:
            (fakes / "finished").write_text("20\n")  # training ends while step 20 is being evaluated
        return last[-1]

    monkeypatch.setattr(watch, "latest_step", latest_step)
    out = tmp_path / "out"
    watch.watch(str(fakes), str(out), Options(["world"]), poll_seconds=0.01)
    rows = [json.loads(line) for line in (out / "watch.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20]
    report = json.loads((out / "step_00000020" / "report.json").read_text())
    assert report["model"]["step"] == 20
    assert rows[1]["world"] == report["protocols"]["world"]["metrics"]
    monkeypatch.setattr(watch, "latest_step", lambda _: 20)
    watch.watch(str(fakes), str(out), Options(["world"]), poll_seconds=0.01)  # nothing new: nothing is done twice
    whole = (out / "watch.jsonl").read_text()
    assert len(whole.splitlines()) == 2
    (out / "watch.jsonl").write_text(whole[:-20])  # killed while it wrote the last line: that step is evaluated again
    watch.watch(str(fakes), str(out), Options(["world"]), poll_seconds=0.01)
    assert (out / "watch.jsonl").read_text() == whole


def test_watch_ends_at_sigterm(tmp_path, fakes, monkeypatch):
    monkeypatch.setattr(watch, "latest_step", lambda _: None)
    before = signal.getsignal(signal.SIGTERM)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    watch.watch(str(fakes), str(tmp_path / "out"), Options(["world"]), poll_seconds=60.0)
    timer.join()
    assert signal.getsignal(signal.SIGTERM) == before
    assert not (tmp_path / "out" / "watch.jsonl").exists()


def test_watch_cannot_write_into_a_file(tmp_path, fakes):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match=r"cannot write in .*out .*choose another --output"):
        watch.watch(str(fakes), str(tmp_path / "out"), Options(["world"]), poll_seconds=0.01)


def test_watch_passes_over_a_checkpoint_that_training_removed(tmp_path, fakes, monkeypatch):
    (fakes / "finished").write_text("20\n")
    steps = iter([10, 20, 20, 20])  # seen, gone when loading failed, then the newer one

    def load_model(path, step):
        if step == 10:
            raise UserError("no checkpoint of step 10")
        return FakeModel(path=str(fakes), step=step)

    monkeypatch.setattr(watch, "load_model", load_model)
    monkeypatch.setattr(watch, "latest_step", lambda _: next(steps))
    watch.watch(str(fakes), str(tmp_path / "out"), Options(["world"]), poll_seconds=0.01)
    assert json.loads((tmp_path / "out" / "watch.jsonl").read_text())["step"] == 20

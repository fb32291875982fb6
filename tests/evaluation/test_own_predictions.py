"""What predict writes, evaluate reads: the same numbers as from the model; and predictions alone, without a model."""

import json

import numpy as np
import pytest
from PIL import Image

from robustdepth.errors import UserError
from robustdepth.evaluation import baselines, run
from robustdepth.evaluation.run import Options, run_evaluation
from robustdepth.evaluation.suite import run as suite
from robustdepth.evaluation.suite.plan import make_plan
from robustdepth.prediction.predictor import Predictor
from robustdepth.prediction.results import Results
from robustdepth.prediction.run import predict_files
from tests.evaluation_fakes import FakeSamples
from tests.made_up_model import red_model
from tests.recordings import DRIVE, SIZE, point_at, write_kitti_raw, write_scan

SPARSE = "kitti_sparse_frames"


@pytest.fixture
def recording(tmp_path, monkeypatch):
    """Four frames with LiDAR, their predictions in `depth`, and a median map."""
    write_kitti_raw(tmp_path / "raw", numbers=(8, 9, 10, 11), sides="l")
    for number in (8, 9, 10, 11):
        write_scan(tmp_path / "raw", number, np.array([point_at(u, 35, 5 + u / 10) for u in range(10, 150, 5)]))
    np.savez(tmp_path / "median.npz", depth=np.full((2, 2), 20.0, np.float32))
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: Predictor(red_model((24, 80))))
    monkeypatch.setattr(run, "load_model", lambda path: red_model((24, 80)))
    predict_files("made-up", [str(tmp_path / "raw" / DRIVE / "image_02/data")], str(tmp_path / "depth"))
    return tmp_path


def evaluated(recording, name: str, **options) -> dict:
    options = {"data_root": str(recording / "raw"), "train_median": str(recording / "median.npz")} | options
    model = "" if "predictions" in options else "made-up"
    run_evaluation(model, str(recording / name), Options([SPARSE], **options))
    return json.loads((recording / name / "report.json").read_text())


def test_predictions_of_all_formats_together_give_the_models_numbers(recording):
    assert (
        len([path for path in (recording / "depth").iterdir() if "_depth" in path.name or "_color" in path.name]) == 12
    )
    wanted = evaluated(recording, "of_model")
    found = evaluated(recording, "of_files", predictions=str(recording / "depth"))
    assert found["model"]["scale"] == "metric"  # as the summary of the predictions says
    expected, entry = wanted["protocols"][SPARSE], found["protocols"][SPARSE]
    assert entry["alignment"] == expected["alignment"] == "none"
    assert entry["metrics"] == pytest.approx(expected["metrics"], rel=1e-5)
    assert [row["name"] for row in entry["per_image"]] == [row["name"] for row in expected["per_image"]]
    for path in (recording / "depth").glob("*.npz"):
        path.unlink()  # then the PNG counts, in steps of 1/256
    coarse = evaluated(recording, "of_png", predictions=str(recording / "depth"))["protocols"][SPARSE]
    assert coarse["metrics"] == pytest.approx(expected["metrics"], rel=1e-2)


def test_pngs_of_relative_depth_are_read_with_their_own_factor(recording, monkeypatch):
    model = red_model((24, 80), views=("previous", "next"))
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: Predictor(model))
    images = str(recording / "raw" / DRIVE / "image_02/data")
    predict_files("made-up", [images], str(recording / "relative"), results=Results(("png",)))
    for alignment in ("median", "none"):
        predictions = str(recording / "relative")
        found = evaluated(recording, f"of_relative_{alignment}", predictions=predictions, alignment=alignment)
        wanted = evaluated(recording, f"of_model_{alignment}", alignment=alignment)
        (entry,), (expected,) = found["protocols"].values(), wanted["protocols"].values()
        assert entry["metrics"]["abs_rel"] == pytest.approx(expected["metrics"]["abs_rel"], rel=1e-3)
    pngs = [Image.open(path) for path in (recording / "relative").glob("*_depth.png")]
    assert len({png.info["values_per_unit"] for png in pngs}) == 1
    assert max(np.asarray(png).max() for png in pngs) >= 2**15  # all 16 bits are used
    for png in pngs:
        png.close()


def test_files_without_zeros_before_their_numbers_keep_their_order(recording):
    for path in list((recording / "depth").glob("*_depth.npz")):
        path.rename(path.with_name(f"{int(path.name.split('_')[0])}_depth.npz"))
    for path in (recording / "depth").glob("*.png"):
        path.unlink()
    found = evaluated(recording, "of_files", predictions=str(recording / "depth"))["protocols"][SPARSE]
    wanted = evaluated(recording, "of_model")["protocols"][SPARSE]
    assert found["metrics"] == pytest.approx(wanted["metrics"], rel=1e-5)


def test_what_contradicts_the_summary(recording):
    with pytest.raises(UserError, match=r"holds what robustdepth\.predict wrote, which is depth"):
        evaluated(recording, "a", predictions=str(recording / "depth"), predictions_kind="inverse_depth")
    (recording / "depth" / "predictions.json").write_text('{"scale": "wide"}')
    with pytest.raises(UserError, match=r"predictions\.json is damaged \(scale is 'wide'\)"):
        evaluated(recording, "b", predictions=str(recording / "depth"))


@pytest.fixture
def small_worlds(monkeypatch):
    """Fewer and smaller worlds for the baseline of predictions that name none."""
    monkeypatch.setattr("robustdepth.data.median.WORLD_SCENES", 4)
    monkeypatch.setattr(baselines, "WORLD_SIZE", (32, 96))
    monkeypatch.setitem(baselines.WORLD, "batch_size", 4)


def test_predictions_without_a_median_are_set_beside_the_worlds(recording, small_worlds):
    report = evaluated(recording, "of_files", predictions=str(recording / "depth"), train_median="")
    assert report["baseline"] if "baseline" in report else "true depth of 4 training worlds" in json.dumps(report)
    np.save(recording / "two.npy", np.ones((2, *SIZE), np.float32))
    with pytest.raises(UserError, match="holds 2 predictions, the protocol has 4 images"):
        evaluated(recording, "b", predictions=str(recording / "two.npy"), train_median="")


def test_a_suite_of_predictions_alone(tmp_path, monkeypatch, small_worlds):
    """Worlds are rendered at the predictions' own size."""
    sizes = []

    def samples(protocol, *, size=None, **_):
        sizes.append((protocol.name, size))
        return FakeSamples(3, (32, 64))

    monkeypatch.setattr(suite, "protocol_samples", samples)
    folder = tmp_path / "maps"
    folder.mkdir()
    depths = np.stack([5 + 50 * (sample.image[..., 0] / np.float32(255)) for sample in FakeSamples(3, (32, 64))])
    for name in ("world", "vkitti2_rain"):
        np.save(folder / f"{name}.npy", depths)
    plan = make_plan({"virtual_kitti2": str(tmp_path)}, {}, ["world", "vkitti2_rain"])
    content = suite.run_suite({"files": str(folder)}, plan, str(tmp_path / "out"), Options(["world", "vkitti2_rain"]))
    assert sizes == [("world", (32, 64)), ("vkitti2_rain", None)]
    assert list(content["models"]["files"]["protocols"]) == ["world", "vkitti2_rain"]
    assert content["failed"] == []

"""Robustness under corruptions: the benchmark's formulas, evaluation on the fly, baselines, what the report says."""

import dataclasses
import json

import cv2
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from robustdepth.conditions.corruptions.benchmark import BENCHMARK, SEVERITIES, corrupt, corruption_keys
from robustdepth.errors import UserError
from robustdepth.evaluation import run
from robustdepth.evaluation.evaluator import evaluate
from robustdepth.evaluation.frame import ScoredFrame
from robustdepth.evaluation.pictures import bars_file, write_bars
from robustdepth.evaluation.predictors import NetworkPredictor, _prepare_on_device
from robustdepth.evaluation.protocols import PROTOCOLS
from robustdepth.evaluation.robustness import corruptions as measure
from robustdepth.evaluation.robustness.published import PUBLISHED_CLEAN_DEE, PUBLISHED_DEE, PUBLISHED_NAME
from robustdepth.evaluation.run import Options, run_evaluation
from tests.evaluation_fakes import FakeModel, FakeSamples

FRAMES = PROTOCOLS["kitti_sparse_frames"]
MEDIAN_MAP = np.full((4, 8), 25, np.float32)
NAMES = ("contrast", "gaussian")
CONFIG = ConfigDict({"name": "fake", "model": {"encoder": "none"}, "data": {"grey": 0}})
TIMING = measure.Timing(10.0, 2.0, 1.0, 3.0)
BASELINE = measure.Baseline("a baseline", {"contrast": 0.25, "gaussian": 0.5})


class ResizingModel(FakeModel):
    def prepare(self, image):
        return super().prepare(Image.fromarray(image).resize(self.image_size[::-1], Image.Resampling.BILINEAR))


MODEL = ResizingModel(image_size=(32, 48), config=CONFIG)


def two_sizes() -> FakeSamples:
    """Five images of 32x48, and two of 40x56 among them."""
    samples = FakeSamples(5, size=(32, 48))
    for place, sample in zip((1, 4), FakeSamples(2, size=(40, 56), seed=1), strict=True):
        samples.insert(place, dataclasses.replace(sample, name=f"large {place}"))
    return samples


def measured(batch_size: int = 16) -> measure.Robustness:
    samples, predictor = two_sizes(), NetworkPredictor(MODEL, batch_size)
    clean = evaluate(FRAMES, samples, predictor, MEDIAN_MAP)
    return measure.evaluate_corruptions(FRAMES, samples, predictor, clean, NAMES, (1, 4), BASELINE)


def test_the_published_baselines_mrr_follows_from_its_dee_row():
    assert measure.mean_resilience_rate(PUBLISHED_DEE, PUBLISHED_CLEAN_DEE) == pytest.approx(84.46, abs=5e-3)
    assert measure.mean_corruption_error(PUBLISHED_DEE, PUBLISHED_DEE) == pytest.approx(100)
    assert tuple(PUBLISHED_DEE) == BENCHMARK


def test_formulas():
    assert measure.depth_estimation_error({"abs_rel": 0.1, "delta1": 0.9}) == pytest.approx(0.1)
    assert measure.mean_corruption_error({"fog": 0.2, "snow": 0.1}, {"fog": 0.4, "snow": 0.1}) == pytest.approx(75)
    assert measure.mean_resilience_rate({"fog": 0.4, "snow": 0.2}, 0.2) == pytest.approx((75 + 100) / 2)


def test_every_image_is_corrupted_at_its_own_size_resized_and_scored_once():
    """Against one image at a time, resized by Pillow as clean ones are (one level of 255 apart at most)."""
    result = measured()
    for name in NAMES:
        for severity in (1, 4):
            rows = []
            for index, sample in enumerate(two_sizes()):
                (image,) = np.asarray(
                    corrupt(sample.image[None], name, severity, corruption_keys(name, severity, [index]))
                )
                small = np.asarray(Image.fromarray(image).resize((48, 32), Image.Resampling.BILINEAR))
                depth = 5 + 50 * (small[..., 0] / np.float32(255))
                rows.append(ScoredFrame(FRAMES, "median", sample).score(1 / depth))
            for key in ("abs_rel", "delta1", "rmse"):
                wanted = np.mean([row[key] for row in rows])
                assert result.metrics[name][severity][key] == pytest.approx(wanted, rel=5e-3), (name, severity, key)


def test_images_are_corrupted_at_a_given_size_where_one_is_wanted():
    """As KITTI-C was made: shrunk with Lanczos' filter, then corrupted."""
    samples, predictor = two_sizes(), NetworkPredictor(MODEL, 8)
    clean = evaluate(FRAMES, samples, predictor, MEDIAN_MAP)
    size = (32, 48)
    result = measure.evaluate_corruptions(FRAMES, samples, predictor, clean, ["contrast"], [5], BASELINE, size)
    rows = []
    for sample in samples:
        small = np.asarray(Image.fromarray(sample.image).resize(size[::-1], Image.Resampling.LANCZOS))
        (image,) = np.asarray(corrupt(small[None], "contrast", 5, jax.random.key(0)))
        rows.append(ScoredFrame(FRAMES, "median", sample).score(1 / (5 + 50 * (image[..., 0] / np.float32(255)))))
    assert result.metrics["contrast"][5]["abs_rel"] == pytest.approx(
        np.mean([row["abs_rel"] for row in rows]), rel=1e-5
    )
    assert result.as_json()["image_size"] == [32, 48]
    timing = result.as_json()["timing"]
    assert 0 < timing["corruption_seconds"] + timing["network_seconds"] + timing["compile_seconds"] < timing["seconds"]


def test_batches_do_not_change_the_numbers():
    whole, parts = measured(batch_size=16), measured(batch_size=1)
    for name in NAMES:
        for severity in (1, 4):
            assert whole.metrics[name][severity] == pytest.approx(parts.metrics[name][severity], rel=1e-6)


def test_means_over_severities_and_their_errors():
    result = measured()
    entry = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert entry["severities"] == [1, 4]
    dee = {}
    for name in NAMES:
        row = entry["by_corruption"][name]
        both = [row["by_severity"][severity] for severity in ("1", "4")]
        assert row["abs_rel"] == pytest.approx((both[0]["abs_rel"] + both[1]["abs_rel"]) / 2)
        dee[name] = (row["abs_rel"] - (both[0]["delta1"] + both[1]["delta1"]) / 2 + 1) / 2
        assert row["dee"] == pytest.approx(dee[name])
        assert row["ce"] == pytest.approx(100 * dee[name] / BASELINE.dee[name])
    assert entry["mce"] == pytest.approx(50 * (dee["contrast"] / 0.25 + dee["gaussian"] / 0.5))
    clean = (result.clean.metrics["abs_rel"] - result.clean.metrics["delta1"] + 1) / 2
    assert entry["mrr"] == pytest.approx(50 * sum((1 - value) / (1 - clean) for value in dee.values()))
    assert clean < min(dee.values())  # the fake network reads depth from the colours that are damaged
    assert "2 of 18 corruptions at severities 1,4" in entry["warnings"][0]


def test_images_are_prepared_on_devices_as_on_the_host():
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (75, 248, 3), dtype=np.uint8), (5, 5), 1.5)
    host = Image.fromarray(image).resize((128, 40), Image.Resampling.BILINEAR)
    for grey, wanted in ((False, host), (True, host.convert("L").convert("RGB"))):
        device = np.asarray(_prepare_on_device(jax.numpy.asarray(image[None]), (40, 128), grey))[0] * 255
        difference = np.abs(device - np.asarray(wanted, np.float32))
        assert difference.max() < 1.01
        assert difference.mean() < 0.3


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    np.savez(tmp_path / "median.npz", depth=MEDIAN_MAP, origin="made up")
    monkeypatch.setattr(run, "load_model", lambda path: MODEL)
    monkeypatch.setattr(run, "protocol_samples", lambda protocol, **_: two_sizes())
    return {"train_median": str(tmp_path / "median.npz"), "corruptions": NAMES, "severities": ("1", "4")}


def test_report_with_corruptions_and_itself_as_baseline(tmp_path, fakes, capsys):
    run_evaluation("work", str(tmp_path / "first"), Options(["kitti_sparse_frames"], **fakes))
    first = json.loads((tmp_path / "first" / "report.json").read_text())["protocols"]["kitti_sparse_frames"]
    published = first["corruptions"]
    assert published["baseline"]["name"] == "monodepth2 R18 (published, KITTI-C only)"
    assert published["warnings"][0].startswith("mCE is set against a row published for KITTI-C")
    assert published["mce"] != pytest.approx(100)

    path = tmp_path / "first" / "report.json"
    options = Options(["kitti_sparse_frames"], baseline_report=str(path), **fakes)
    run_evaluation("work", str(tmp_path / "second"), options)
    second = json.loads((tmp_path / "second" / "report.json").read_text())["protocols"]["kitti_sparse_frames"]
    assert second["corruptions"]["mce"] == pytest.approx(100, abs=1e-3)
    assert second["corruptions"]["mrr"] == pytest.approx(published["mrr"], abs=1e-3)

    text = (tmp_path / "second" / "report.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| gaussian"))
    assert f"{second['corruptions']['by_corruption']['gaussian']['dee']:.3f}" in row
    assert "100.0" in row
    assert "WARNING: 2 of 18 corruptions" in text
    assert "pictures/kitti_sparse_frames_corruptions.png" in text
    assert cv2.imread(str(tmp_path / "second" / "pictures" / "kitti_sparse_frames_corruptions.png")) is not None
    assert (
        "kitti_sparse_frames under corruptions at the images' own size: mCE 100.00 against fake at step 7"
        in capsys.readouterr().out
    )


def test_reports_that_must_not_be_compared_are_refused(tmp_path):
    row = {"dee": 0.2}
    entry = {
        "count": 7,
        "corruptions": {"severities": [1, 2], "image_size": None, "by_corruption": {"fog": row, "snow": row}},
    }
    content = {"protocols": {"world": entry, "kitti_eigen": {"count": 7}}, "model": {"name": "base", "step": 9}}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(content))

    def find(protocol="world", count=7, names=("fog", "snow"), severities=(1, 2), size=None):
        return measure.find_baseline(str(path), protocol, count, names, severities, size)

    assert find().name == f"base at step 9 ({path})"
    assert find(names=("snow",)).dee == {"snow": 0.2}
    with pytest.raises(UserError, match=r"has no corruptions under kitti_eigen \(it has them under: world\), and diff"):
        find(protocol="kitti_eigen")
    for other, words in (
        ({"count": 8}, "8 images corrupted at their own size, severities 1,2"),
        ({"severities": (1,)}, "7 images corrupted at their own size, severities 1"),
        ({"size": (192, 640)}, "7 images corrupted at 640x192, severities 1,2"),
    ):
        theirs = "was measured on 7 images corrupted at their own size, severities 1,2, this is on "
        with pytest.raises(UserError, match=f"{theirs}{words}: evaluate"):
            find(**other)
    with pytest.raises(UserError, match="was not measured under jpeg: evaluate"):
        find(names=("fog", "jpeg"))
    row["dee"] = 0
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="holds a DEE that is not positive"):
        find()
    for text in ("", "[]", '{"protocols": {}}', '{"protocols": {"world": {"corruptions": {"dee": 1}}}, "model": {}}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"is not a report\.json of an evaluation"):
            find()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"corruptions": ["frog"]}, "unknown corruption 'frog': did you mean fog or frost"),
        ({"corruptions": ["fog"], "severities": ["7"]}, "severity '7' does not exist"),
        ({"corruptions": ["fog"], "predictions": "x.npy"}, "--corruptions needs a model"),
        ({"corruptions": ["fog"], "protocols": ["odometry"]}, "needs a protocol of depth"),
        (
            {"corruptions": ["fog"], "corruption_size": ["192"]},
            "corruption size '192' is not HEIGHT,WIDTH of 32 or more",
        ),
        ({"baseline_report": "report.json"}, "--baseline_report and --corruption_size are for corruptions"),
        ({"corruption_size": ["192", "640"]}, "--baseline_report and --corruption_size are for corruptions"),
    ],
)
def test_refused_options(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Options(**{"protocols": ["world"], **options})


def test_all_severities_of_all_corruptions_need_no_warning_with_a_baseline_of_ones_own():
    clean = measured().clean
    metrics = {name: dict.fromkeys(SEVERITIES, clean.metrics) for name in BENCHMARK}
    baseline = measure.Baseline("own", dict.fromkeys(BENCHMARK, 0.2))
    own = measure.Robustness(clean, metrics, baseline, None, TIMING)
    assert own.warnings == []
    assert own.mrr == pytest.approx(100)
    published = measure.Baseline(PUBLISHED_NAME, PUBLISHED_DEE)
    assert len(dataclasses.replace(own, baseline=published).warnings) == 1
    eigen = dataclasses.replace(clean, name="kitti_eigen", expected_count=len(clean.per_image))
    at_full_size = dataclasses.replace(own, baseline=published, clean=eigen)
    assert "--corruption_size=192,640" in at_full_size.warnings[0]
    assert dataclasses.replace(at_full_size, size=(192, 640)).warnings == []


def test_the_share_of_corrupting_is_of_the_devices_time():
    assert TIMING.corruption_share == 0.25


def test_bars_are_as_long_as_their_values(tmp_path):
    found = measured()
    write_bars(found, tmp_path)
    chart = cv2.imread(str(tmp_path / bars_file(found.clean.name)))
    blue = (chart == (0xB2, 0x72, 0x00)).all(-1).sum(1)  # pixels of bars in each line of the picture
    lengths = [max(blue[rows]) for rows in np.array_split(np.arange(len(blue)), 3)]
    values = np.array([found.clean_dee, *found.dee.values()])
    np.testing.assert_allclose(lengths / max(lengths), values / max(values), atol=0.02)  # marks hide some pixels

"""Predictions made elsewhere: what is read, and the sentence for what cannot be."""

import cv2
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.evaluation.baselines import find_median_map
from robustdepth.evaluation.evaluator import evaluate
from robustdepth.evaluation.predictors import ForeignPredictor
from robustdepth.evaluation.protocols import PROTOCOLS
from tests.evaluation_fakes import FakeSamples

WORLD = PROTOCOLS["world"]
MEDIAN_MAP = np.full((2, 2), 20, np.float32)
COUNT = 3


@pytest.fixture
def samples():
    return FakeSamples(COUNT)


@pytest.fixture
def depths(samples):
    """What the fake network would say: the samples' depth without noise."""
    return np.stack([5 + 50 * (sample.image[..., 0] / np.float32(255)) for sample in samples])


def open_predictions(path, samples, kind="depth"):
    return ForeignPredictor(path, kind, len(samples), samples[0].name)


def abs_rel(path, samples, kind="depth"):
    return evaluate(WORLD, samples, open_predictions(path, samples, kind), MEDIAN_MAP).metrics["abs_rel"]


def test_every_form_gives_the_same_numbers(tmp_path, samples, depths):
    np.save(tmp_path / "depth.npy", depths)
    np.save(tmp_path / "inverse.npy", 3 / depths)  # any factor: median scaling
    np.savez(tmp_path / "one.npz", predictions=depths)
    np.savez(tmp_path / "named.npz", depth=depths, confidence=depths)
    folder = tmp_path / "maps"
    folder.mkdir()
    for sample, depth in zip(samples, depths, strict=True):
        np.save(folder / (sample.name.replace("/", "_").replace(" ", "_") + ".npy"), depth)
    wanted = abs_rel(tmp_path / "depth.npy", samples)
    assert 0.1 < wanted < 0.5
    assert abs_rel(tmp_path / "inverse.npy", samples, "inverse_depth") == pytest.approx(wanted, rel=1e-5)
    for name in ("one.npz", "named.npz", "maps"):
        assert abs_rel(tmp_path / name, samples) == pytest.approx(wanted, rel=1e-6)


def test_a_folder_matches_by_name_or_in_sorted_order(tmp_path, samples, depths):
    for folder, names in {
        "nested": [f"{sample.name}.png" for sample in samples],
        "sorted": [f"{index:04d}.png" for index in range(COUNT)],
    }.items():
        for name, depth in zip(names, depths, strict=True):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.round(depth * 256).astype(np.uint16))
    by_name, by_order = (open_predictions(tmp_path / folder, samples) for folder in ("nested", "sorted"))
    assert (by_name.describe()["matched_by"], by_order.describe()["matched_by"]) == ("name", "order")
    for predictor in (by_name, by_order):
        np.testing.assert_allclose(1 / predictor.prepare(2, samples[2]), depths[2], atol=1 / 512)


def test_wrong_count_or_path(tmp_path, samples, depths):
    np.save(tmp_path / "two.npy", depths[:2])
    np.save(tmp_path / "flat.npy", depths[0])
    (tmp_path / "empty").mkdir()
    for name, sentence in {
        "two.npy": "holds 2 predictions, the protocol has 3 images",
        "flat.npy": r"holds an array of shape \(16, 32\): predictions are \[count, h, w\]",
        "empty": "holds 0 predictions, the protocol has 3 images",
        "absent.npy": "neither a file nor a folder",
    }.items():
        with pytest.raises(UserError, match=sentence):
            open_predictions(tmp_path / name, samples)
    with pytest.raises(UserError, match="predictions_kind=disparity is unknown: use depth or inverse_depth"):
        open_predictions(tmp_path / "two.npy", samples, "disparity")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.nan, "holds NaN or infinite"),
        (np.inf, "holds NaN or infinite"),
        (0.0, "not positive"),
        (-1.0, "not positive"),
    ],
)
def test_impossible_values(tmp_path, samples, depths, value, sentence):
    depths[1, 3, 4] = value
    np.save(tmp_path / "bad.npy", depths)
    with pytest.raises(UserError, match=f"prediction for drive/a 001 .*{sentence}"):
        abs_rel(tmp_path / "bad.npy", samples)


def test_wrong_sizes(tmp_path, samples, depths):
    np.save(tmp_path / "small.npy", depths[:, ::2, ::2])
    with pytest.raises(UserError, match=r"prediction for drive/a 000 has size \(8, 16\), its ground truth \(16, 32\)"):
        abs_rel(tmp_path / "small.npy", samples)


def test_hostile_and_damaged_files(tmp_path, samples, depths):
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}] * COUNT, dtype=object), allow_pickle=True)
    np.save(tmp_path / "good.npy", depths)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:500])
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "integers.npy", depths.astype(np.int32))
    np.savez(tmp_path / "two.npz", a=depths, b=depths)
    for name, sentence in {
        "pickle.npy": "cannot be read as a plain numeric array",
        "cut.npy": "cannot be read as a plain numeric array",
        "text.npz": "cannot be read as a plain numeric array",
        "integers.npy": "holds int32 values: predictions are floating-point",
        "two.npz": "holds the arrays a, b: name one of them 'depth'",
    }.items():
        with pytest.raises(UserError, match=sentence):
            open_predictions(tmp_path / name, samples)


def test_a_folder_with_a_bad_picture_or_a_missing_one(tmp_path, samples, depths):
    for folder in ("eight", "other"):
        for sample in samples:
            path = tmp_path / folder / f"{sample.name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.ones((16, 32), np.uint8 if folder == "eight" else np.uint16))
    with pytest.raises(UserError, match=r"a 000.png is not a readable 16-bit PNG"):
        abs_rel(tmp_path / "eight", samples)
    (tmp_path / "other" / f"{samples[1].name}.png").rename(tmp_path / "other" / "unknown.png")
    with pytest.raises(UserError, match="no prediction for drive/a 001"):
        abs_rel(tmp_path / "other", samples)


def test_median_map_files(tmp_path):
    np.savez(tmp_path / "good.npz", depth=MEDIAN_MAP, origin="LiDAR of 3 training frames")
    depth, origin = find_median_map(str(tmp_path / "good.npz"), None)
    np.testing.assert_array_equal(depth, MEDIAN_MAP)
    assert origin.startswith("LiDAR of 3 training frames")
    np.savez(tmp_path / "zero.npz", depth=0 * MEDIAN_MAP)
    np.savez(tmp_path / "nameless.npz", MEDIAN_MAP)
    np.save(tmp_path / "array.npy", MEDIAN_MAP)
    (tmp_path / "text.npz").write_text("hello")
    for name in ("zero.npz", "nameless.npz", "array.npy", "text.npz", "absent.npz"):
        with pytest.raises(UserError, match=f"{name} (is not a|holds no) median depth map"):
            find_median_map(str(tmp_path / name), None)

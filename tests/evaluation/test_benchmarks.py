"""The frozen protocols of the public datasets, and a whole evaluation under them."""

import itertools

import cv2
import numpy as np
import pytest

from robustdepth.data.benchmarks.datasets import DATASETS
from robustdepth.errors import UserError
from robustdepth.evaluation.evaluator import evaluate
from robustdepth.evaluation.frame import resize_corners
from robustdepth.evaluation.pictures import write_panels
from robustdepth.evaluation.predictors import NetworkPredictor
from robustdepth.evaluation.protocols import EIGEN_CROP, PROTOCOLS, WHOLE_IMAGE, resolve_alignment
from robustdepth.evaluation.samples import protocol_samples
from tests.adverse_recordings import write_driving_stereo, write_kitti_c
from tests.evaluation_fakes import FakeModel
from tests.recordings import DRIVE, SIZE, point_at, write_kitti_raw, write_scan

INFINITY = float("inf")
# name: count, valid range, clip, alignment, resize, crop, ground truth of its own size
WANTED = {
    "drivingstereo_foggy": (500, (0, INFINITY), (1e-3, 80), "median", "inverse_bilinear", WHOLE_IMAGE, False),
    "nuscenes_day_rain": (None, (0.1, 80), (0.1, 80), "by scale", "depth_corners", WHOLE_IMAGE, False),
    "nuscenes_night_500": (500, (0, INFINITY), (1e-3, 80), "median", "inverse_bilinear", WHOLE_IMAGE, False),
    "robotcar_night": (None, (0.1, 50), (0.1, 50), "by scale", "depth_corners", WHOLE_IMAGE, False),
    "cadc": (510, (0, INFINITY), (1e-3, 80), "median", "inverse_bilinear", WHOLE_IMAGE, False),
    "make3d": (134, (0, 70), (1e-3, 70), "median", "depth_nearest", WHOLE_IMAGE, True),
    "kitti_c_fog_5": (697, (1e-3, 80), (1e-3, 80), "by scale", "inverse_bilinear", EIGEN_CROP, True),
    "vkitti2_rain": (2126, (1e-3, 80), (1e-3, 80), "by scale", "inverse_bilinear", WHOLE_IMAGE, False),
}


@pytest.mark.parametrize("name", WANTED)
def test_constants(name):
    p = PROTOCOLS[name]
    assert (p.count, p.valid, p.clip, p.alignment, p.resize, p.crop, p.own_size) == WANTED[name]


def test_every_condition_has_a_protocol():
    conditions = set(itertools.chain(*(dataset.conditions for dataset in DATASETS.values())))
    assert conditions == {name for name, protocol in PROTOCOLS.items() if protocol.truth == "dataset"}
    assert len(conditions) == 4 + 4 + 2 + 4 + 1 + 1 + 90 + 6 + 2
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())


def test_metric_models_are_aligned_where_the_published_numbers_are():
    assert resolve_alignment(PROTOCOLS["drivingstereo_rainy"], "metric") == ("median", "drivingstereo_rainy")
    assert resolve_alignment(PROTOCOLS["nuscenes_night"], "metric") == ("none", "nuscenes_night")


@pytest.mark.parametrize(("old", "new"), [((5, 7), (9, 13)), ((4, 6), (11, 23)), ((3, 3), (3, 8)), ((1, 1), (4, 5))])
def test_corner_aligned_resize_is_a_warp_between_the_corners(old, new):
    values = np.random.default_rng(0).uniform(1, 50, old)
    rows, columns = (np.linspace(0, a - 1, b) for a, b in zip(old, new, strict=True))
    wanted = [[_bilinear(values, y, x) for x in columns] for y in rows]
    np.testing.assert_allclose(resize_corners(values, new), wanted, rtol=1e-12)


def _bilinear(values: np.ndarray, y: float, x: float) -> float:
    """One value between pixel centres, from its four neighbours."""
    total = 0.0
    for row, column in itertools.product(range(values.shape[0]), range(values.shape[1])):
        total += values[row, column] * max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column))
    return total


def test_a_whole_evaluation_with_a_count_other_than_the_published(tmp_path):
    write_driving_stereo(tmp_path, "rainy", count=3)
    protocol = PROTOCOLS["drivingstereo_rainy"]
    samples = protocol_samples(protocol, data_root=str(tmp_path))
    model = FakeModel(image_size=(40, 88))
    result = evaluate(protocol, samples, NetworkPredictor(model, batch_size=2), np.full((4, 8), 20.0, np.float32))
    for row, sample in zip(result.per_image, samples, strict=True):
        mask = sample.depth > 0
        truth, guess = sample.depth[mask].astype(np.float64), 5 + 50 * (sample.image[mask][:, 0] / 255)
        guess = np.clip(guess * np.median(truth) / np.median(guess), 1e-3, 80)
        assert row["abs_rel"] == pytest.approx(np.mean(abs(truth - guess) / truth), rel=1e-5)
    assert "3 images instead of the 500" in result.warnings[0]


def test_pictures_where_ground_truth_has_another_size(tmp_path):
    write_kitti_raw(tmp_path, numbers=[2], sides="l")
    write_scan(tmp_path, 2, np.array([point_at(u, 35, 5 + u / 10) for u in range(10, 150, 5)]))
    write_kitti_c(tmp_path, "fog", 3, DRIVE, 2)
    (tmp_path / "split.txt").write_text(f"{DRIVE} 2 l\n")
    protocol = PROTOCOLS["kitti_c_fog_3"]
    samples = protocol_samples(protocol, data_root=str(tmp_path), split=str(tmp_path / "split.txt"))
    predictor = NetworkPredictor(FakeModel(image_size=(192, 640)), batch_size=1)
    result = evaluate(protocol, samples, predictor, np.full((4, 8), 20.0, np.float32))
    assert samples[0].depth.shape == SIZE
    ((caption, file),) = write_panels(result, protocol, samples, predictor, tmp_path / "pictures")
    assert caption.startswith(f"{DRIVE} 0000000002 l: abs_rel")
    assert cv2.imread(str(tmp_path / "pictures" / file)).shape[1] == 1200


def test_what_a_dataset_needs(tmp_path):
    with pytest.raises(UserError, match=r"cadc needs --data_root=FOLDER, which holds DATE/calib"):
        protocol_samples(PROTOCOLS["cadc"])
    with pytest.raises(UserError, match="make3d has no drives"):
        protocol_samples(PROTOCOLS["make3d"], data_root=str(tmp_path), drives=["0001"])

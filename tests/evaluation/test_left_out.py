"""Samples that cannot be read are left out, counted and named; pictures and corruptions keep to the others."""

import dataclasses

import numpy as np
import pytest
from ml_collections import ConfigDict

from robustdepth.data.recordings.kitti_raw import lidar_samples
from robustdepth.errors import UserError
from robustdepth.evaluation import evaluator
from robustdepth.evaluation.evaluator import evaluate
from robustdepth.evaluation.pictures import write_panels
from robustdepth.evaluation.predictors import ForeignPredictor, NetworkPredictor
from robustdepth.evaluation.protocols import PROTOCOLS
from robustdepth.evaluation.robustness.corruptions import evaluate_corruptions, find_baseline
from robustdepth.evaluation.samples import first_name
from tests.evaluation_fakes import FakeModel
from tests.recordings import DRIVE, SIZE, point_at, truncate, write_kitti_raw, write_scan

SPARSE = dataclasses.replace(PROTOCOLS["kitti_sparse_frames"], alignment="median")
CONFIG = ConfigDict({"name": "fake", "model": {"encoder": "none"}, "data": {"grey": 0.0}})
MEDIAN_MAP = np.full((4, 8), 20.0, np.float32)
SCANS = f"{DRIVE}/velodyne_points/data"


@pytest.fixture
def root(tmp_path):
    """Five frames with LiDAR."""
    write_kitti_raw(tmp_path, numbers=range(5), sides="l")
    for number in range(5):
        write_scan(tmp_path, number, np.array([point_at(u, 35, 5 + u / 10 + number) for u in range(10, 150, 5)]))
    return tmp_path


def test_an_empty_scan_and_a_cut_image_cost_only_themselves(root, caplog):
    network = NetworkPredictor(FakeModel(image_size=SIZE, config=CONFIG), batch_size=2)
    whole = evaluate(SPARSE, lidar_samples(root), network, MEDIAN_MAP)
    (root / SCANS / "0000000001.bin").write_bytes(b"")
    truncate(root / DRIVE / "image_02/data/0000000003.png")
    samples = lidar_samples(root)
    result = evaluate(SPARSE, samples, network, MEDIAN_MAP)

    assert result.indices == [0, 2, 4]
    assert result.per_image == [whole.per_image[i] for i in (0, 2, 4)]
    assert [number for number, _ in result.left_out] == [1, 3]
    assert result.warnings[0].startswith(
        "2 of 5 images could not be read and are left out, the first: cannot read LiDAR"
    )
    assert "0000000001.bin: it holds no point in 0 bytes" in caplog.text
    assert result.as_json()["left_out"][1]["reason"].startswith("cannot read image")

    panels = write_panels(result, SPARSE, samples, network, root / "pictures")
    assert sorted(caption.split(":")[0] for caption, _ in panels) == [row["name"] for row in result.per_image]
    baseline = find_baseline("", result.alignment, len(samples), ["brightness"], [1], None)
    corrupted = evaluate_corruptions(SPARSE, samples, network, result, ["brightness"], [1], baseline)
    assert corrupted.metrics["brightness"][1]["abs_rel"] != result.metrics["abs_rel"]


def test_predictions_keep_their_order_around_what_is_left_out(root):
    depths = np.stack([np.full(SIZE, 4.0 + i, np.float32) * np.linspace(1, 2, SIZE[1]) for i in range(5)])
    np.save(root / "predictions.npy", depths.astype(np.float32))
    (root / SCANS / "0000000000.bin").write_bytes(bytes(7))  # not even one point
    samples = lidar_samples(root)
    assert first_name(samples) == f"{DRIVE} 0000000001 l"
    predictor = ForeignPredictor(root / "predictions.npy", "depth", len(samples), first_name(samples))
    result = evaluate(dataclasses.replace(SPARSE, alignment="none"), samples, predictor, MEDIAN_MAP)
    assert result.indices == [1, 2, 3, 4]
    for row, index in zip(result.per_image, result.indices, strict=True):
        truth = samples[index].depth
        known = truth > 0
        error = np.abs(truth - np.clip(depths[index], 1e-3, 80))[known] / truth[known]
        assert row["abs_rel"] == pytest.approx(error.mean(), rel=1e-4)


def test_too_many_and_all(root, monkeypatch):
    network = NetworkPredictor(FakeModel(image_size=SIZE, config=CONFIG), batch_size=2)
    for number in range(5):
        (root / SCANS / f"{number:010d}.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of the 5 samples of .* can be read: cannot read LiDAR scan"):
        evaluate(SPARSE, lidar_samples(root), network, MEDIAN_MAP)
    monkeypatch.setattr(evaluator, "MAX_LEFT_OUT", 2)
    with pytest.raises(UserError, match=r"more than 2 samples cannot be read, the last: cannot read LiDAR scan"):
        evaluate(SPARSE, lidar_samples(root), network, MEDIAN_MAP)

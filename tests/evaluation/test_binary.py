"""The evaluation on a real checkpoint and real LiDAR frames, and the binary's own refusals."""

import json
import subprocess
import sys

import numpy as np
import pytest

from robustdepth.evaluation.predictors import NetworkPredictor, Prepared
from robustdepth.evaluation.run import Options, run_evaluation
from robustdepth.runtime.inference import load_model
from tests.checkpoints import save_untrained
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval") / "run"
    save_untrained(tiny_config(views=("previous", "next")), folder)
    np.savez(folder / "train_median.npz", depth=np.linspace(60, 6, 32, dtype=np.float32)[:, None] * np.ones((1, 64)))
    return folder


def test_a_checkpoint_on_real_lidar_frames(workdir, real_data, tmp_path):
    options = Options(
        ["kitti_sparse_frames"],
        data_root=str(real_data / "kitti_raw"),
        drives=["2011_09_26/2011_09_26_drive_0005_sync"],
    )
    run_evaluation(str(workdir / "checkpoints" / "5"), str(tmp_path / "out"), options)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    entry = report["protocols"]["kitti_sparse_frames"]
    assert (entry["count"], entry["alignment"]) == (20, "median")
    assert entry["per_image"][0]["name"] == "2011_09_26/2011_09_26_drive_0005_sync 0000000000 l"
    assert 0.3 < entry["baselines"]["constant"]["abs_rel"] < 0.7
    assert report["model"]["step"] == 5


def test_sharded_batches_equal_single_images(workdir):
    model = load_model(workdir)
    images = list(np.random.default_rng(0).random((3, 32, 64, 3), np.float32))
    sharded = NetworkPredictor(model, batch_size=8).infer([Prepared(image, 1.0) for image in images])
    for image, inverse in zip(images, sharded, strict=True):
        np.testing.assert_allclose(inverse, model.inverse_depth(image[None])[0], rtol=1e-4)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--workdir=a", "--checkpoint=b"], "--workdir and --checkpoint exclude each other"),
        (["--watch"], "--watch needs --workdir"),
    ],
)
def test_refusals_before_anything_is_loaded(tmp_path, flags, sentence):
    command = [sys.executable, "-m", "robustdepth.evaluate", f"--output={tmp_path / 'out'}", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"error: {sentence}" in done.stderr
    assert not (tmp_path / "out").exists()

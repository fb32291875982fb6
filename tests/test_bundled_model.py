"""The model inside the package: it is there, small, and knows depth where it never was."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import robustdepth
from robustdepth.evaluation.run import Options, evaluate_model
from robustdepth.runtime.bundle import BUNDLED, BUNDLED_EXPERT, BUNDLED_MODEL
from robustdepth.runtime.inference import load_model


@pytest.fixture(scope="module")
def worlds():
    """Eight worlds that no training sees, of a size that compiles and runs for long: rendered once."""
    from robustdepth.world.generate import render_examples

    return render_examples(np.arange(8), seed=11, split="evaluation", size=(128, 416), views=("next",))


def test_the_files_are_small_and_have_a_card():
    assert BUNDLED_MODEL.stat().st_size + BUNDLED_EXPERT.stat().st_size < 16e6
    card = (BUNDLED_MODEL.parent / "README.md").read_text()
    assert BUNDLED_MODEL.name in card
    assert BUNDLED_EXPERT.name in card


def test_it_knows_the_metres_of_unseen_worlds_with_cameras_of_their_own(worlds):
    batch, truth = worlds
    cameras = [jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), batch.camera) for i in range(4)]
    predictions = robustdepth.load(BUNDLED).batch(list(np.asarray(batch.target[:4])), cameras)
    assert {prediction.scale for prediction in predictions} == {"metric"}
    depth, true = np.stack([p.depth for p in predictions]), np.asarray(truth.depth[:4, 0])
    known = true < 80
    error = np.abs(depth - true)[known] / true[known]
    constant = np.abs(np.median(true[known]) - true[known]) / true[known]
    assert error.mean() < 0.4 * constant.mean()  # metres, without scaling, against the best of constants


def test_it_brings_a_pose_network_that_knows_how_far_the_camera_drove(worlds):
    batch, truth = worlds
    model = load_model(BUNDLED)
    first, second = (np.asarray(images, np.float32) / 255 for images in (batch.target, batch.sources[:, 0]))
    moved = np.asarray(model.relative_pose(first, second))[:, :3, 3]
    factor = np.array([model.metres_factor(jax.tree.map(lambda leaf, i=i: leaf[i], batch.camera)) for i in range(8)])
    true = np.asarray(truth.pose[:, 0, :3, 3])
    error = np.linalg.norm(moved * factor[:, None] - true, axis=1)
    assert error.mean() < 0.5 * np.linalg.norm(true, axis=1).mean()  # against a camera that stands still


def test_predict_works_right_after_installing(tmp_path):
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 255, (60, 200, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    command = ["-m", "robustdepth.predict", "--checkpoint=bundled", "photo.png", "--output=depth", "--outputs=png"]
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "depth" / "photo_depth.png") as depth:
        assert depth.size == (200, 60)


def test_depth_of_real_streets_is_better_than_the_trivial_baselines(tmp_path, real_data):
    options = Options(protocols=["kitti_2015"], data_root=str(real_data / "kitti_2015_dev"))
    (result,) = evaluate_model(load_model(BUNDLED), tmp_path, options)
    better = min(metrics["abs_rel"] for metrics in result.baselines.values())
    assert result.metrics["abs_rel"] < 0.75 * better  # in metres

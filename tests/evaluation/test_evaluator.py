"""Whole evaluations of a fake network: exact means over devices, baselines, resize rule, flip, bad samples."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.evaluation.evaluator import evaluate
from robustdepth.evaluation.frame import ScoredFrame
from robustdepth.evaluation.predictors import NetworkPredictor, Prepared, flip_post_process
from robustdepth.evaluation.protocols import PROTOCOLS
from robustdepth.types import Camera
from tests.evaluation_fakes import FakeModel, FakeSamples, reference_metrics_of

WORLD, EIGEN = PROTOCOLS["world"], PROTOCOLS["kitti_eigen"]
MEDIAN_MAP = np.linspace(60, 5, 16, dtype=np.float32)[:, None].repeat(32, axis=1)


def reference(sample, depth):
    """One image under the world protocol with median scaling, in float64."""
    mask = (sample.depth > 1e-3) & (sample.depth < 80)
    truth, guess = sample.depth[mask].astype(np.float64), depth[mask].astype(np.float64)
    scaled = np.clip(guess * np.median(truth) / np.median(guess), 1e-3, 80)
    return reference_metrics_of(tuple(scaled.tolist()), tuple(truth.tolist()))


def test_thirteen_samples_on_eight_devices_give_the_exact_mean():
    assert len(jax.devices()) == 8
    samples = FakeSamples(13)
    result = evaluate(WORLD, samples, NetworkPredictor(FakeModel(), batch_size=3), MEDIAN_MAP)
    assert [row["name"] for row in result.per_image] == [sample.name for sample in samples]
    wanted = [reference(sample, 5 + 50 * (sample.image[..., 0] / 255)) for sample in samples]
    for key, value in result.metrics.items():
        if key != "boundary_f1":  # test_outlines.py has its reference
            assert value == pytest.approx(np.mean([row[key] for row in wanted]), rel=1e-5), key
        assert value == pytest.approx(np.mean([row[key] for row in result.per_image]), rel=1e-12)


def test_the_network_runs_on_all_devices():
    seen = []

    class Spy(FakeModel):
        def inverse_depth(self, images):
            seen.append((images.shape, images.sharding, self.variables["factor"].sharding))
            return super().inverse_depth(images)

    predictor = NetworkPredictor(Spy(), batch_size=9)
    assert len(predictor.infer([Prepared(np.zeros((16, 32, 3), np.float32), 1.0)] * 5)) == 5
    shape, images, weights = seen[-1]
    assert shape == (16, 16, 32, 3)  # 9 rounded up to a multiple of 8
    assert len(images.device_set) == 8
    assert weights.is_fully_replicated


def test_baselines_stand_under_the_same_protocol():
    samples = FakeSamples(5)
    result = evaluate(WORLD, samples, NetworkPredictor(FakeModel()), MEDIAN_MAP)
    for name, depth in {"constant": np.full((16, 32), 3.0), "train_median": MEDIAN_MAP}.items():
        wanted = np.mean([reference(sample, depth)["abs_rel"] for sample in samples])
        assert result.baselines[name]["abs_rel"] == pytest.approx(wanted, rel=1e-6)
    best = min(row["abs_rel"] for row in result.baselines.values())
    assert result.below_baseline == pytest.approx(1 - result.metrics["abs_rel"] / best)


def test_without_alignment_the_constant_is_the_training_sets_median():
    samples = FakeSamples(2)
    result = evaluate(WORLD, samples, NetworkPredictor(FakeModel()), MEDIAN_MAP, alignment="none")
    assert result.name == "world[alignment=none]"
    truth = [sample.depth[(sample.depth > 1e-3) & (sample.depth < 80)] for sample in samples]
    constant = 1 / np.median(1 / MEDIAN_MAP)
    wanted = np.mean([np.mean(np.abs(g - constant) / g) for g in truth])
    assert result.baselines["constant"]["abs_rel"] == pytest.approx(wanted, rel=1e-5)


def test_predictions_are_resized_as_inverse_depth():
    """Columns 1/2 and 1/6 upsampled twice: (3/4, 1/4) mixes of inverse depth, not of depth."""
    sample = FakeSamples(1, size=(2, 4))[0]
    truth = np.broadcast_to(np.array([2, 2.4, 4, 6], np.float32), (2, 4)).copy()
    frame = ScoredFrame(PROTOCOLS["kitti_eigen_improved"], "none", dataclasses.replace(sample, depth=truth))
    inverse = np.array([[1 / 2, 1 / 6]], np.float32)
    np.testing.assert_allclose(frame.depth(inverse), truth, rtol=1e-6)
    assert frame.score(inverse)["abs_rel"] == pytest.approx(0, abs=1e-6)


def test_flip_post_processing_mixes_at_the_borders():
    left_seen, right_seen = np.full((1, 2, 101), 1.0, np.float32), np.full((1, 2, 101), 3.0, np.float32)
    mixed = flip_post_process(left_seen, right_seen)[0, 0]
    # left border: the mirrored image's prediction; right border: the image's own; their mean between; ramps of 5%
    np.testing.assert_allclose(mixed[[0, 5, 50, 95, 100]], [3, 3, 2, 1, 1], rtol=1e-5)
    assert mixed[7] == pytest.approx(3 * 0.6 + 2 * 0.4, rel=1e-5)  # ramp: 1 - 20 (0.07 - 0.05)


def test_flip_runs_the_mirrored_image_and_mirrors_back():
    draw = np.random.default_rng(0)
    model, images = FakeModel(), [Prepared(draw.random((16, 32, 3), np.float32), 1.0) for _ in range(3)]
    plain = NetworkPredictor(model).infer(images)
    flipped = NetworkPredictor(model, flip=True).infer(images)  # a pointwise network gives the same either way
    np.testing.assert_allclose(flipped, plain, rtol=1e-6)


def test_count_of_a_published_protocol_is_said_loudly():
    samples = FakeSamples(2, size=(40, 120))
    result = evaluate(EIGEN, samples, NetworkPredictor(FakeModel()), MEDIAN_MAP)
    assert result.warnings[0].startswith("2 images instead of the 697 of the protocol")
    assert 0 <= result.outside_network <= 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"depth": np.ones((8, 8), np.float32)},
            r"ground truth of drive/a 001 has size \(8, 8\), its image \(16, 32\)",
        ),
        ({"depth": np.zeros((16, 32), np.float32)}, "drive/a 001 has no valid ground truth under world"),
    ],
)
def test_bad_samples(change, sentence):
    samples = FakeSamples(3)
    samples[1] = dataclasses.replace(samples[1], **change)
    with pytest.raises(UserError, match=sentence):
        evaluate(WORLD, samples, NetworkPredictor(FakeModel()), MEDIAN_MAP)


def test_a_network_that_predicts_nan_is_refused():
    broken = NetworkPredictor(FakeModel(variables={"factor": jnp.float32("nan")}))
    with pytest.raises(UserError, match="the prediction for drive/a 000 is not positive and finite"):
        evaluate(WORLD, FakeSamples(1), broken, MEDIAN_MAP)


def test_metres_are_those_of_the_samples_camera():
    """A model of the canonical camera: a lens that is twice as long sees the same image at twice the depth."""

    class Canonical(FakeModel):
        def metres_factor(self, camera):
            return float(camera.focal[0])

    samples, errors = FakeSamples(2, noise=0.0), []
    for focal in (1.0, 2.0):
        camera = Camera(np.full(2, focal, np.float32), np.ones(2, np.float32), (16, 32))
        seen = [dataclasses.replace(s, camera=camera, depth=s.depth * np.float32(focal)) for s in samples]
        result = evaluate(WORLD, seen, NetworkPredictor(Canonical(scale="metric")), MEDIAN_MAP, alignment="none")
        errors.append(result.metrics["abs_rel"])
    np.testing.assert_allclose(errors, 0.0, atol=1e-5)

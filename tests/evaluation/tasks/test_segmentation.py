"""Intersection over union against arithmetic by hand, and the evaluation of a network against one image at a time."""

import dataclasses
import json
from types import SimpleNamespace

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.evaluation.protocols import PROTOCOLS
from robustdepth.evaluation.run import Options, run_evaluation
from robustdepth.evaluation.tasks.segmentation import Scores, confusion_matrix, draw_row
from robustdepth.evaluation.watch import watch
from robustdepth.models.build import build_segmentation_net
from robustdepth.runtime.checkpoint import load_weights
from robustdepth.runtime.workdir import FINISHED_FILE
from robustdepth.world.scene import CLASSES
from tests.checkpoints import save_untrained
from tests.tiny import tiny_config

COUNT = 5


def reference_iou(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """|truth and prediction| / |truth or prediction| of the sets of pixels of every labelled class."""
    found = {}
    for number, name in enumerate(CLASSES):
        truth, claimed = ({tuple(at) for at in np.argwhere(x == number)} for x in (labels, predicted))
        if truth:
            found[name] = len(truth & claimed) / len(truth | claimed)
    return found


def test_iou_of_a_case_worked_out_by_hand():
    road, sidewalk, sky = (CLASSES.index(name) for name in ("road", "sidewalk", "sky"))
    labels = np.array([[road, road, road, sky], [road, sidewalk, sky, sky]])
    predicted = np.array([[road, road, sidewalk, sky], [road, sidewalk, sky, road]])
    scores = Scores(confusion_matrix(labels, predicted, len(CLASSES)))
    assert scores.confusion[road].sum() == 4
    assert scores.confusion[road, sidewalk] == scores.confusion[sky, road] == 1
    # road: 3 right of 4 labelled and 1 claimed in the sky; sidewalk: 1 of 2; sky: 2 of 3.
    assert scores.iou == {"road": 3 / 5, "sidewalk": 1 / 2, "sky": 2 / 3}
    assert scores.metrics == {"mean_iou": pytest.approx((3 / 5 + 1 / 2 + 2 / 3) / 3), "accuracy": 6 / 8}
    assert scores.absent == [name for name in CLASSES if name not in ("road", "sidewalk", "sky")]
    assert scores.baseline.iou == {"road": 4 / 8, "sidewalk": 0.0, "sky": 0.0}
    assert scores.baseline.metrics == {"mean_iou": pytest.approx(1 / 6), "accuracy": 0.5}


def test_iou_of_random_maps_is_that_of_sets_of_pixels():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 9, (2, 12, 14)).astype(np.int32)  # three classes are absent but predicted
    predicted = np.where(draw.random(labels.shape) < 0.5, labels, draw.integers(0, 12, labels.shape)).astype(np.int32)
    scores = Scores(confusion_matrix(labels, predicted, len(CLASSES)))
    assert scores.confusion.dtype == np.int64
    assert scores.iou == pytest.approx(reference_iou(labels, predicted), rel=1e-12)
    assert scores.absent == list(CLASSES[9:])
    assert scores.metrics["mean_iou"] == pytest.approx(np.mean(list(reference_iou(labels, predicted).values())))


def test_a_perfect_prediction_and_a_sum_of_parts():
    labels = np.arange(12).repeat(5)
    perfect = Scores(confusion_matrix(labels, labels, 12))
    assert perfect.metrics == {"mean_iou": 1.0, "accuracy": 1.0}
    assert perfect.absent == []
    half = confusion_matrix(labels[:7], labels[::-1][:7], 12) + confusion_matrix(labels[7:], labels[::-1][7:], 12)
    np.testing.assert_array_equal(half, confusion_matrix(labels, labels[::-1], 12))


def test_rows_show_image_labels_and_prediction_in_the_colours_of_the_classes():
    image = np.full((2, 3, 3), 7, np.uint8)
    row = draw_row(image, np.full((2, 3), CLASSES.index("road")), np.full((2, 3), CLASSES.index("sky")))
    np.testing.assert_array_equal(row[0, ::3], [(7, 7, 7), (128, 64, 128), (70, 130, 180)])  # Cityscapes' colours


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    config = tiny_config()
    config.task = "segmentation"
    config.model.output_stride = 4
    folder = tmp_path_factory.mktemp("segmentation") / "run"
    save_untrained(config, folder)
    return folder


@pytest.fixture
def worlds(monkeypatch):
    """Images and labels that stand for the renderer's, smooth enough that a network sees something; few of them."""
    draw = np.random.default_rng(0)
    images = np.stack(
        [cv2.resize(draw.integers(0, 256, (4, 8, 3), dtype=np.uint8), (64, 32)) for _ in range(COUNT + 8)]
    )
    labels = draw.integers(0, 9, (COUNT + 8, 1, 32, 64)).astype(np.int32)

    def render_examples(indices, *, seed, split, size, views, devices):
        assert (seed, split, size, views) == (0, "evaluation", (32, 64), ())
        return SimpleNamespace(target=images[indices]), SimpleNamespace(labels=labels[indices])

    monkeypatch.setattr("robustdepth.world.generate.render_examples", render_examples)
    monkeypatch.setitem(PROTOCOLS, "world", dataclasses.replace(PROTOCOLS["world"], count=COUNT))
    return images[:COUNT], labels[:COUNT, 0]


def test_a_network_s_report_is_that_of_single_images_resized_by_opencv(workdir, worlds, tmp_path, capsys):
    assert run_evaluation(str(workdir), str(tmp_path / "out"), Options(["world"], batch_size=3)) == []
    weights = load_weights(workdir)
    variables = {"params": weights.params["segmentation"], "batch_stats": weights.stats["segmentation"]}
    network = build_segmentation_net(weights.config.model)
    images, labels = worlds
    seen = jnp.asarray(images.astype(np.float32) / np.float32(255))
    logits = jax.jit(lambda v, x: network.apply(v, x, train=False)[0])(variables, seen)
    assert logits.shape == (COUNT, 8, 16, 12)
    predicted = [cv2.resize(x, (64, 32), interpolation=cv2.INTER_LINEAR).argmax(-1) for x in np.asarray(logits)]

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    entry = report["protocols"]["world"]
    assert (entry["count"], report["model"]["step"]) == (COUNT, 5)
    confusion = np.zeros((12, 12), int)
    np.add.at(confusion, (labels, np.stack(predicted)), 1)
    assert confusion.sum() == COUNT * 32 * 64
    assert np.abs(np.array(entry["confusion"]) - confusion).sum() <= 10  # of 10240 pixels; near ties round differently
    assert len(np.unique(predicted)) > 1
    expected = reference_iou(labels, np.stack(predicted))
    assert entry["iou"].keys() == expected.keys()
    assert entry["metrics"]["mean_iou"] == pytest.approx(np.mean(list(expected.values())), abs=2e-3)
    assert entry["absent"] == [name for name in CLASSES if name not in expected]

    printed, text = capsys.readouterr().out, (tmp_path / "out" / "report.md").read_text()
    for output in (printed, text):
        assert f"{entry['metrics']['mean_iou']:10.3f}" in output
        assert not entry["absent"] or f"The labels have no {', '.join(entry['absent'])}" in output
    picture = cv2.imread(str(tmp_path / "out" / "pictures" / "segmentation.png"))
    assert picture.shape == (4 * 32, 3 * 64, 3)
    np.testing.assert_array_equal(picture[:32, :64, ::-1], images[0])


def test_a_training_of_a_segmentation_network_is_followed(workdir, worlds, tmp_path):
    finished = workdir / FINISHED_FILE
    finished.write_text("5\n")
    watch(str(workdir), str(tmp_path / "out"), Options(["world"], batch_size=3))
    finished.unlink()
    (row,) = (json.loads(line) for line in (tmp_path / "out" / "watch.jsonl").read_text().splitlines())
    report = json.loads((tmp_path / "out" / "step_00000005" / "report.json").read_text())
    assert report["model"]["step"] == 5
    assert row == {"step": 5, "world": report["protocols"]["world"]["metrics"]}
    assert 0 < row["world"]["mean_iou"] < 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"protocols": ["world", "kitti_eigen"]}, "has --protocols=world alone, not world,kitti_eigen"),
        ({"protocols": ["world"], "weather": "fog", "flip": True}, "leave --flip, --weather out"),
        ({"protocols": ["world"], "corruptions": ["all"]}, "leave --corruptions out"),
    ],
)
def test_what_means_nothing_for_classes_is_refused_before_anything_runs(workdir, tmp_path, options, sentence):
    with pytest.raises(UserError, match=sentence):
        run_evaluation(str(workdir), str(tmp_path / "out"), Options(**options))
    assert not (tmp_path / "out").exists()

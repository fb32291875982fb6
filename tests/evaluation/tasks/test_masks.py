"""Protocol masks: shares and errors against arrays worked out by hand, and a whole evaluation of a made-up network."""

import dataclasses
import json
from types import SimpleNamespace

import cv2
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.evaluation.protocols import PROTOCOLS
from robustdepth.evaluation.run import Options, run_evaluation
from robustdepth.evaluation.tasks import masks
from robustdepth.evaluation.tasks.mask_scores import (
    TRUSTS_OWN,
    TRUSTS_PROXY,
    Choice,
    count_choices,
    draw_row,
    merge_counts,
)
from robustdepth.models.depth_net import DepthOutput
from robustdepth.runtime.inference import DepthModel
from robustdepth.types import Batch, Camera
from tests.tiny import tiny_config

COUNT, HEIGHT, WIDTH = 5, 32, 64
FOCAL, BASELINE = 40.0, 0.5

TRUTH = np.array([[10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 100.0]], np.float32)  # the last one is sky
CHOICE = Choice(
    proxy=np.array([[10.0, 11.0, 12.0, 10.0, 13.0, 10.0, 50.0]], np.float32),
    own=np.array([[12.0, 10.0, 12.4, 15.0, 10.0, 99.0, 50.0]], np.float32),
    known=np.array([[True, True, True, True, True, False, True]]),
    mask=np.array([[True, True, True, False, False, False, True]]),
    argmin=np.array([[True, True, False, True, True, False, True]]),
)


def test_an_image_worked_out_by_hand():
    # Errors of the proxy 0 .1 .2 0 .3, of own depth .2 0 .24 .5 0; the third pixel's differ by 4% alone, the sixth has
    # no proxy, the seventh no truth. The better source: proxy, own, -, proxy, own.
    counts = count_choices(TRUTH, CHOICE)
    assert (counts.pixels, counts.clear, counts.in_range, counts.taken) == (5, 4, 6, 3)
    assert counts.right == {"mask": 2, "argmin": 2, "always_proxy": 2}
    assert counts.abs_rel == {
        "proxy": pytest.approx(0.6 / 5),
        "own": pytest.approx(0.94 / 5),
        "mask": pytest.approx((0 + 0.1 + 0.2 + 0.5 + 0) / 5),
        "argmin": pytest.approx((0 + 0.1 + 0.24 + 0 + 0.3) / 5),
        "best": pytest.approx((0 + 0 + 0.2 + 0 + 0) / 5),
    }


def test_counts_are_added_and_errors_averaged_over_images():
    first = count_choices(TRUTH, CHOICE)
    half = np.array([[True, True, False, False, False, False, False]])
    second = count_choices(TRUTH, CHOICE._replace(known=half))
    blind = count_choices(TRUTH, CHOICE._replace(known=np.zeros_like(half)))
    assert blind.abs_rel == {}
    scores = merge_counts([first, second, blind])
    assert scores.metrics == {
        "right_mask": pytest.approx(3 / 6),
        "right_argmin": pytest.approx(3 / 6),
        "right_always_proxy": pytest.approx(3 / 6),
        "clear": 6 / 7,
        "mask_proxy": 5 / 7,
        "proxy_known": 7 / 18,
        "abs_rel_proxy": pytest.approx((0.12 + 0.05) / 2),
        "abs_rel_own": pytest.approx((0.188 + 0.1) / 2),
        "abs_rel_mask": pytest.approx((0.16 + 0.05) / 2),
        "abs_rel_argmin": pytest.approx((0.128 + 0.05) / 2),
        "abs_rel_best": pytest.approx((0.04 + 0.0) / 2),
    }
    with pytest.raises(UserError, match="knows no proxy at any pixel"):
        merge_counts([blind, blind])
    alike = merge_counts([count_choices(TRUTH, CHOICE._replace(own=CHOICE.proxy))])
    assert alike.metrics["right_mask"] is None


def test_depth_out_of_range_is_clipped_as_in_protocol_world():
    far = CHOICE._replace(proxy=np.full_like(TRUTH, 500.0), own=np.full_like(TRUTH, 81.0))
    assert count_choices(TRUTH, far).abs_rel["proxy"] == pytest.approx(7.0)  # (80 - 10) / 10
    assert count_choices(TRUTH, far).clear == 0


def test_rows_show_the_better_and_the_chosen_source():
    row = draw_row(np.full((1, 7, 3), 9, np.uint8), TRUTH, CHOICE).reshape(5, 7, 3)
    proxy, own = np.array(TRUSTS_PROXY), np.array(TRUSTS_OWN)
    np.testing.assert_array_equal(row[0], 9)
    np.testing.assert_array_equal(row[1, 5], 0)  # no proxy
    np.testing.assert_array_equal(row[3], [proxy, own, proxy // 3, proxy, own, 0 * own, 0 * own])
    np.testing.assert_array_equal(row[4], [proxy, proxy, proxy, own, own, 0 * own, 0 * own])
    assert row[2, 1].sum() > row[2, 5].sum()  # 10 m are brighter than 99 m


class RedAndGreen(nn.Module):
    """Disparity is the red channel's tenth, the mask takes the proxy where green is above a half."""

    @nn.compact
    def __call__(self, image, train):
        green = image[..., 1] - 0.5
        return DepthOutput((0.1 * image[..., 0] + 0.001,), {}, {}, jnp.stack([green, -green], axis=-1))


@pytest.fixture
def model() -> DepthModel:
    config = tiny_config()
    config.loss.proxy = config.loss.mask = 1.0
    config.selective.proxy = "sgm"
    return DepthModel(config, {"depth": {}}, 7, "made-up")


@pytest.fixture
def worlds(monkeypatch):
    """Images, true depth and proxies that stand for the renderer's and the matcher's; few of them."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (COUNT + 8, 2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    truth = draw.uniform(1.0, 100.0, (COUNT + 8, 1, HEIGHT, WIDTH)).astype(np.float32)
    factor = draw.choice([0.0, 0.8, 1.0, 1.3], truth[:, 0].shape).astype(np.float32)

    def render_examples(indices, *, seed, split, size, views, devices):
        assert (seed, split, size, views) == (0, "evaluation", (HEIGHT, WIDTH), ("stereo",))
        count = len(indices)
        batch = Batch(
            target=images[indices, 0],
            sources=images[indices, 1:],
            source_valid=np.ones((count, 1), bool),
            camera=Camera(np.full((count, 2), FOCAL, np.float32), np.full((count, 2), 20.0, np.float32), size),
            baseline=np.full(count, BASELINE, np.float32),
            speed=np.zeros((count, 1), np.float32),
            index=indices.astype(np.int32),
            source_names=("stereo",),
        )
        return batch, SimpleNamespace(depth=truth[indices])

    def add_sgm(batch, max_disparity):
        assert max_disparity == 16  # 192 of 1242 pixels, of 64, in sixteens
        disparity = factor[batch.index] * FOCAL * BASELINE / truth[batch.index, 0]
        return dataclasses.replace(batch, disparity=disparity, disparity_failed=np.zeros(disparity.shape, bool))

    monkeypatch.setattr("robustdepth.world.generate.render_examples", render_examples)
    monkeypatch.setattr("robustdepth.data.stereo.sgm.add_sgm", add_sgm)
    monkeypatch.setattr(masks, "build_main_net", lambda config: RedAndGreen())
    monkeypatch.setitem(PROTOCOLS, "world", dataclasses.replace(PROTOCOLS["world"], count=COUNT))
    return images[:COUNT, 0], truth[:COUNT, 0], factor[:COUNT]


def test_the_report_of_a_made_up_network_is_that_of_numpy(model, worlds, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("robustdepth.evaluation.run.load_model", lambda path: model)
    assert run_evaluation("made-up", str(tmp_path / "out"), Options(["masks"], batch_size=3)) == []
    images, truth, factor = worlds
    known, valid = factor > 0, truth < 80
    near, far = 1 / model.config.model.min_depth, 1 / model.config.model.max_depth
    own = 1 / (far + (near - far) * (0.1 * images[..., 0] / 255.0 + 0.001))
    proxy = np.clip(truth / np.where(known, factor, 1), 0.1, 80)
    error_proxy, error_own = abs(proxy - truth) / truth, abs(np.clip(own, 1e-3, 80) - truth) / truth
    counts = known & valid
    clear = counts & (abs(error_proxy - error_own) > 0.05)
    taken = images[..., 1] > 127
    composed = np.where(taken, error_proxy, error_own)

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    entry = report["protocols"]["masks"]
    metrics = entry["metrics"]
    assert (entry["count"], entry["pixels"], report["model"]["step"]) == (COUNT, counts.sum(), 7)
    assert entry["clear"] == pytest.approx(clear.sum(), abs=3)  # of 6000 pixels; ties at 5% round differently
    assert metrics["right_mask"] == pytest.approx((taken == (error_proxy < error_own))[clear].mean(), abs=2e-3)
    assert metrics["right_always_proxy"] == pytest.approx((error_proxy < error_own)[clear].mean(), abs=2e-3)
    assert metrics["mask_proxy"] == pytest.approx(taken[counts].mean(), abs=1e-6)
    assert metrics["proxy_known"] == pytest.approx(counts.sum() / valid.sum(), abs=1e-6)
    for name, error in (("proxy", error_proxy), ("own", error_own), ("mask", composed)):
        mean = np.mean([e[c].mean() for e, c in zip(error, counts, strict=True)])
        assert metrics[f"abs_rel_{name}"] == pytest.approx(mean, rel=1e-4)
    assert metrics["abs_rel_best"] < min(metrics["abs_rel_own"], metrics["abs_rel_argmin"], metrics["abs_rel_proxy"])
    assert 0 < metrics["right_argmin"] < 1

    printed, text = capsys.readouterr().out, (tmp_path / "out" / "report.md").read_text()
    for output in (printed, text):
        assert f"{metrics['right_mask']:.1%} | {metrics['abs_rel_mask']:8.3f} |" in output
        assert "proxies sgm, masks learned" in output
    picture = cv2.imread(str(tmp_path / "out" / "pictures" / "masks.png"))
    assert picture.shape == (4 * HEIGHT, 5 * WIDTH, 3)
    np.testing.assert_array_equal(picture[:HEIGHT, :WIDTH, ::-1], images[0])


@pytest.mark.parametrize(("mode", "chooser"), [("off", "always_proxy"), ("argmin", "argmin")])
def test_masks_that_are_not_learned_are_scored_as_they_choose(model, worlds, tmp_path, mode, chooser):
    model.config.selective.mask = mode
    scores = masks.evaluate_masks(model, tmp_path, 8)
    assert scores.right["mask"] == scores.right[chooser]
    assert scores.right["always_proxy"] != scores.right["argmin"]


def test_what_has_no_masks_is_refused_before_anything_runs(model, monkeypatch, tmp_path):
    monkeypatch.setattr("robustdepth.evaluation.run.load_model", lambda path: model)
    cases = [
        (Options(["masks", "world"]), "made-up", {}, "has --protocols=masks alone, not masks,world"),
        (Options(["masks"], weather="fog"), "made-up", {}, "leave --weather out"),
        (Options(["masks"], predictions="folder"), "", {}, "protocol masks needs a model"),
        (Options(["masks"]), "made-up", {"loss.proxy": 0.0}, r"config\.loss\.proxy=0"),
        (Options(["masks"]), "made-up", {"loss.proxy": 1.0, "selective.proxy": "files"}, "learned from stored proxies"),
        (Options(["masks"]), "made-up", {"loss.proxy": 1.0, "selective.proxy": "truth"}, "which no mask can better"),
    ]
    for options, path, changes, sentence in cases:
        model.config.update_from_flattened_dict(changes)
        with pytest.raises(UserError, match=sentence):
            run_evaluation(path, str(tmp_path / "out"), options)
    assert not (tmp_path / "out").exists()

"""The stereo protocol: errors worked out by hand, and reports of made-up networks on made-up pairs."""

import functools
import json

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from configs import base
from robustdepth.data.stereo.pairs import StereoPair, StereoPairs
from robustdepth.data.stereo.sgm import sgm_disparity
from robustdepth.errors import UserError
from robustdepth.evaluation.run import Options, run_evaluation
from robustdepth.evaluation.tasks.stereo import draw_pair, measure, reach_of, score, score_pair
from robustdepth.models.stereo_net import STEREO_NETWORKS
from robustdepth.runtime import config as configs
from tests.tiny import tiny_config

# Errors by column: 0.5, 1.5, 2.5, 3.5 (of 10: also over 5%), 4 (of 100: not over 5%); the last one's truth is unknown.
TRUTH = np.float32([[10, 10, 10, 10, 100, 0]])
FOUND = np.float32([[10.5, 8.5, 12.5, 6.5, 104, 7]])
ALL = np.ones(TRUTH.shape, bool)


def columns(*chosen):
    return np.isin(np.arange(6), chosen)[None]


def test_errors_worked_out_by_hand():
    scores = score(TRUTH, FOUND, answered=ALL, counted=ALL)
    assert scores == pytest.approx(
        {"bad_1": 80, "bad_2": 60, "bad_3": 40, "d1": 20, "epe": (0.5 + 1.5 + 2.5 + 3.5 + 4) / 5, "density": 100}
    )


def test_an_error_of_exactly_the_threshold_is_right():
    scores = score(np.float32([[10, 10, 20]]), np.float32([[11, 12, 23]]), *np.ones((2, 1, 3), bool))
    assert (scores["bad_1"], scores["bad_2"], scores["bad_3"]) == pytest.approx((200 / 3, 100 / 3, 0))


def test_a_hole_is_wrong_unless_only_answers_count():
    answered = columns(0, 1, 4, 5)
    holes_wrong = score(TRUTH, FOUND, answered, ALL)
    assert holes_wrong == pytest.approx(
        {"bad_1": 80, "bad_2": 60, "bad_3": 60, "d1": 40, "epe": float("inf"), "density": 60}
    )
    answers_only = score(TRUTH, FOUND, answered, answered)
    assert answers_only == pytest.approx(
        {"bad_1": 200 / 3, "bad_2": 100 / 3, "bad_3": 100 / 3, "d1": 0, "epe": 2.0, "density": 60}
    )


def test_where_nothing_counts_there_is_no_error():
    scores = score(TRUTH, FOUND, ALL, columns(5))
    assert scores.pop("density") == 0
    assert all(np.isnan(value) for value in scores.values())


def test_rows_of_a_pair():
    failed, answered = columns(3, 4, 5), columns(0, 1)
    matched = np.where(answered, np.float32([[10, 20, 1, 1, 1, 1]]), np.float32(0))
    rows = score_pair(TRUTH, FOUND, failed, matched, answered)
    assert rows["network"] == score(TRUTH, FOUND, ALL, ALL)
    assert rows["network_where_sgbm"] == pytest.approx(
        {"bad_1": 50, "bad_2": 0, "bad_3": 0, "d1": 0, "epe": 1.0, "density": 40}
    )
    assert rows["sgbm_where_sgbm"]["bad_3"] == 50
    assert rows["sgbm"]["bad_3"] == pytest.approx(80)
    assert rows["network_where_consistent"] == pytest.approx(
        {"bad_1": 200 / 3, "bad_2": 100 / 3, "bad_3": 0, "d1": 0, "epe": 1.5, "density": 60}
    )
    assert rows["constant"]["epe"] == pytest.approx(90 / 5)  # the median is 10
    assert rows["constant"]["bad_3"] == pytest.approx(20)


def test_a_network_that_answers_no_number_is_wrong():
    rows = score_pair(TRUTH, np.where(columns(0), np.float32(np.nan), FOUND), ~ALL, FOUND, ALL)
    assert rows["network"]["density"] == pytest.approx(80)
    assert rows["network"]["bad_3"] == pytest.approx(60)


@pytest.mark.parametrize(
    ("trained", "width", "reach"), [(0, 1242, 192), (0, 741, 128), (0, 320, 64), (64, 320, 64), (64, 741, 160)]
)
def test_the_range_grows_with_the_width(trained, width, reach):
    config = base.get_config()
    config.image_size = (96, 320)
    config.stereo.max_disparity = trained
    assert reach_of(config, width) == reach


def pair_of_planes(name, size, near, seed):
    """Noise at disparity 2 with a square at disparity `near`, as both cameras see it."""
    height, width = size
    draw = np.random.default_rng(seed)
    sheet = draw.integers(0, 256, (height, width + 8, 3), dtype=np.uint8)
    left, right = sheet[:, :width].copy(), sheet[:, 2 : width + 2].copy()
    square = draw.integers(0, 256, (height // 2, width // 3, 3), dtype=np.uint8)
    row, column = height // 4, width // 2
    disparity = np.full(size, 2, np.float32)
    for image, shift in ((left, 0), (right, near)):
        image[row : row + height // 2, column - shift : column - shift + width // 3] = square
    disparity[row : row + height // 2, column : column + width // 3] = near
    disparity[0] = 0  # unknown
    return StereoPair(left, right, disparity, name, near + 1)


PAIRS = (pair_of_planes("small", (24, 48), 6, 0), pair_of_planes("wide", (32, 96), 20, 1))


def nearly_right(pair, reach):
    """A network that is off by 1.5 pixels, and by 20 in the upper half, where it says so."""
    failed = np.arange(pair.disparity.shape[0])[:, None] < pair.disparity.shape[0] // 2
    failed = np.broadcast_to(failed, pair.disparity.shape)
    return np.where(failed, pair.disparity + 20, pair.disparity + 1.5).astype(np.float32), failed


def test_a_report_of_pairs_of_two_sizes(tmp_path, capsys):
    asked = []

    def look(pair, reach):
        asked.append((pair.name, reach))
        return nearly_right(pair, reach)

    pairs = StereoPairs("made-up pairs", 2, lambda chosen: iter(PAIRS[chosen.start : chosen.stop]))
    result = measure(look, pairs, lambda width: 16, {"name": "made-up", "step": 7}, tmp_path)
    assert asked == [("small", 16), ("wide", 32)]  # 20 pixels are farther than the network's own 16

    report = json.loads((tmp_path / "report.json").read_text())
    entry = report["protocols"]["stereo"]
    assert report["model"] == {"name": "made-up", "step": 7}
    assert (entry["count"], entry["title"]) == (2, "made-up pairs")
    upper = {"small": 11 / 23, "wide": 15 / 31}  # the first row is unknown
    by_pair = {row["name"]: row for row in entry["per_pair"]}
    for pair in PAIRS:
        row = by_pair[pair.name]
        assert (row["size"], row["max_disparity"]) == (list(pair.disparity.shape), dict(asked)[pair.name])
        assert row["network"]["bad_3"] == pytest.approx(100 * upper[pair.name])
        assert row["network"]["bad_1"] == 100
        assert row["network"]["epe"] == pytest.approx(1.5 + 18.5 * upper[pair.name], rel=1e-5)
        assert row["network_where_consistent"]["bad_2"] == 0
        assert row["network_where_consistent"]["density"] == pytest.approx(100 * (1 - upper[pair.name]))
        # SGBM, counted here once more; what the square hides from the right camera has no answer.
        matched, failed = sgm_disparity(pair.left, pair.right, row["max_disparity"])
        error = np.abs(np.where(failed | (matched == 0), np.nan, matched) - pair.disparity)[pair.disparity > 0]
        assert row["sgbm"]["bad_3"] == pytest.approx(100 * (~(error <= 3)).mean())
        assert row["sgbm_where_sgbm"]["bad_3"] == pytest.approx(100 * (error[~np.isnan(error)] > 3).mean())
        assert row["sgbm_where_sgbm"]["bad_3"] < 10
        assert row["sgbm"]["density"] == row["sgbm_where_sgbm"]["density"] == row["network_where_sgbm"]["density"]
        assert row["sgbm"]["epe"] is None
    means = entry["metrics"]
    assert means["network"]["bad_3"] == pytest.approx(100 * np.mean(list(upper.values())))
    assert means["network"] == pytest.approx(result.rows["network"])
    assert means["constant"]["epe"] == pytest.approx(
        np.mean([np.abs(2 - p.disparity[p.disparity > 0]).mean() for p in PAIRS])
    )

    printed, text = capsys.readouterr().out, (tmp_path / "report.md").read_text()
    for output in (printed, text):
        assert f"| {means['network']['bad_3']:8.3f} |" in output
        assert "SGBM, a hole is wrong" in output
    assert "small: bad_3 47.83" in text
    for number, pair in enumerate(PAIRS):
        picture = cv2.imread(str(tmp_path / "pictures" / f"stereo_{number}.png"))[..., ::-1]
        height, width = pair.disparity.shape
        assert picture.shape == (2 * height, 2 * width, 3)
        np.testing.assert_array_equal(picture[:height, :width], pair.left)
        assert not picture[0, width:].any()  # unknown truth is black


def test_pictures_share_one_scale_of_colours():
    pair, (height, width) = PAIRS[0], PAIRS[0].disparity.shape
    panel = draw_pair(pair, pair.disparity, np.where(pair.disparity == 6, 0, pair.disparity).astype(np.float32))
    truth, network, sgbm = panel[:height, width:], panel[height:, :width], panel[height:, width:]
    np.testing.assert_array_equal(truth, network)
    square = pair.disparity == 6
    np.testing.assert_array_equal(sgbm[~square], truth[~square])
    assert not sgbm[square].any()
    red, blue = truth[square].mean(0), truth[(pair.disparity == 2)].mean(0)
    assert red[0] > red[2]
    assert blue[0] < blue[2]


@pytest.fixture
def stereo_run(tmp_path):
    """A working folder of a stereo network, as far as the flags look at it."""
    config = tiny_config()
    config.task = "stereo"
    (tmp_path / "run").mkdir()
    configs.write(config, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"protocols": ["world"]}, "a stereo network has --protocols=stereo alone, not world"),
        ({"protocols": ["stereo", "world"]}, "has --protocols=stereo alone, not stereo,world"),
        ({"protocols": ["stereo"], "flip": True, "alignment": "none"}, "leave --alignment, --flip out"),
        ({"protocols": ["stereo"], "drives": ["0005"]}, "--drives names drives or pairs of --data_root"),
    ],
)
def test_what_means_nothing_for_stereo_is_refused_before_anything_runs(stereo_run, tmp_path, options, sentence):
    with pytest.raises(UserError, match=sentence):
        run_evaluation(str(stereo_run), str(tmp_path / "out"), Options(**options))
    assert not (tmp_path / "out").exists()


def test_the_protocol_needs_a_stereo_network():
    with pytest.raises(UserError, match="protocol stereo needs a stereo network"):
        run_evaluation("", "unused", Options(["stereo"], predictions="a.npz"))
    with pytest.raises(UserError, match="protocol stereo needs a stereo network"):
        run_evaluation("bundled", "unused", Options(["stereo"]))


@pytest.fixture
def untrained(tmp_path):
    """A model file of a stereo network with random weights, its module and its variables."""
    config = tiny_config()
    config.task = "stereo"
    network = STEREO_NETWORKS["light"](max_disparity=32)
    image, draw = jax.ShapeDtypeStruct((1, 32, 96, 3), jnp.float32), np.random.default_rng(0)
    shapes = jax.eval_shape(functools.partial(network.init, train=False), jax.random.key(0), image, image)

    def fill(path, leaf):
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        spread = 1 / np.sqrt(np.prod(leaf.shape[:-1])) if path[-1].key == "kernel" else 0
        return (spread * draw.standard_normal(leaf.shape)).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(fill, shapes)
    tensors = {f"stereo/{key}": value for key, value in flatten_dict(variables, sep="/").items()}
    metadata = {"config": json.dumps(config.to_dict()), "step": "5"}
    safetensors.numpy.save_file(tensors, tmp_path / "untrained.safetensors", metadata)
    return tmp_path / "untrained.safetensors", network, variables


def test_an_untrained_network_from_its_file_to_the_report(untrained, tmp_path):
    """A pair whose size is no multiple of 16 keeps it: the network sees repeated borders, which do not count."""
    path, network, variables = untrained
    wide = PAIRS[1]
    left, right, truth = (image[:31, :90] for image in (wide.left, wide.right, wide.disparity))
    folder = tmp_path / "pairs" / "wide"
    folder.mkdir(parents=True)
    for name, image in (("left", left), ("right", right)):
        cv2.imwrite(str(folder / f"{name}.png"), image[..., ::-1])
    np.save(folder / "disparity.npy", truth)
    options = Options(["stereo"], data_root=str(tmp_path / "pairs"))
    assert run_evaluation(str(path), str(tmp_path / "out"), options) == []

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (row,) = report["protocols"]["stereo"]["per_pair"]
    assert (report["model"]["step"], report["model"]["network"]) == (5, "light")
    assert (row["name"], row["size"], row["max_disparity"]) == ("wide", [31, 90], 32)
    seen = [np.pad(x, ((0, 1), (0, 6), (0, 0)), "edge")[None] / np.float32(255) for x in (left, right)]
    output = jax.jit(functools.partial(network.apply, train=False))(variables, *seen)
    disparity = np.asarray(output.disparities[-1])[0, :31, :90]
    assert disparity.std() > 0.01
    error = np.abs(disparity - truth)[truth > 0]
    assert row["network"]["epe"] == pytest.approx(float(error.mean()), rel=1e-4)
    assert row["network"]["bad_1"] == pytest.approx(100 * float((error > 1).mean()), abs=0.1)
    assert row["network"]["density"] == 100

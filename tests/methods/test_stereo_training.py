"""Training the stereo teacher: what is zero at the truth, what pulls towards it, and what counts nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from robustdepth.errors import UserError
from robustdepth.geometry.depth import stereo_disparity
from robustdepth.geometry.stereo import in_right_image, occluded, oriented
from robustdepth.methods.stereo_training import make_stereo_loss, unlike_cameras
from robustdepth.world.generate import render_examples
from tests.stereo_fakes import Answer, batch_of, mirrored_by_hand, noise_pair
from tests.tiny import tiny_config

OFF = {"photometric": 0.0, "smoothness": 0.0}
KEY, STEP = jax.random.key(2), jnp.int32(0)


def stereo_config(weights: dict[str, float], jitter: float = 0.0):
    config = tiny_config()
    config.task = "stereo"
    config.data.jitter = (jitter,) * 4
    config.loss.update(OFF | weights)
    if config.loss.hints:
        config.selective.proxy = "sgm"
    return config


@functools.cache
def compiled(weights: tuple[tuple[str, float], ...], shape: tuple[int, ...], jitter: float):
    loss_fn = make_stereo_loss(stereo_config(dict(weights), jitter), Answer(shape))
    return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))


def evaluate(weights: dict[str, float], batch, answers, jitter: float = 0.0):
    """Loss, Aux and the gradient of the answers [heads, batch, height, width]."""
    answers = jnp.asarray(answers, jnp.float32)
    params, stats = {"stereo": {"answer": answers}}, {"stereo": {}}
    step = compiled(tuple(weights.items()), answers.shape, jitter)
    (loss, aux), gradient = step(params, stats, batch, KEY, STEP)
    return float(loss), aux, np.asarray(gradient["stereo"]["answer"])


@pytest.fixture(scope="module")
def world():
    """A rendered pair of the procedural world with its true disparity."""
    batch, truth = render_examples(np.arange(8), seed=0, split="train", size=(32, 64), views=("stereo",))
    disparity = stereo_disparity(truth.depth[:, 0], batch.camera.focal[:, 0], batch.baseline)
    return jax.device_get(dataclasses.replace(batch, disparity=disparity))


def step_pair(seed: int = 0):
    """A near block (8 pixels) before a far wall (2 pixels)."""
    disparity = np.full((32, 64), 2.0, np.float32)
    disparity[8:24, 28:44] = 8.0
    return disparity, *noise_pair(disparity, seed)


def test_rendered_pairs_cost_least_at_the_truth(world):
    truth = world.disparity
    assert evaluate({"disparity": 1.0}, world, truth[None])[0] == 0.0
    errors = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
    costs = [evaluate({"photometric": 1.0}, world, np.maximum(truth + e, 0.0)[None])[0] for e in errors]
    assert np.argmin(costs) == 3
    assert (np.diff(costs[:4]) < 0).all()
    assert (np.diff(costs[3:]) > 0).all()
    assert costs[0] > 2 * costs[3] < costs[-1]  # what is left is interpolation across edges


def test_errors_pull_towards_the_truth_of_rendered_pairs(world):
    truth = world.disparity
    error = np.random.default_rng(0).choice([-0.7, 0.7], size=(8, 4, 8)).repeat(8, 1).repeat(8, 2)
    wrong = np.maximum(truth + error, 0.0).astype(np.float32)
    apart = np.sign(wrong - truth) * (np.abs(wrong - truth) > 0.1)
    gradient = evaluate({"disparity": 1.0}, world, wrong[None])[2][0]
    np.testing.assert_array_equal(np.sign(gradient)[apart != 0], apart[apart != 0])
    gradient = evaluate({"photometric": 1.0}, world, wrong[None])[2][0]
    assert (gradient * apart).sum() > 0.5 * np.abs(gradient).sum()


def test_pairs_without_hidden_pixels_cost_nothing_at_the_truth():
    disparity = np.zeros((32, 64), np.float32)
    left, right, hidden = noise_pair(disparity)
    assert not hidden.any()
    loss, aux, _ = evaluate({"photometric": 1.0}, batch_of(left[None], right[None]), disparity[None, None])
    assert loss == pytest.approx(0.0, abs=1e-6)
    assert float(aux.watched["visible"].value) == 1.0


def test_the_supervised_term_is_smooth_l1_over_known_pixels_of_every_head():
    draw = np.random.default_rng(1)
    truth = draw.uniform(-6, 40, (2, 32, 64)).clip(0).astype(np.float32)  # unknown, known and beyond the range of 32
    answers = draw.uniform(0, 32, (4, 2, 32, 64)).astype(np.float32)
    images = draw.random((2, 2, 32, 64, 3), dtype=np.float32)
    batch = batch_of(*images, truth)
    counts = (truth > 0) & (truth < 32)
    errors = [np.abs(answer - truth)[counts].astype(np.float64) for answer in answers]
    of_head = [np.where(error < 1, 0.5 * error**2, error - 0.5).mean() for error in errors]
    loss, aux, _ = evaluate({"disparity": 2.0}, batch, answers)
    names = ("disparity/head_1", "disparity/head_2", "disparity/head_3", "disparity")
    wanted = np.multiply([0.5, 0.5, 0.7, 1.0], of_head)
    assert [float(aux.losses[name].value) for name in names] == pytest.approx(list(wanted), rel=1e-5)
    assert {float(term.count) for term in aux.losses.values()} == {counts.sum()}
    assert loss == pytest.approx(2 * wanted.sum(), rel=1e-5)
    loss, _, _ = evaluate({"disparity": 1.0}, batch, answers[2:])
    assert loss == pytest.approx(0.7 * of_head[2] + of_head[3], rel=1e-5)
    error = np.abs(answers[-1] - truth)[truth > 0]
    assert float(aux.watched["end_point_error"].value) == pytest.approx(error.mean(), rel=1e-5)
    assert float(aux.watched["bad3"].value) == pytest.approx((error > 3).mean(), rel=1e-5)
    assert float(aux.watched["disparity_mean"].value) == pytest.approx(answers[-1].mean(), rel=1e-5)
    np.testing.assert_allclose(aux.images["disparity"], answers[-1] / 32, rtol=1e-6)


def test_pixels_that_the_right_camera_cannot_see_are_found_and_count_nothing():
    disparity, left, right, hidden = step_pair()
    found = np.asarray(occluded(disparity[None]) | ~in_right_image(disparity[None]))[0]
    np.testing.assert_array_equal(found, hidden)
    assert hidden.sum() == 32 * 2 + 16 * 6  # the left border, and the block's shadow left of it
    batch = batch_of(left[None], right[None])
    loss, _, gradient = evaluate({"photometric": 1.0}, batch, disparity[None, None])
    # The 3x3 windows of SSIM join a visible pixel to hidden ones beside it.
    deep = ndimage.binary_erosion(hidden, np.ones((3, 3)), border_value=1)
    assert deep.sum() > 32
    np.testing.assert_array_equal(gradient[0, 0][deep], 0.0)
    beside = ndimage.binary_dilation(hidden, np.ones((3, 3))) & ~hidden
    assert 0 < loss * (~hidden).sum() < beside.sum()


def test_hints_act_where_they_explain_the_left_view_better_and_nowhere_else():
    disparity = np.full((32, 64), 4.0, np.float32)
    left, right, _ = noise_pair(disparity)
    answer, hint = disparity.copy(), disparity.copy()
    answer[16:] = 7.0  # wrong below
    hint[:, 40:] = 9.0  # wrong at the right
    hint[:, :24] = 0.0  # unknown at the left
    failed = np.zeros((1, 32, 64), bool)
    failed[:, 28:] = True  # failed below
    batch = dataclasses.replace(batch_of(left[None], right[None], hint[None]), disparity_failed=failed)
    loss, aux, gradient = evaluate({"hints": 1.0}, batch, answer[None, None])
    acts = np.zeros((32, 64), bool)
    acts[16:28, 24:40] = True
    inside = np.s_[:, 25:39]  # beside other hints, windows mix both errors
    moved = gradient[0, 0] != 0
    np.testing.assert_array_equal(
        np.delete(moved, [15, 16, 27, 28], 0)[inside], np.delete(acts, [15, 16, 27, 28], 0)[inside]
    )
    assert not moved[:, :24].any()
    assert not moved[28:].any()
    assert not moved[:15].any()
    assert (gradient[0, 0][moved & acts] > 0).all()  # 7 is too much
    assert loss == pytest.approx(np.log1p(np.where(moved, np.abs(answer - hint), 0)).mean(), rel=1e-5)
    assert float(aux.watched["hints_used"].value) == pytest.approx(moved.mean())


ALL = ({"disparity": 1.0, "photometric": 1.0, "smoothness": 0.1}, {"hints": 1.0, "photometric": 1.0, "smoothness": 0.1})


def random_answers(heads: int = 2, batch: int = 2):
    return np.random.default_rng(3).uniform(1, 12, (heads, batch, 32, 64)).astype(np.float32)


def two_pairs():
    disparity, left, right, _ = step_pair()
    _, other_left, other_right, _ = step_pair(1)
    truths = np.stack([disparity, disparity])
    return batch_of(np.stack([left, other_left]), np.stack([right, other_right]), truths)


@pytest.mark.parametrize("weights", ALL)
def test_samples_of_the_right_camera_are_their_mirror_images(weights):
    batch, answers, chosen = two_pairs(), random_answers(), np.array([False, True])
    loss, aux, gradient = evaluate(weights, batch, answers, jitter=0.2)
    other_loss, other, other_gradient = evaluate(weights, mirrored_by_hand(batch, chosen), answers, jitter=0.2)
    assert loss == other_loss > 0
    np.testing.assert_array_equal(gradient, other_gradient)
    for name in ("target", "disparity"):
        np.testing.assert_array_equal(aux.images[name][0], other.images[name][0])
        np.testing.assert_array_equal(aux.images[name][1], other.images[name][1][:, ::-1])


def test_oriented_gives_the_left_camera_first():
    batch = mirrored_by_hand(two_pairs(), np.array([False, True]))
    left, right = oriented(batch.target, batch.sources[:, 0], batch.baseline)
    np.testing.assert_array_equal(left, two_pairs().target)
    np.testing.assert_array_equal(right, two_pairs().sources[:, 0])


@pytest.mark.parametrize("weights", ALL)
def test_samples_without_a_stereo_view_change_nothing(weights):
    batch, answers = two_pairs(), random_answers()
    alone = jax.tree.map(lambda leaf: leaf[:1], batch)
    there = np.array([[True], [False]])
    beside = dataclasses.replace(batch, source_valid=there, sources=batch.sources * there[:, :, None, None, None])
    loss, aux, gradient = evaluate(weights, alone, answers[:, :1])
    other_loss, other, other_gradient = evaluate(weights, beside, answers)
    assert other_loss == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(other_gradient[:, :1], gradient, rtol=1e-4, atol=1e-9)
    np.testing.assert_array_equal(other_gradient[:, 1:], 0.0)
    for name, term in (aux.losses | aux.watched).items():
        assert (other.losses | other.watched)[name].value == pytest.approx(float(term.value), rel=1e-5), name
    none = dataclasses.replace(beside, source_valid=np.zeros((2, 1), bool))
    loss, _, gradient = evaluate(weights, none, answers)
    assert loss == 0.0
    assert not gradient.any()


BAD = {
    "data.views": ({"disparity": 1.0}, {"data.views": ("next",)}),
    "nothing to learn": ({"smoothness": 1e-3}, {}),
    "config.loss.disparity needs": ({"disparity": 1.0}, {"data.name": "kitti_raw", "data.world_share": 0.0}),
    "both have a weight": ({"disparity": 1.0, "hints": 1.0}, {}),
    "config.selective.proxy": ({"hints": 1.0}, {"selective.proxy": "stereo_net"}),
}


@pytest.mark.parametrize("sentence", BAD)
def test_configs_that_leave_nothing_to_learn_from_are_refused(sentence):
    weights, changes = BAD[sentence]
    config = stereo_config(weights)
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=sentence):
        make_stereo_loss(config, Answer((1, 1, 32, 64)))


def test_cameras_that_are_unlike_differ_in_exposure_and_noise_but_show_the_same_scene():
    scene = jnp.broadcast_to(jnp.linspace(0.3, 0.7, 32, dtype=jnp.float32)[None, None, :, None], (64, 16, 32, 3))
    same = unlike_cameras(scene, scene, jax.random.key(0), 0.0, 0.0)
    for view in same:
        np.testing.assert_allclose(view, scene, atol=1e-5)
    exposed = unlike_cameras(scene, scene, jax.random.key(0), 0.2, 0.0)
    gain = [np.asarray(view).mean((1, 2, 3)) / 0.5 for view in exposed]
    unchanged = np.mean([np.abs(g - 1) < 1e-4 for g in gain])
    assert 0.35 < unchanged < 0.65
    assert np.abs(gain[0] - gain[1]).max() > 0.2
    assert max(np.abs(g - 1).max() for g in gain) < 0.21
    noisy = unlike_cameras(scene, scene, jax.random.key(0), 0.0, 0.04)
    spread = [np.asarray(view - scene).std((1, 2, 3)) for view in noisy]
    assert 0.015 < np.mean(spread) < 0.025
    assert max(s.max() for s in spread) < 0.041
    assert abs(np.corrcoef(np.ravel(noisy[0] - scene), np.ravel(noisy[1] - scene))[0, 1]) < 0.02

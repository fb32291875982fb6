"""Selective distillation: proxies, errors and losses worked out by hand, and who gets a gradient from what."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.geometry.depth import DepthRange
from robustdepth.methods import selective
from robustdepth.methods.selective import (
    ARGMIN,
    INDEPENDENT,
    LEARNED,
    OFF,
    UNKNOWN,
    masks_settle,
    proxy_depth,
    proxy_loss,
    source_errors,
    temperature_at,
)
from robustdepth.models.depth_net import DepthOutput
from robustdepth.types import Batch, Camera
from tests.tiny import tiny_config

HEIGHT, WIDTH, SHIFT = 16, 32, 4
FOCAL, BASELINE = 20.0, 0.5
DEPTH = FOCAL * BASELINE / SHIFT  # metres
KEY, RANGE = jax.random.key(5), DepthRange(0.1, 80.0)
DRAW = np.random.default_rng(3)
SCENE = DRAW.random((2, HEIGHT, WIDTH + SHIFT, 3)).astype(np.float32)


def make_batch(disparity=float(SHIFT), right_is_target=False, **changes) -> Batch:
    """Two views of a plane SHIFT pixels apart: pixel x of the left camera is pixel x - SHIFT of the right one."""
    right, left = SCENE[:, :, SHIFT:], SCENE[:, :, :WIDTH]
    target, source = (right, left) if right_is_target else (left, right)
    batch = Batch(
        target=jnp.asarray(target),
        sources=jnp.asarray(source[:, None]),
        source_valid=jnp.ones((2, 1), bool),
        camera=Camera(jnp.full((2, 2), FOCAL), jnp.full((2, 2), 8.0), (HEIGHT, WIDTH)),
        baseline=jnp.full(2, -BASELINE if right_is_target else BASELINE),
        speed=jnp.zeros((2, 1)),
        index=jnp.arange(2, dtype=jnp.int32),
        source_names=("stereo",),
        disparity=jnp.full((2, HEIGHT, WIDTH), disparity),
        disparity_failed=jnp.zeros((2, HEIGHT, WIDTH), bool),
    )
    return dataclasses.replace(batch, **changes)


def make_config(mode=LEARNED, steps=100):
    config = tiny_config(steps=steps)
    config.image_size = (HEIGHT, WIDTH)
    config.selective.mask = mode
    return config


@pytest.mark.parametrize("sign", [1, -1])
def test_the_proxy_s_depth_is_focal_times_baseline_over_disparity(sign):
    disparity = jnp.full((2, HEIGHT, WIDTH), 4.0)
    disparity = disparity.at[0, 0, :6].set(jnp.array([0.0, jnp.nan, -2.0, jnp.inf, 1000.0, 0.01]))
    batch = make_batch(disparity=disparity, baseline=jnp.full(2, sign * BASELINE))
    depth, known = jax.jit(lambda b: proxy_depth(b, RANGE))(batch)
    assert not known[0, 0, :4].any()
    assert int(known.sum()) == known.size - 4
    np.testing.assert_allclose(depth[0, 0, 4:7], [0.1, 80.0, 2.5], rtol=1e-6)  # 0.01 and 1000 m are clamped
    np.testing.assert_allclose(depth[1], 2.5, rtol=1e-6)
    assert np.isfinite(depth).all()


@pytest.mark.parametrize("change", [{"source_valid": jnp.array([[True], [False]])}, {"baseline": jnp.array([0.5, 0])}])
def test_nothing_is_known_of_samples_without_a_stereo_view(change):
    _, known = proxy_depth(dataclasses.replace(make_batch(), **change), RANGE)
    assert known[0].all()
    assert not known[1].any()


@pytest.mark.parametrize("right_is_target", [False, True])
def test_the_right_depth_rebuilds_the_target_from_either_camera(right_is_target):
    batch = make_batch(right_is_target=right_is_target, disparity=jnp.full((2, HEIGHT, WIDTH), 4.0).at[1].set(0.0))
    proxy, known = proxy_depth(batch, RANGE)
    errors = jax.jit(source_errors, static_argnums=4)(batch, proxy, known, 2.0 * proxy, 0.85)
    seen = slice(0, WIDTH - SHIFT - 1) if right_is_target else slice(SHIFT + 1, WIDTH)
    np.testing.assert_allclose(errors.proxy[0, :, seen], 0.0, atol=2e-4)
    assert np.mean(errors.own[0, :, seen]) > 0.1
    assert np.mean(errors.still[0]) > 0.1
    assert np.all(errors.proxy[1] >= UNKNOWN)
    np.testing.assert_array_equal(errors.known, known)


def test_errors_are_no_way_to_move_depth():
    batch = make_batch()
    proxy, known = proxy_depth(batch, RANGE)

    def total(own, proxy):
        return sum(jnp.sum(part) for part in source_errors(batch, proxy, known, own, 0.85)[:3])

    for gradient in jax.jit(jax.grad(total, argnums=(0, 1)))(1.3 * proxy, proxy):
        np.testing.assert_array_equal(gradient, 0)


def test_the_proxy_loss_by_hand():
    depth, proxy = jnp.array([[[2.0, 5.0, 9.0]]]), jnp.array([[[1.0, 5.0, 1.0]]])
    term = proxy_loss(depth, proxy, jnp.array([[[True, True, False]]]))
    assert float(term.value) == pytest.approx(math.log(2) / 2, rel=1e-6)
    assert float(term.count) == 2
    nothing = proxy_loss(depth, proxy, jnp.zeros((1, 1, 3), bool))
    assert (float(nothing.value), float(nothing.count)) == (0.0, 0.0)
    value, slope = jax.value_and_grad(lambda d: proxy_loss(d, d + 0.0 * proxy, jnp.ones((1, 1, 3), bool)).value)(proxy)
    assert value == 0
    assert np.isfinite(slope).all()


def test_temperature_falls_and_argmin_masks_end():
    settings = selective.Settings.of(make_config(steps=200))
    for step, tau in ((0, 1.0), (100, 0.65), (200, 0.3), (400, 0.3)):
        assert float(temperature_at(settings, jnp.int32(step))) == pytest.approx(tau, rel=1e-6)
    assert [bool(masks_settle(settings, jnp.int32(step))) for step in (0, 19, 20, 199)] == [True, True, False, False]


def sigmoid_of(depth: float, config) -> float:
    near, far = 1 / config.model.min_depth, 1 / config.model.max_depth
    return (1 / depth - far) / (near - far)


def make_output(config, depth=2.0 * DEPTH, logits=(0.0, 0.0)) -> DepthOutput:
    """Two scales of one depth, and a mask at the finest one, which is at half the images' size."""
    value = sigmoid_of(depth, config)
    scales = [jnp.full((2, HEIGHT // s, WIDTH // s), value) for s in (2, 4)]
    return DepthOutput(tuple(scales), {}, {}, jnp.broadcast_to(jnp.array(logits), (2, HEIGHT // 2, WIDTH // 2, 2)))


@functools.cache
def compiled(mode: str):
    config = make_config(mode)
    settings = selective.Settings.of(config)

    def run(disparities, mask, batch, step):
        output = DepthOutput(disparities, {}, {}, mask)
        return selective.terms(settings, output, batch, KEY, step)

    return config, jax.jit(run)


def terms(mode, batch, step=50, **output):
    config, run = compiled(mode)
    made = make_output(config, **output)
    return run(made.disparities, made.mask, batch, jnp.int32(step))


@pytest.mark.parametrize("mode", [OFF, ARGMIN, LEARNED, INDEPENDENT])
def test_the_terms_of_a_plane_whose_proxy_is_right(mode):
    losses, watched, images = terms(mode, make_batch(), logits=(9.0, -9.0))  # a mask that is sure of the proxy
    assert losses.keys() == (
        {"proxy", "mask", "mask/smooth", "mask/hold"} if mode in (LEARNED, INDEPENDENT) else {"proxy"}
    )
    assert float(losses["proxy"].value) == pytest.approx(math.log1p(DEPTH), rel=1e-5)  # own depth is twice as far
    assert float(watched["proxy_known"].value) == 1.0
    if mode == OFF:  # nothing is chosen, so there is nothing to watch
        assert watched.keys() == {"proxy_known"}
        taken = 1.0
    else:
        taken = float(watched["mask_proxy"].value)
        assert taken > (0.8 if mode == ARGMIN else 0.99)
    assert float(losses["proxy"].count) == pytest.approx(taken * 2 * HEIGHT * WIDTH, rel=1e-5)
    assert {name: image.shape for name, image in images.items()} == dict.fromkeys(("proxy", "mask"), (2, HEIGHT, WIDTH))
    np.testing.assert_allclose(images["proxy"], 1 / DEPTH, rtol=1e-5)
    at_truth, _, _ = terms(mode, make_batch(), depth=DEPTH, logits=(9.0, -9.0))
    assert float(at_truth["proxy"].value) == pytest.approx(0.0, abs=1e-5)


def test_depth_learns_by_argmin_first_and_by_the_learned_masks_then():
    wrong = make_batch(disparity=2.0 * SHIFT)  # the proxy is nearer than the plane, own depth is right
    sure = {"depth": DEPTH, "logits": (9.0, -9.0)}  # the mask decoder is sure of the proxy
    shares = [float(terms(LEARNED, wrong, step, **sure)[1]["mask_proxy"].value) for step in (0, 9, 10, 99)]
    assert shares[0] == shares[1] < 0.2
    assert min(shares[2:]) > 0.99
    _, watched, _ = terms(ARGMIN, wrong, 99, **sure)
    assert float(watched["mask_proxy"].value) == shares[0]


@pytest.mark.parametrize("mode", [ARGMIN, LEARNED])
def test_samples_without_stereo_count_nothing(mode):
    alone = jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), make_batch())
    full = terms(mode, alone, 0, logits=(9.0, -9.0))
    lacking = make_batch(source_valid=jnp.array([[True], [False]]), baseline=jnp.array([0.5, 0.0]))
    half = terms(mode, lacking, 0, logits=(9.0, -9.0))
    for name, term in (full[0] | full[1]).items():
        found = (half[0] | half[1])[name]
        assert float(found.value) == pytest.approx(float(term.value), rel=1e-5)
        assert float(found.count) == pytest.approx(float(term.count) / 2)
    none = terms(mode, make_batch(source_valid=jnp.zeros((2, 1), bool)), 0)
    for term in (none[0] | none[1]).values():
        assert (float(term.value), float(term.count)) == (0.0, 0.0)


@pytest.mark.parametrize("step", [0, 50])
def test_each_loss_moves_its_own_decoder_alone(step):
    config, run = compiled(LEARNED)
    made = make_output(config)
    batch = make_batch(disparity=SHIFT + 1.0)

    def values(disparities, mask):
        return {name: term.value for name, term in run(disparities, mask, batch, jnp.int32(step))[0].items()}

    found = jax.jit(jax.jacrev(values, argnums=(0, 1)))(made.disparities, made.mask)
    disparities, mask = found["proxy"]
    assert all(np.linalg.norm(scale) > 1e-3 for scale in disparities)
    np.testing.assert_array_equal(mask, 0)
    disparities, mask = found["mask"]
    assert np.linalg.norm(mask) > 1e-4
    for scale in disparities:
        np.testing.assert_array_equal(scale, 0)


def test_what_cannot_work_is_refused_with_one_sentence():
    batch = make_batch()
    config = make_config()
    with pytest.raises(UserError, match=r'config\.data\.views is \(.previous.,\): add "stereo"'):
        terms(LEARNED, dataclasses.replace(batch, source_names=("previous",)))
    with pytest.raises(UserError, match="found no proxies with its images"):
        terms(LEARNED, dataclasses.replace(batch, disparity=None))
    with pytest.raises(UserError, match=r"proxies of \(8, 16\) do not fit images of \(16, 32\)"):
        terms(LEARNED, dataclasses.replace(batch, disparity=jnp.ones((2, 8, 16))))
    output = make_output(config)._replace(mask=None)
    settings = selective.Settings.of(config)
    with pytest.raises(UserError, match="needs a mask decoder"):
        jax.eval_shape(lambda: selective.terms(settings, output, batch, KEY, jnp.int32(0)))

"""The base losses against slow float64 versions, and scenes whose true depth and motion are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.geometry import se3
from robustdepth.geometry.warp import synthesise
from robustdepth.imaging.color import jitter, rotate_hue, to_grey
from robustdepth.imaging.ssim import moments
from robustdepth.losses.photometric import MISSING, identity_error, photometric_error, select
from robustdepth.losses.smoothness import smoothness
from robustdepth.methods.augment import augment, mirror, to_float
from robustdepth.methods.method import weight_at
from robustdepth.methods.reprojection import Settings, depth_edges
from robustdepth.types import Camera
from tests.tiny import random_batch, tiny_config

DRAW = np.random.default_rng(1)
INNER = (slice(None), slice(2, -2), slice(8, -8))  # pixels whose windows both cameras of `plane_scene` see


def slow_error(a: np.ndarray, b: np.ndarray, share: float = 0.85) -> np.ndarray:
    """Photometric error of two float64 images [height, width, 3], window by window."""
    height, width, _ = a.shape
    wide_a, wide_b = (np.pad(x, ((1, 1), (1, 1), (0, 0)), mode="reflect") for x in (a, b))
    error = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            p, q = (w[y : y + 3, x : x + 3].reshape(9, 3) for w in (wide_a, wide_b))
            mean_p, mean_q = p.mean(0), q.mean(0)
            covariance = (p * q).mean(0) - mean_p * mean_q
            c1, c2 = 0.01**2, 0.03**2
            similarity = (2 * mean_p * mean_q + c1) * (2 * covariance + c2)
            similarity /= (mean_p**2 + mean_q**2 + c1) * (p.var(0) + q.var(0) + c2)
            structure = np.clip((1 - similarity) / 2, 0, 1)
            error[y, x] = (share * structure + (1 - share) * np.abs(a[y, x] - b[y, x])).mean()
    return error


def similar_images():
    a = DRAW.random((1, 7, 9, 3))
    return a, np.clip(a + 0.1 * DRAW.standard_normal(a.shape), 0, 1)


def test_the_photometric_error_equals_a_slow_float64_version():
    a, b = similar_images()
    fast = photometric_error(moments(jnp.asarray(a, jnp.float32)), jnp.asarray(b, jnp.float32))
    np.testing.assert_allclose(fast[0], slow_error(a[0], b[0]), atol=2e-5)
    same = photometric_error(moments(jnp.asarray(a, jnp.float32)), jnp.asarray(a, jnp.float32))
    np.testing.assert_allclose(same, 0.0, atol=1e-6)


def test_its_gradient_equals_finite_differences_of_the_slow_version():
    a, b = similar_images()
    weights, direction = DRAW.random((1, 7, 9)), DRAW.standard_normal(b.shape)

    def loss(view):
        error = photometric_error(moments(jnp.asarray(a, jnp.float32)), view)
        return jnp.sum(jnp.asarray(weights, jnp.float32) * error)

    gradient = np.asarray(jax.grad(loss)(jnp.asarray(b, jnp.float32)), np.float64)
    h = 1e-6
    high, low = (np.sum(weights[0] * slow_error(a[0], (b + s * h * direction)[0])) for s in (1, -1))
    assert np.sum(gradient * direction) == pytest.approx((high - low) / (2 * h), rel=2e-3)


def test_smoothness_equals_float64_and_ignores_the_scale_of_disparity():
    d, image = DRAW.random((2, 6, 8)), DRAW.random((2, 6, 8, 3))
    n = d / d.mean((1, 2), keepdims=True)
    along_x = np.abs(np.diff(n, axis=2)) * np.exp(-np.abs(np.diff(image, axis=2)).mean(-1))
    along_y = np.abs(np.diff(n, axis=1)) * np.exp(-np.abs(np.diff(image, axis=1)).mean(-1))
    d, image = jnp.asarray(d, jnp.float32), jnp.asarray(image, jnp.float32)
    np.testing.assert_allclose(smoothness(d, image), along_x.mean() + along_y.mean(), rtol=1e-5)
    np.testing.assert_allclose(smoothness(10.0 * d, image), smoothness(d, image), rtol=1e-5)


def test_the_minimum_over_sources_ignores_views_that_a_sample_lacks():
    errors = [jnp.full((3, 2, 2), 0.4), jnp.full((3, 2, 2), 0.1)]
    valid = jnp.array([[True, True], [True, False], [False, False]])
    chosen = select(errors, None, valid)
    np.testing.assert_allclose(chosen.error[:, 0, 0], [0.1, 0.4, 0.0])
    np.testing.assert_array_equal(chosen.counts[:, 0, 0], [True, True, False])
    mean = select(errors, None, valid, minimum=False)
    np.testing.assert_allclose(mean.error[:, 0, 0], [0.25, 0.4, 0.0], rtol=1e-6)
    assert MISSING > 1.0  # no error of images in [0, 1] reaches it


def test_pixels_that_standing_still_explains_better_are_masked():
    valid = jnp.array([[True]])
    still = identity_error([jnp.array([[[0.1, 0.5]]])], valid, jax.random.key(0))
    chosen = select([jnp.array([[[0.3, 0.3]]])], still, valid)
    np.testing.assert_array_equal(chosen.automasked, [[[True, False]]])
    np.testing.assert_allclose(chosen.error, [[[0.1, 0.3]]], atol=1e-4)
    # a static scene: both explain it perfectly, the noise decides, and about half is masked
    still = identity_error([jnp.zeros((1, 64, 64))], valid, jax.random.key(0))
    share = select([jnp.zeros((1, 64, 64))], still, valid).automasked.mean()
    assert 0.4 < share < 0.6


def plane_scene(depth: float):
    """A textured plane at `depth` seen from a target and from a camera 0.5 m to its right."""
    camera = Camera(np.array([[40.0, 40.0]], np.float32), np.array([[31.5, 15.5]], np.float32), (32, 64))
    y, x = np.mgrid[0:32, 0:64].astype(np.float32)

    def look(offset: float) -> np.ndarray:
        world = (x - 31.5) / 40.0 * depth + offset
        texture = [0.5 + 0.3 * np.sin(9 * world + k) * np.cos(0.4 * y + k) for k in range(3)]
        return np.stack(texture, -1)[None].astype(np.float32)

    return look(0.0), look(0.5), camera


def test_a_plane_has_no_error_at_its_true_depth_and_a_gradient_towards_it():
    target, right, camera = plane_scene(5.0)
    motion = se3.stereo_motion(jnp.array([0.5]))

    def error(depth):
        view, _ = synthesise(right, jnp.full((1, 32, 64), depth), camera, motion)
        return jnp.mean(photometric_error(moments(jnp.asarray(target)), view)[INNER])

    assert error(5.0) < 1e-4
    assert error(5.5) > 0.05
    assert jax.grad(error)(5.4) > 0 > jax.grad(error)(4.7)


def test_a_mirrored_stereo_pair_is_explained_by_the_mirrored_rig():
    target, right, camera = plane_scene(5.0)
    config = tiny_config(("stereo",))
    config.batch_size = 1
    batch = random_batch(config).replace(
        target=target, sources=right[:, None], camera=camera, baseline=np.array([0.5], np.float32)
    )
    flipped = mirror(to_float(batch), jnp.array([True]))
    view, _ = synthesise(
        flipped.sources[:, 0], jnp.full((1, 32, 64), 5.0), flipped.camera, se3.stereo_motion(flipped.baseline)
    )
    assert jnp.mean(photometric_error(moments(flipped.target), view)[INNER]) < 1e-4
    again = mirror(flipped, jnp.array([True]))
    np.testing.assert_allclose(again.target, target)
    np.testing.assert_allclose(again.camera.center, camera.center)
    np.testing.assert_allclose(again.baseline, 0.5)


def test_labels_and_expert_features_are_mirrored_with_their_sample():
    config = tiny_config(("stereo",))
    config.batch_size = 2
    labels, expert = DRAW.integers(0, 12, (2, 32, 64)), DRAW.standard_normal((2, 4, 8, 3)).astype(np.float32)
    batch = random_batch(config).replace(labels=labels, expert=expert)
    flipped = mirror(to_float(batch), jnp.array([True, False]))
    np.testing.assert_array_equal(flipped.labels, np.stack([labels[0, :, ::-1], labels[1]]))
    np.testing.assert_array_equal(flipped.expert, np.stack([expert[0, :, ::-1], expert[1]]))


def test_illumination_edges_hold_where_only_texture_changes():
    config = tiny_config(("stereo",))
    image = np.full((1, 48, 96, 3), 0.4, np.float32)
    image[:, :, 48:] = 0.8  # light falls on the right half
    textured = image * np.where(np.add.outer(np.arange(48), np.arange(96)) % 2, 1.0, 0.7)[None, ..., None]
    textured = jnp.asarray(textured, jnp.float32)
    assert depth_edges(textured, Settings.of(config).edges) is textured
    config.reprojection.smooth_edges = "illumination"
    edges = np.asarray(depth_edges(textured, Settings.of(config).edges))[0, 8:-8, 8:-8, 0]
    across = np.abs(np.diff(edges, axis=1))
    assert across[:, 39].min() > 3 * across[:, :30].max()  # the border of the light, against the checkerboard
    assert across[:, 39].min() > 0.05


def test_jitter_reaches_what_networks_see_and_not_what_losses_compare():
    config = tiny_config(("previous", "stereo"))
    batch = random_batch(config)
    strength = (0.2, 0.2, 0.2, 0.1)
    one, other = (augment(batch, jax.random.key(k), flip=False, strength=strength, grey=0.0) for k in (0, 1))
    np.testing.assert_array_equal(one.clean.target, other.clean.target)
    changed = jnp.any(one.seen_target != one.clean.target, axis=(1, 2, 3))
    assert 0 < changed.sum() < 8  # p = 0.5, drawn per sample
    np.testing.assert_array_equal(changed, jnp.any(one.seen_sources != one.clean.sources, axis=(1, 2, 3, 4)))
    grey = augment(batch, jax.random.key(0), flip=False, strength=(0.0, 0.0, 0.0, 0.0), grey=1.0)
    np.testing.assert_allclose(grey.seen_target[..., 0], grey.seen_target[..., 2])


def test_hue_rotations_keep_grey_and_brightness_and_turn_full_circle():
    images = jnp.asarray(DRAW.random((2, 1, 4, 4, 3)), jnp.float32)
    np.testing.assert_allclose(rotate_hue(images, jnp.ones(2)), images, atol=1e-3)
    turned = rotate_hue(images, jnp.array([0.1, -0.2]))
    np.testing.assert_allclose(to_grey(turned), to_grey(images), atol=1e-3)
    grey = to_grey(images)
    np.testing.assert_allclose(rotate_hue(grey, jnp.array([0.3, 0.4])), grey, atol=1e-3)
    out = jitter(images, jax.random.key(0), (0.9, 0.9, 0.9, 0.5), probability=1.0)
    assert (out >= 0).all()
    assert (out <= 1).all()


def test_weights_follow_their_schedule():
    assert weight_at(0.3, jnp.int32(7)) == 0.3
    values = [float(weight_at("0:2:10", jnp.int32(step))) for step in (0, 5, 10, 99)]
    np.testing.assert_allclose(values, [0.0, 1.0, 2.0, 2.0])
    with pytest.raises(Exception, match="neither a number nor a schedule"):
        weight_at("soon", jnp.int32(0))

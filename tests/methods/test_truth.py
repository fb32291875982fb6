"""True depth as the teacher: its terms against NumPy, and metres of the canonical camera."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.geometry.camera import metres_factor, resize_camera
from robustdepth.geometry.depth import stereo_disparity
from robustdepth.geometry.se3 import matrix_from_vector
from robustdepth.methods import truth
from robustdepth.methods.augment import canonical, mirror, to_float
from robustdepth.runtime import config as configs
from robustdepth.types import Camera
from tests.tiny import random_batch, tiny_config


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a truth that has unknown pixels and a sky."""
    draw = np.random.default_rng(seed)
    depth, true = (draw.uniform(2.0, 60.0, (2, 12, 16)).astype(np.float32) for _ in range(2))
    true[:, :3] = np.inf
    true[0, 5:7, 4:9] = 0.0
    return depth, true


def reference(depth: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """The definitions, pixel by pixel."""
    depth, true = depth.astype(np.float64), true.astype(np.float64)
    whole, shape, gradient = [], [], 0.0
    error = np.full(true.shape, np.nan)
    for b, y, x in np.ndindex(true.shape):
        if np.isinf(true[b, y, x]):
            whole.append(max(0.0, np.log(70.0 / depth[b, y, x])))
        elif true[b, y, x] > 0:
            error[b, y, x] = np.log(depth[b, y, x] / true[b, y, x])
            whole.append(abs(error[b, y, x]))
    for image in error:
        known = image[~np.isnan(image)]
        shape += list(abs(known - known.mean()))
    for step in (1, 2, 4):
        e = error[:, ::step, ::step]
        gradient += np.nanmean(abs(np.diff(e, axis=2))) + np.nanmean(abs(np.diff(e, axis=1)))
    return {"truth": np.mean(whole), "truth_shape": np.mean(shape), "truth_gradient": gradient}


def test_terms_are_their_definitions():
    depth, true = scene()
    found = truth.terms(jnp.asarray(depth), jnp.asarray(true)).losses
    for name, value in reference(depth, true).items():
        np.testing.assert_allclose(found[name].value, value, rtol=2e-5, err_msg=name)


def test_a_wrong_scale_costs_the_first_term_alone():
    _, true = scene()
    depth = jnp.where(jnp.isfinite(true) & (true > 0), 2.0 * true, 90.0)
    found = truth.terms(depth, jnp.asarray(true)).losses
    assert found["truth"].value > 0.4
    assert abs(found["truth_shape"].value) < 1e-5
    assert abs(found["truth_gradient"].value) < 1e-5


def test_gradients_are_finite_and_sky_pulls_away_only():
    _, true = scene()
    for sky_depth, pulls in ((30.0, True), (90.0, False)):
        depth = jnp.where(jnp.isinf(true), sky_depth, 10.0)
        gradient = jax.grad(lambda d: sum(t.value for t in truth.terms(d, jnp.asarray(true)).losses.values()))(depth)
        assert bool(jnp.all(jnp.isfinite(gradient)))
        assert bool(jnp.all((gradient < 0) == pulls, where=jnp.isinf(true)))


def test_an_image_without_surface_gives_zero_terms():
    _, true = scene()
    found = truth.terms(jnp.full(true.shape, 80.0), jnp.full(true.shape, jnp.inf)).losses
    assert all(float(term.value) == 0.0 for term in found.values())


@pytest.mark.parametrize("canonical_focal", [0.3, 0.58])
def test_canonical_metres_leave_images_explained(canonical_focal):
    """Disparity, all that a pair shows, is the same; depth times the factor is the camera's own."""
    batch = random_batch(tiny_config())
    depth = np.random.default_rng(0).uniform(2, 50, batch.target.shape[:3]).astype(np.float32)
    focal = np.linspace(20, 60, 2 * len(depth), dtype=np.float32).reshape(-1, 2)
    batch = dataclasses.replace(batch, depth=depth, camera=dataclasses.replace(batch.camera, focal=focal))
    own = canonical(batch, canonical_focal)
    pixels = [stereo_disparity(jnp.asarray(b.depth), b.camera.focal[:, 0], b.baseline) for b in (batch, own)]
    np.testing.assert_allclose(*pixels, rtol=1e-5)
    factor = focal[:, 0] / (64 * canonical_focal)
    np.testing.assert_allclose(own.depth * factor[:, None, None], depth, rtol=1e-5)
    assert canonical(batch, 0.0) is batch


def test_the_factor_belongs_to_the_lens_not_to_the_image_size():
    camera = Camera(np.array([721.5, 721.5], np.float32), np.array([609.5, 172.9], np.float32), (375, 1242))
    factors = [float(metres_factor(c, 0.58)) for c in (camera, resize_camera(camera, (128, 416)))]
    np.testing.assert_allclose(factors, 721.5 / 1242 / 0.58, rtol=1e-6)


def test_truth_needs_the_world():
    config = tiny_config(())
    config.loss.truth = 1.0
    config.loss.photometric = config.loss.smoothness = 0.0
    configs.check(config)
    config.data.name, config.data.root, config.data.world_share = "frames", "clips", 0.0
    with pytest.raises(UserError, match="since recordings have no true depth"):
        configs.check(config)
    config = tiny_config(())
    with pytest.raises(UserError, match=r"config\.data\.views=\(\)"):
        configs.check(config)


def test_motion_is_compared_in_metres_and_unknown_ones_are_left_out():
    true = np.tile(np.eye(4, dtype=np.float32), (3, 2, 1, 1))
    true[:, :, 2, 3] = -1.0
    true[2] = 0.0  # unknown
    angle = 0.02
    found = true[:, 0].copy()
    found[0, 0, 3] = 0.3
    found[1, :3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    stereo = np.full((3, 4, 4), 7.0, np.float32)
    term = truth.motion_term([jnp.asarray(found), jnp.asarray(stereo)], jnp.asarray(true), ("next", "stereo"))
    assert float(term.count) == 2
    np.testing.assert_allclose(term.value, (0.3 + 10 * 2 * np.sin(angle / 2)) / 2, rtol=1e-5)


def test_mirrored_and_canonical_motions_move_points_as_the_images_show():
    """Mirrored points move to the mirrored place; in canonical metres all points move to the same place."""
    batch = random_batch(tiny_config(("next",)))
    count, width = len(batch.target), batch.camera.size[1]
    draw = np.random.default_rng(1)
    motion = np.asarray(matrix_from_vector(*jnp.split(jnp.asarray(draw.normal(0, 0.1, (count, 6)), jnp.float32), 2, 1)))
    points = draw.uniform((-3, -2, 6, 1), (3, 2, 20, 1), (count, 4)).astype(np.float32)
    points[:, 3] = 1

    def project(camera, moved):
        return np.asarray(camera.focal) * moved[:, :2] / moved[:, 2:3] + np.asarray(camera.center)

    batch = dataclasses.replace(batch, motion=motion[:, None], depth=np.ones(batch.target.shape[:3], np.float32))
    wanted = project(batch.camera, np.einsum("nij,nj->ni", motion, points))
    turned = mirror(to_float(batch), jnp.ones(count, bool))
    flip = np.array([-1, 1, 1, 1], np.float32)
    found = project(turned.camera, np.einsum("nij,nj->ni", np.asarray(turned.motion)[:, 0], points * flip))
    np.testing.assert_allclose(found, np.stack([width - 1 - wanted[:, 0], wanted[:, 1]], 1), rtol=1e-4)
    own = canonical(batch, 0.4)
    factor = np.asarray(metres_factor(batch.camera, 0.4))[:, None]
    nearer = np.concatenate([points[:, :3] / factor, points[:, 3:]], 1)
    found = project(batch.camera, np.einsum("nij,nj->ni", np.asarray(own.motion)[:, 0], nearer))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)

"""Rendered examples: deterministic, disjoint, finite, and consistent with the geometry of the views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.geometry.warp import bilinear_sample, reproject, synthesise
from robustdepth.imaging.ssim import moments
from robustdepth.losses.photometric import photometric_error
from robustdepth.world.generate import render_examples
from robustdepth.world.raycast import FAR
from robustdepth.world.scene import CLASSES

pytestmark = pytest.mark.usefixtures("compiled_for_real")  # hundreds of examples are rendered here

SIZE = (64, 208)
SEED = 5


def render(indices, split="evaluation"):
    return jax.device_get(render_examples(np.array(indices), seed=SEED, split=split, size=SIZE))


@pytest.fixture(scope="module")
def examples():
    return render([0, 1, 2, 3])


def test_shapes_types_and_ranges(examples):
    batch, scene = examples
    assert batch.target.shape == (4, *SIZE, 3)
    assert batch.sources.shape == (4, 3, *SIZE, 3)
    assert batch.target.dtype == batch.sources.dtype == np.uint8
    assert batch.source_names == ("previous", "next", "stereo")
    assert batch.source_valid.all()
    assert batch.camera.size == SIZE
    assert scene.depth.shape == scene.labels.shape == scene.moving.shape == (4, 4, *SIZE)
    field_of_view = np.degrees(2 * np.arctan(0.5 * SIZE[1] / batch.camera.focal[:, 0]))
    assert ((field_of_view >= 60) & (field_of_view <= 95)).all()
    assert ((batch.baseline >= 0.3) & (batch.baseline <= 0.8)).all()
    assert (batch.speed[:, :2] > 0).any()
    assert (batch.speed[:, 2] == 0).all()


@pytest.mark.parametrize(("indices", "shared"), [([7, 2, 0, 11], ((2, 1), (0, 2))), ([3], ((3, 0),))])
def test_an_example_does_not_depend_on_its_batch(examples, indices, shared):
    other = render(indices)
    for mine, theirs in shared:
        here = jax.tree.map(lambda field, i=mine: field[i], examples)
        there = jax.tree.map(lambda field, i=theirs: field[i], other)
        jax.tree.map(np.testing.assert_array_equal if len(indices) == 4 else assert_nearly_all_equal, here, there)


def assert_nearly_all_equal(here: np.ndarray, there: np.ndarray) -> None:
    """In a batch of another size the compiler rounds otherwise: rays along an edge may meet the other side of it.

    So few pixels may differ, and of a camera, a pose or a baseline nothing: a thousandth of it is less than one number.
    """
    level = 1 if np.asarray(here).dtype == np.uint8 else 1e-5  # images are rounded to whole levels
    assert np.mean(~np.isclose(here, there, rtol=1e-4, atol=level)) < 1e-3


def test_splits_and_seeds_share_no_scene(examples):
    batch, _ = examples
    train, _ = render([0, 1, 2, 3], split="train")
    every = np.concatenate([batch.camera.focal[:, 0], train.camera.focal[:, 0]])
    assert len(np.unique(every)) == 8
    difference = np.abs(batch.target.astype(float) - train.target.astype(float)).mean(axis=(1, 2, 3))
    assert (difference > 5).all()


def test_pose_of_the_stereo_view_is_the_baseline(examples):
    batch, scene = examples
    for baseline, pose in zip(batch.baseline, scene.pose[:, 2], strict=True):
        expected = np.eye(4)
        expected[0, 3] = -baseline
        np.testing.assert_allclose(pose, expected, atol=2e-6)


def test_sky_is_at_the_far_plane_and_nothing_else(examples):
    _, scene = examples
    sky = scene.labels == CLASSES.index("sky")
    assert (scene.depth[sky] == FAR).all()
    assert (scene.depth[~sky] < FAR).all()
    assert scene.depth.min() > 0.3
    assert not scene.moving[sky].any()


def test_two_hundred_examples_are_finite_and_look_like_streets():
    shares, spread = [], []
    for first in range(0, 200, 4):
        batch, scene = render(range(first, first + 4))
        for field in jax.tree.leaves((batch, scene)):
            assert np.isfinite(field).all()
        shares.append(np.bincount(scene.labels[:, 0].ravel(), minlength=len(CLASSES)) / scene.labels[:, 0].size)
        spread.append(batch.target.reshape(4, -1).std(axis=1))
    share = dict(zip(CLASSES, np.mean(shares, axis=0), strict=True))
    assert 0.15 < share["road"] < 0.4
    assert 0.08 < share["building"] < 0.4
    assert 0.05 < share["vegetation"] < 0.35
    assert 0.02 < share["car"] < 0.2
    assert 0.05 < share["sky"] < 0.35
    assert min(share.values()) > 5e-4
    assert np.min(spread) > 5  # of 255: no empty picture


def test_view_synthesis_at_true_depth_and_pose_rebuilds_the_target():
    parts = [render(range(first, first + 4)) for first in (8, 12, 16)]
    batch, scene = jax.tree.map(lambda *fields: jnp.concatenate(fields), *parts)
    target, depth = to_float(batch.target), scene.depth[:, 0]
    reference = moments(target)
    errors = {}
    for source, name in enumerate(batch.source_names):
        image, pose = to_float(batch.sources[:, source]), scene.pose[:, source]
        coordinates, depth_there = reproject(depth, batch.camera, pose)
        seen_depth = bilinear_sample(scene.depth[:, 1 + source][..., None], coordinates)[..., 0]
        rebuilt, valid = synthesise(image, depth, batch.camera, pose)
        stretched, _ = synthesise(image, 1.2 * depth, batch.camera, pose)
        unoccluded = jnp.abs(seen_depth - depth_there) < 0.05 * depth_there
        judged = valid & unoccluded & ~scene.moving[:, 0] & (depth < FAR)
        judged = shrunk(judged)  # SSIM looks at 3x3 windows, which must not reach across an occlusion
        views = {"true": rebuilt, "stretched": stretched, "identity": image}
        errors[name] = {
            what: float(photometric_error(reference, view).mean(where=judged)) for what, view in views.items()
        }
    for error in errors.values():
        assert error["true"] < 0.05
        assert error["identity"] > 2.5 * error["true"]
        assert error["stretched"] > 1.25 * error["true"]
    mean = {what: np.mean([error[what] for error in errors.values()]) for what in ("true", "stretched")}
    assert mean["stretched"] > 1.4 * mean["true"]


def to_float(image):
    return jnp.asarray(image, jnp.float32) / 255.0


def shrunk(mask):
    """Without pixels that have a neighbour outside the mask."""
    padded = jnp.pad(mask, ((0, 0), (1, 1), (1, 1)))
    height, width = mask.shape[1:]
    windows = [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return jnp.stack(windows).all(axis=0)


def test_unknown_split_and_view_are_named():
    with pytest.raises(UserError, match=r"unknown split 'evaluatoin'.*did you mean evaluation\?"):
        render_examples(np.array([0]), seed=0, split="evaluatoin", size=SIZE)
    with pytest.raises(UserError, match=r"unknown view 'nxt'.*did you mean next\?"):
        render_examples(np.array([0]), seed=0, split="train", size=SIZE, views=("nxt",))

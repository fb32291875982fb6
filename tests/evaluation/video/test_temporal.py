"""Temporal alignment error and flicker on scenes where they are known."""

import cv2
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.evaluation.video.temporal import (
    covisible,
    flicker,
    flow_closes,
    path_scale,
    splat,
    temporal_alignment_error,
    track,
)
from robustdepth.types import Camera

SIZE = (32, 64)
FOCAL = 40.0
CAMERA = Camera(np.full(2, FOCAL, np.float32), np.array([31.5, 15.5], np.float32), SIZE)


def moved_by(x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    """T_{i -> i+1}."""
    motion = np.eye(4)
    motion[[0, 0, 2, 2], [0, 2, 0, 2]] = np.cos(yaw), np.sin(yaw), -np.sin(yaw), np.cos(yaw)
    motion[:3, 3] = x, y, z
    return motion


def everywhere(depth: np.ndarray) -> np.ndarray:
    return np.ones(depth.shape, bool)


def plane_depth(normal: np.ndarray, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth of the plane normal . X = distance, and its inverse's slope (x, y) per pixel."""
    row, column = np.indices(SIZE)
    rays = np.stack([(column - 31.5) / FOCAL, (row - 15.5) / FOCAL, np.ones(SIZE)], axis=-1)
    return distance / (rays @ normal), normal[:2] / FOCAL / distance


def test_splat_agrees_with_a_loop_over_pixels():
    draw = np.random.default_rng(0)
    depth, counts = draw.uniform(2, 20, SIZE), draw.random(SIZE) < 0.7
    motion = moved_by(0.5, -0.2, -2.5, yaw=0.1)  # some points come to lie behind the camera
    wanted = np.full(SIZE, np.inf)
    for row, column in np.argwhere(counts):
        point = depth[row, column] * np.array([(column - 31.5) / FOCAL, (row - 15.5) / FOCAL, 1.0])
        x, y, z = motion[:3, :3] @ point + motion[:3, 3]
        if z > 1e-3:
            u, v = round(FOCAL * x / z + 31.5), round(FOCAL * y / z + 15.5)
            if 0 <= u < 64 and 0 <= v < 32:
                wanted[v, u] = min(wanted[v, u], z)
    assert 0.2 < np.isfinite(wanted).mean() < 0.9
    np.testing.assert_allclose(splat(depth, CAMERA, motion, counts), wanted)


def test_a_wall_that_comes_nearer_has_no_error():
    depth = np.stack([np.full(SIZE, distance) for distance in (20.0, 18.5, 17.0)])
    motions = np.stack([moved_by(z=-1.5)] * 2)
    assert temporal_alignment_error(depth, CAMERA, motions, everywhere(depth)) == pytest.approx(0, abs=1e-12)


def test_a_slanted_plane_has_only_the_error_of_rounding():
    """Half a pixel of rounding changes inverse depth by half its slope: |z' - z| / z <= z' * (|a| + |b|) / 2."""
    normal, distance, motion = np.array([0.4, 0.5, 0.77]), 8.0, moved_by(0.3, 0.1, -0.7, yaw=0.03)
    first, slope = plane_depth(normal, distance)
    turned = motion[:3, :3] @ normal
    second, second_slope = plane_depth(turned, distance + turned @ motion[:3, 3])
    depth = np.stack([first, second])
    error = temporal_alignment_error(depth, CAMERA, motion[None], everywhere(depth))
    assert 0 < error <= depth.max() * np.abs([slope, second_slope]).sum(axis=1).max() / 2
    wrong = temporal_alignment_error(depth, CAMERA, moved_by()[None], everywhere(depth))
    assert wrong > 3 * error


def test_depth_scaled_in_every_other_frame():
    """Onto the larger depth the error is 0.2 / 1.2, back it is 0.2."""
    depth = np.stack([np.full(SIZE, 10.0), np.full(SIZE, 12.0), np.full(SIZE, 10.0)])
    motions = np.stack([np.eye(4)] * 2)
    error = temporal_alignment_error(depth, CAMERA, motions, everywhere(depth))
    assert error == pytest.approx((0.2 / 1.2 + 0.2) / 2)


def box_before_wall(box: slice, near: float, far: float) -> np.ndarray:
    depth = np.full(SIZE, far)
    depth[10:22, box] = near
    return depth


def test_a_box_hides_the_wall_behind_it():
    """Sideways by 1 m the box at 5 m moves 8 pixels, the wall at 20 m moves 2: wall points that the box now covers
    must not be taken for it, and what it uncovers is a hole."""
    first, second = box_before_wall(slice(30, 42), 5.0, 20.0), box_before_wall(slice(22, 34), 5.0, 20.0)
    depth, motion = np.stack([first, second]), moved_by(x=-1.0)
    assert temporal_alignment_error(depth, CAMERA, motion[None], everywhere(depth)) == pytest.approx(0, abs=1e-12)
    moved = splat(first, CAMERA, motion, everywhere(first))
    np.testing.assert_allclose(moved[10:22, 22:34], 5.0)
    uncovered = np.zeros(SIZE, bool)
    uncovered[10:22, 34:40] = True  # the box's old place, 2 pixels to the left with the wall, minus the box
    uncovered[:, 62:] = True
    np.testing.assert_array_equal(np.isinf(moved), uncovered)
    seen = covisible(depth, CAMERA, motion[None], everywhere(depth))
    np.testing.assert_array_equal(seen[0, 0], ~uncovered)


def test_a_wall_that_shines_through_an_enlarged_box():
    """At 5 m the box spans 12 pixels, at 3 m 20, so its points leave holes; wall points land in some of them."""
    first, second = box_before_wall(slice(26, 38), 5.0, 20.0), np.full(SIZE, 18.0)
    second[6:26, 22:42] = 3.0
    depth, motions = np.stack([first, second]), moved_by(z=-2.0)[None]
    counts = everywhere(depth)
    seen = covisible(depth, CAMERA, motions, counts)
    assert temporal_alignment_error(depth, CAMERA, motions, counts) > 0.05
    assert temporal_alignment_error(depth, CAMERA, motions, counts, seen) == pytest.approx(0, abs=1e-12)


def test_moving_objects_count_only_where_they_are_let():
    """A box that runs ahead of a standing camera, 10 of the 2048 pixels: 5 m, then 8 m."""
    depth = np.full((2, *SIZE), 20.0)
    depth[:, 15, 10:20] = [[5.0], [8.0]]
    counts = everywhere(depth)
    error = temporal_alignment_error(depth, CAMERA, np.eye(4)[None], counts)
    assert error == pytest.approx(10 / 2048 * (3 / 8 + 3 / 5) / 2)
    counts[:, 15, 10:20] = False
    assert temporal_alignment_error(depth, CAMERA, np.eye(4)[None], counts) == 0


def test_a_prediction_that_shares_no_pixel_is_wrong_altogether():
    depth = np.full((2, *SIZE), 1.0)
    behind = moved_by(z=-2.0)[None]  # forward all points fall behind the camera; back they come to 3 m
    assert temporal_alignment_error(depth, CAMERA, behind, everywhere(depth)) == pytest.approx((1 + 2) / 2)


def test_a_video_without_pixels_to_compare():
    depth = np.full((2, *SIZE), 1.0)
    with pytest.raises(UserError, match="no pixel that is static and of known depth"):
        temporal_alignment_error(depth, CAMERA, np.eye(4)[None], ~everywhere(depth))


def test_path_scale():
    truth = np.stack([moved_by(z=-3.0), moved_by(x=4.0)])
    half = truth.copy()
    half[:, :3, 3] /= 2
    assert path_scale(half, truth) == pytest.approx(2)
    assert path_scale(np.stack([np.eye(4)] * 2), truth) == 1


def texture(shift: int = 0) -> np.ndarray:
    """A textured image whose content moves to the right by `shift` pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 200, 3), dtype=np.uint8)
    return np.ascontiguousarray(cv2.GaussianBlur(noise, (0, 0), 2.0)[:, 20 - shift : 180 - shift])


def test_flicker_of_constant_and_of_rescaled_depth():
    forward, trusted = track(texture(), texture(4))
    inverse = 1 / np.tile(np.linspace(5, 50, 96, dtype=np.float32)[:, None], (1, 160))  # alike along the motion
    constant = np.full((96, 160), 0.1, np.float32)
    still = flicker(constant, constant, forward, trusted)
    assert (still.shape, still.scale) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6))
    assert still.followed > 0.8
    pulsing = flicker(constant * np.float32(1.1), constant / np.float32(1.1), forward, trusted)
    assert pulsing.shape == pytest.approx(0, abs=1e-6)
    assert pulsing.scale == pytest.approx(2 * np.log(1.1), rel=1e-5)
    standing = np.zeros((96, 160, 2), np.float32), np.ones((96, 160), bool)
    changed = inverse.copy()
    changed[:24] *= np.float32(1.1)  # a quarter of the picture
    partly = flicker(inverse, changed, *standing)
    assert partly.shape == pytest.approx(np.log(1.1) / 4, rel=1e-4)
    assert partly.scale == pytest.approx(0, abs=1e-6)


def test_depth_that_moves_with_the_picture_does_not_flicker():
    forward, trusted = track(texture(), texture(4))
    np.testing.assert_allclose(np.median(forward[trusted], axis=0), [4, 0], atol=0.05)
    waves = lambda shift: np.exp(np.sin((np.arange(160) - shift) / 5.0))  # noqa: E731
    first, second = (np.tile(waves(shift), (96, 1)).astype(np.float32) for shift in (0, 4))
    followed = flicker(first, second, forward, trusted)
    compared_in_place = flicker(first, second, np.zeros_like(forward), trusted)
    assert followed.shape < 0.02 < 0.3 < compared_in_place.shape


def test_flow_that_does_not_close():
    flow = np.zeros((*SIZE, 2), np.float32)
    flow[..., 0] = 5.0
    closes = flow_closes(flow, -flow)
    assert closes[:, :59].all()
    assert not closes[:, 59:].any()  # leaves the image
    assert not flow_closes(flow, flow).any()

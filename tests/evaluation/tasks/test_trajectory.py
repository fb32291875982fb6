"""Trajectory errors on paths whose error is known."""

import dataclasses

import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.evaluation.tasks.odometry import evaluate_odometry, open_sequence
from robustdepth.evaluation.tasks.trajectory import chain_motions, sim3_error, snippet_errors, umeyama


def rotation(axis: int, angle: float) -> np.ndarray:
    turn, (i, j) = np.eye(3), [k for k in range(3) if k != axis]
    turn[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    return turn


def winding_path(count: int = 30) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    for t in range(1, count):
        step = np.eye(4)
        step[:3, :3] = rotation(1, 0.1 * np.sin(0.3 * t)) @ rotation(0, 0.02 * np.cos(t))
        step[:3, 3] = (0.02, -0.01, 1 + 0.3 * np.sin(0.5 * t))
        poses[t] = poses[t - 1] @ step
    return poses


def motions_of(poses: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """T_{t -> t+1} of a path whose translations are multiplied by `scale`."""
    motions = np.linalg.inv(poses[1:]) @ poses[:-1]
    motions[:, :3, 3] *= scale
    return motions


def test_chained_motions_give_the_path_back():
    poses = winding_path()
    np.testing.assert_allclose(chain_motions(motions_of(poses)), poses, atol=1e-10)


def test_a_path_of_another_scale_has_no_error():
    poses = winding_path()
    smaller = chain_motions(motions_of(poses, 0.01))
    np.testing.assert_allclose(snippet_errors(smaller, poses), np.zeros(26), atol=1e-10)
    assert sim3_error(smaller, poses) == pytest.approx(0, abs=1e-8)


def test_snippet_error_of_a_sideways_guess():
    """The truth drives 1, 2, 3, 4 ahead; the guess goes sideways, so its best scale is 0: sqrt(1 + 4 + 9 + 16) / 5."""
    truth, guess = np.tile(np.eye(4), (5, 1, 1)), np.tile(np.eye(4), (5, 1, 1))
    truth[:, 2, 3] = guess[:, 0, 3] = np.arange(5)
    np.testing.assert_allclose(snippet_errors(guess, truth), [np.sqrt(30) / 5])


def test_umeyama_recovers_a_similarity():
    points = np.random.default_rng(0).normal(size=(20, 3))
    turn = rotation(0, 0.7) @ rotation(2, -2.0)
    scale, found, translation = umeyama(points, 2.5 * points @ turn.T + [1.0, -2.0, 3.0])
    assert scale == pytest.approx(2.5)
    np.testing.assert_allclose(found, turn, atol=1e-12)
    np.testing.assert_allclose(translation, [1, -2, 3], atol=1e-12)


def test_umeyama_never_mirrors():
    points = np.random.default_rng(0).normal(size=(20, 3))
    _, found, _ = umeyama(points, points * [1.0, 1.0, -1.0])
    assert np.linalg.det(found) == pytest.approx(1)


def test_sim3_error_of_a_standing_guess_is_the_spread_of_the_path():
    poses = winding_path()
    positions = poses[:, :3, 3]
    wanted = np.sqrt(np.mean(np.sum((positions - positions.mean(axis=0)) ** 2, axis=1)))
    assert sim3_error(np.tile(np.eye(4), (30, 1, 1)), poses) == pytest.approx(wanted)


@dataclasses.dataclass
class TruePoses:
    """A pose network that knows the path, up to scale, and which frame an image is."""

    motions: np.ndarray
    calls: int = 0

    def prepare(self, image):
        return np.zeros((2, 2, 3), np.float32)

    def relative_pose(self, first, second):
        begin = self.calls * len(first)
        self.calls += 1
        found = self.motions[begin : begin + len(first)]
        return np.concatenate([found, np.tile(np.eye(4), (len(first) - len(found), 1, 1))])


def test_odometry_of_true_poses_in_another_unit(real_data):
    sequence = open_sequence(str(real_data / "kitti_odometry"), "00")
    short = sequence._replace(images=sequence.images[:20], numbers=sequence.numbers[:20], poses=sequence.poses[:20])
    result = evaluate_odometry(TruePoses(motions_of(short.poses, 0.1)), short, batch_size=8)
    assert result.name == "odometry_00"
    assert len(result.per_image) == 16
    assert result.metrics["ate"] == pytest.approx(0, abs=1e-6)
    assert result.metrics["sim3_rmse"] == pytest.approx(0, abs=1e-6)
    assert 0 < result.baselines["straight_ahead"]["ate"] < 0.2  # cars drive nearly straight


def test_odometry_needs_root_and_sequence():
    with pytest.raises(UserError, match=r"odometry needs --data_root=FOLDER .* and --sequence=NN"):
        open_sequence("", "00")

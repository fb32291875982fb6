"""Errors of a camera's path: ATE over short snippets and the Sim(3)-aligned trajectory error. NumPy only."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

SNIPPET = 5  # frames


def chain_motions(motions: Float[np.ndarray, "step 4 4"]) -> Float[np.ndarray, "frame 4 4"]:
    """Camera-to-world poses from the motions T_{t -> t+1}, which take points of camera t into camera t + 1.

    The first pose is the identity.
    """
    poses = [np.eye(4)]
    for motion in motions.astype(np.float64):
        poses.append(poses[-1] @ np.linalg.inv(motion))
    return np.stack(poses)


def snippet_errors(
    predicted: Float[np.ndarray, "frame 4 4"], truth: Float[np.ndarray, "frame 4 4"], length: int = SNIPPET
) -> Float[np.ndarray, "snippet"]:
    """Absolute trajectory error of every window of `length` frames, metres, after the window's best scale.

    Positions are taken relative to the window's first camera; the scale is the least-squares one. As in Zhou et al.
    (CVPR 2017) the error is |difference of all positions| / length, not its root mean square over frames.
    """
    errors = []
    for first in range(len(truth) - length + 1):
        window = slice(first, first + length)
        guess, true = _positions_from_first(predicted[window]), _positions_from_first(truth[window])
        errors.append(np.linalg.norm(_best_scale(guess, true) * guess - true) / length)
    return np.array(errors, np.float64)


def sim3_error(predicted: Float[np.ndarray, "frame 4 4"], truth: Float[np.ndarray, "frame 4 4"]) -> float:
    """Root mean square distance of the positions in metres, after the similarity that fits the whole path best."""
    source, target = predicted[:, :3, 3], truth[:, :3, 3]
    scale, rotation, translation = umeyama(source, target)
    distance = np.linalg.norm(scale * source @ rotation.T + translation - target, axis=1)
    return float(np.sqrt(np.mean(distance**2)))


def umeyama(
    source: Float[np.ndarray, "point 3"], target: Float[np.ndarray, "point 3"]
) -> tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Scale, rotation and translation minimising sum |target - (s R source + t)|^2 (Umeyama, PAMI 1991).

    Coinciding source points determine no scale; it is then 0, which puts them all at the target's mean.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred_source, centred_target = source - source_mean, target - target_mean
    left, singular, right = np.linalg.svd(centred_target.T @ centred_source / len(source))
    mirror = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = left @ np.diag(mirror) @ right
    variance = np.mean(np.sum(centred_source**2, axis=1))
    scale = float(singular @ mirror / variance) if variance > 0 else 0.0
    return scale, rotation, target_mean - scale * rotation @ source_mean


def _positions_from_first(poses: Float[np.ndarray, "frame 4 4"]) -> Float[np.ndarray, "frame 3"]:
    return (np.linalg.inv(poses[0]) @ poses)[:, :3, 3]


def _best_scale(guess: Float[np.ndarray, "frame 3"], true: Float[np.ndarray, "frame 3"]) -> float:
    square = np.sum(guess**2)
    return float(np.sum(guess * true) / square) if square > 0 else 0.0

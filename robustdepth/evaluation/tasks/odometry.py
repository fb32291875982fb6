"""The pose network on a KITTI odometry sequence."""

from __future__ import annotations

import pathlib
import time
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from robustdepth.errors import UserError
from robustdepth.evaluation.result import Metrics, Result
from robustdepth.evaluation.tasks.trajectory import SNIPPET, chain_motions, sim3_error, snippet_errors
from robustdepth.runtime import distributed

ODOMETRY = "odometry"
STRAIGHT_AHEAD = np.eye(4)  # the trivial baseline: one metre forward from frame to frame
STRAIGHT_AHEAD[2, 3] = -1.0


class Sequence(NamedTuple):
    """Consecutive left images of an odometry sequence, with true camera-to-world poses."""

    name: str
    numbers: list[int]
    images: list[pathlib.Path]
    poses: Float[np.ndarray, "frame 4 4"]


def open_sequence(root: str, name: str) -> Sequence:
    """Finds images and poses. Raises UserError where they are missing, or fewer than a snippet."""
    from robustdepth.data.recordings.kitti_odometry import ground_truth_poses, sequence_frames

    if not root or not name:
        raise UserError("protocol odometry needs --data_root=FOLDER (KITTI odometry) and --sequence=NN.")
    poses = ground_truth_poses(root, name)
    frames = [frame for frame in sequence_frames(pathlib.Path(root), name) if frame.side == "l"]
    frames = [frame for frame in frames if frame.number < len(poses)]
    numbers = [frame.number for frame in frames]
    if len(frames) < SNIPPET or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise UserError(f"odometry sequence {name} needs {SNIPPET} or more consecutive images with poses.")
    images = [frame.image for frame in frames if isinstance(frame.image, pathlib.Path)]  # never packed records here
    return Sequence(name, numbers, images, poses[numbers])


def evaluate_odometry(model: Any, sequence: Sequence, batch_size: int = 8) -> Result:
    """ATE over 5-frame snippets (own scale each) and Sim(3)-aligned error of the path, metres.

    Consecutive motions are chained; their scale is never used. The baseline drives straight ahead at constant speed.
    Raises UserError for a model without pose network, or an unreadable image.
    """
    count, truth = len(sequence.images), sequence.poses
    started, network_seconds = time.perf_counter(), 0.0

    def see(batches: range) -> list[list[list[float]]]:
        nonlocal network_seconds
        motions: list[list[list[float]]] = []
        images: list[np.ndarray] = []
        for first in (1 + batch_size * batch for batch in batches):
            images = images[-1:] or [_prepare(model, sequence.images[first - 1])]
            images += [_prepare(model, path) for path in sequence.images[first:][:batch_size]]
            missing = batch_size + 1 - len(images)  # a short last batch repeats its last image; the surplus is dropped
            padded = np.stack(images + images[-1:] * missing)
            asked = time.perf_counter()
            motions += np.asarray(model.relative_pose(padded[:-1], padded[1:]))[: len(images) - 1].tolist()
            network_seconds += time.perf_counter() - asked
        return motions

    predicted = chain_motions(np.array(distributed.shared(-(-(count - 1) // batch_size), see, count - 1)))
    straight = chain_motions(np.broadcast_to(STRAIGHT_AHEAD, (count - 1, 4, 4)))
    return Result(
        name=f"{ODOMETRY}_{sequence.name}",
        title=f"KITTI odometry {sequence.name}, {count} frames, {_length(truth):.0f} m",
        alignment="scale per snippet (ate), similarity of the whole path (sim3)",
        metrics=_metrics(predicted, truth),
        baselines={"straight_ahead": _metrics(straight, truth)},
        per_image=[
            {"name": f"{sequence.name} {number:06d}", "ate": error.item()}
            for number, error in zip(sequence.numbers, snippet_errors(predicted, truth), strict=False)
        ],
        seconds=time.perf_counter() - started,
        network_seconds=network_seconds,
    )


def _prepare(model: Any, path: pathlib.Path) -> np.ndarray:
    from robustdepth.data.images import read_image

    return model.prepare(read_image(path))


def _metrics(predicted: Float[np.ndarray, "frame 4 4"], truth: Float[np.ndarray, "frame 4 4"]) -> Metrics:
    """Metres."""
    errors = snippet_errors(predicted, truth)
    return {"ate": errors.mean().item(), "ate_std": errors.std().item(), "sim3_rmse": sim3_error(predicted, truth)}


def _length(poses: Float[np.ndarray, "frame 4 4"]) -> float:
    return float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum())

"""How steady depth is over a video: reprojection where poses are known (TAE), flicker along optical flow elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from robustdepth.errors import UserError
from robustdepth.types import Camera

MIN_DEPTH = 1e-3  # nearer points, and those behind the camera, land nowhere
SAME_SURFACE = 0.05  # relative difference of true depths up to which two frames see one surface in a pixel
NOTHING_LANDS = 1.0  # error of a prediction by which two overlapping frames would share no pixel


class Flicker(NamedTuple):
    """How much log inverse depth changes from one frame to the next along the optical flow."""

    shape: float  # mean absolute change after the pair's median change is taken off
    scale: float  # absolute median change: what all pixels have in common
    followed: float  # share of the pixels whose flow could be trusted


def splat(
    depth: Float[np.ndarray, "height width"],
    camera: Camera,
    motion: Float[np.ndarray, "4 4"],
    counts: Bool[np.ndarray, "height width"],
) -> Float[np.ndarray, "height width"]:
    """The depth map that another camera sees of the points where `counts` holds: each goes to the nearest pixel, and of
    several in one pixel the nearest point wins (z-buffer). Infinite where none lands.

    Args:
        depth: metres, positive.
        camera: of both views, unbatched.
        motion: takes points of this camera into the other one's frame.
    """
    height, width = depth.shape
    (fx, fy), (cx, cy) = camera.focal.astype(np.float64), camera.center.astype(np.float64)
    row, column = np.nonzero(counts)
    z = depth[counts].astype(np.float64)
    points = motion[:3, :3] @ np.stack([(column - cx) / fx * z, (row - cy) / fy * z, z]) + motion[:3, 3:]
    x, y, z = points[:, points[2] > MIN_DEPTH]
    column, row = np.rint(fx * x / z + cx), np.rint(fy * y / z + cy)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    nearest = np.full((height, width), np.inf)
    np.minimum.at(nearest, (row[inside].astype(np.intp), column[inside].astype(np.intp)), z[inside])
    return nearest


def temporal_alignment_error(
    depth: Float[np.ndarray, "frame height width"],
    camera: Camera,
    motions: Float[np.ndarray, "pair 4 4"],
    counts: Bool[np.ndarray, "frame height width"],
    seen: Bool[np.ndarray, "pair 2 height width"] | None = None,
) -> float:
    """TAE of one video, as a fraction (published tables give per cent).

    Frame i's depth is moved into frame i + 1 by the true motion and compared there, AbsRel = mean |moved - own| / own;
    then frame i + 1's in frame i; the mean over both directions of all pairs (Chen et al., Video Depth Anything, CVPR
    2025, and its published evaluation). Where several points land in one pixel that evaluation keeps an arbitrary one;
    here the nearest wins. A direction in which nothing lands counts 1, not 0.

    Args:
        depth: predictions in metres after the video's one alignment, positive.
        motions: T_{i -> i+1}, which take points of camera i into camera i + 1.
        counts: pixels that are moved and compared: static, and of depth that is known where truth exists.
        seen: narrows down the pixels that are compared, for each pair in both directions; see `covisible`.

    Raises:
        UserError: no pixel is to be compared in any frame.
    """
    errors = []
    for pair, way, source, target, motion in _directions(motions):
        wanted = counts[target] if seen is None else counts[target] & seen[pair, way]
        if not wanted.any():
            continue
        moved, own = splat(depth[source], camera, motion, counts[source]), depth[target]
        landed = wanted & np.isfinite(moved)
        error = np.abs(moved[landed] - own[landed]) / own[landed]
        errors.append(error.mean() if landed.any() else NOTHING_LANDS)
    if not errors:
        raise UserError("a video has no pixel that is static and of known depth in two frames: leave it out.")
    return float(np.mean(errors))


def covisible(
    truth: Float[np.ndarray, "frame height width"],
    camera: Camera,
    motions: Float[np.ndarray, "pair 4 4"],
    counts: Bool[np.ndarray, "frame height width"],
) -> Bool[np.ndarray, "pair 2 height width"]:
    """Pixels of the frame that is moved into, whose surface the other frame sees too: for each pair first in frame
    i + 1 (seen from i), then in frame i. Occluded and disoccluded pixels are False.

    True depth moved there must agree within SAME_SURFACE with true depth there; metres, where `counts` holds.
    """
    seen = np.zeros((len(motions), 2, *truth.shape[1:]), bool)
    for pair, way, source, target, motion in _directions(motions):
        moved = splat(truth[source], camera, motion, counts[source])
        seen[pair, way] = counts[target] & (np.abs(moved - truth[target]) <= SAME_SURFACE * truth[target])
    return seen


def _directions(motions: Float[np.ndarray, "pair 4 4"]) -> Iterator[tuple[int, int, int, int, np.ndarray]]:
    """Pair, way (0 forward, 1 back), source frame, target frame and T_{source -> target}."""
    for pair, motion in enumerate(motions.astype(np.float64)):
        yield pair, 0, pair, pair + 1, motion
        yield pair, 1, pair + 1, pair, np.linalg.inv(motion)


def path_scale(predicted: Float[np.ndarray, "pair 4 4"], truth: Float[np.ndarray, "pair 4 4"]) -> float:
    """Metres in one unit of a network's own scale: length of the true path by that of the predicted one.

    1 where either stands still, as then no unit can be told (and none is needed to move between equal cameras).
    """
    guess, true = (np.linalg.norm(motions[:, :3, 3], axis=1).sum() for motions in (predicted, truth))
    return float(true / guess) if guess > 0 and true > 0 else 1.0


def flicker(
    first: Float[np.ndarray, "height width"],
    second: Float[np.ndarray, "height width"],
    forward: Float[np.ndarray, "height width 2"],
    trusted: Bool[np.ndarray, "height width"],
) -> Flicker:
    """Flicker between the inverse depth maps of two consecutive frames, over the pixels that `track` can follow.

    A camera that drives on changes true depth too, so only numbers on the same footage may be compared.

    Args:
        forward, trusted: the flow from first to second frame and where it holds, at least in one pixel.
    """
    change = (follow(np.log(second), forward) - np.log(first))[trusted].astype(np.float64)
    common = np.median(change)
    return Flicker(float(np.abs(change - common).mean()), float(abs(common)), float(trusted.mean()))


def track(
    first: UInt8[np.ndarray, "height width 3"], second: UInt8[np.ndarray, "height width 3"]
) -> tuple[Float[np.ndarray, "height width 2"], Bool[np.ndarray, "height width"]]:
    """Optical flow from the first image to the second (DIS: Kroeger et al., ECCV 2016), and the pixels where its way
    forward and back closes; none of them at a cut."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)]
    forward, backward = optical_flow(grey[0], grey[1]), optical_flow(grey[1], grey[0])
    return forward, flow_closes(forward, backward)


def optical_flow(
    first: UInt8[np.ndarray, "height width"], second: UInt8[np.ndarray, "height width"]
) -> Float[np.ndarray, "height width 2"]:
    """Where every pixel of `first` lies in `second`: (x, y) offsets in pixels, by DIS with its medium preset."""
    start = np.zeros((*first.shape, 2), np.float32)
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, start)


def flow_closes(
    forward: Float[np.ndarray, "height width 2"], backward: Float[np.ndarray, "height width 2"]
) -> Bool[np.ndarray, "height width"]:
    """Pixels that stay within the image and that the backward flow brings back: |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5
    with b where f leads (Sundaram et al., ECCV 2010). Occluded pixels fail.
    """
    height, width = forward.shape[:2]
    x, y = np.moveaxis(_grid(forward) + forward, -1, 0)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    back = follow(backward, forward)
    square = lambda flow: np.sum(flow**2, axis=-1)  # noqa: E731
    return inside & (square(forward + back) < 0.01 * (square(forward) + square(back)) + 0.5)


def follow(
    values: Float[np.ndarray, "height width ..."], flow: Float[np.ndarray, "height width 2"]
) -> Float[np.ndarray, "height width ..."]:
    """Bilinear `values` where the flow leads from every pixel; the border is repeated outside."""
    where = _grid(flow) + flow
    return cv2.remap(values, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _grid(flow: Float[np.ndarray, "height width 2"]) -> Float[np.ndarray, "height width 2"]:
    row, column = np.indices(flow.shape[:2], np.float32)
    return np.stack([column, row], axis=-1)

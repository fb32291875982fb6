"""Stereo disparity by semi-global matching: several settings, fused where each rebuilds the left image best.

The matcher is OpenCV's (Hirschmueller, PAMI 2008). Fusing settings per pixel by photometric error is the idea of Watson
et al., "Self-Supervised Monocular Depth Hints", ICCV 2019; METHOD.md 5.1. The settings are [ours].
"""

import concurrent.futures
import dataclasses
import functools
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from robustdepth.errors import UserError
from robustdepth.geometry.stereo import CHECK_PIXELS, CHECK_SHARE
from robustdepth.types import STEREO, Batch

STEP = 16  # OpenCV wants numbers of disparities in multiples of it, and answers in parts of a pixel of that number
LOWEST = -1  # the smallest disparity tried: below zero, so that disparities between 0 and 1 are interpolated, too
UNIQUENESS = 5  # percent by which the best match must win
C1, C2, SSIM_SHARE = 0.01**2, 0.03**2, 0.85  # METHOD.md 1.2


class Setting(NamedTuple):
    """One way to match: small blocks follow thin things, large ones bridge plain areas."""

    block: int  # pixels, odd
    smoothing: int  # penalty of a step of one pixel, per pixel of the block; larger steps cost four times that


# Penalties as OpenCV's documentation gives them for colour images, 24 and 96 per pixel of the block.
SETTINGS = (
    Setting(block=3, smoothing=24),
    Setting(block=7, smoothing=24),
)


class Reference(NamedTuple):
    """An image that views are compared with, and its local moments."""

    image: np.ndarray  # Float32 [height, width, 3] in [0, 1]
    mean: np.ndarray
    variance: np.ndarray


Answer = tuple[Float[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]  # disparity, failed


def sgm_disparity(
    left: UInt8[np.ndarray, "height width 3"], right: UInt8[np.ndarray, "height width 3"], max_disparity: int
) -> Answer:
    """Disparity of the left view of a rectified pair: what stands at (x, y) is at (x - disparity, y) in the right one.

    Args:
      max_disparity: pixels, rounded up to a multiple of 16; the largest that is looked for is two less.

    Returns:
      disparity in pixels, 0 where unknown: no unique match, or a match beside the right image. The images are padded,
        so the left border is as well known as the rest, as far as the right view shows it.
      failed: the known pixels whose match leads back to another place when the views change roles, by more than
        `geometry.stereo` allows: mostly what one view hides from the other.

    Raises:
      UserError: the images differ in size, or max_disparity is not positive.
    """
    return sgm_pair(left, right, max_disparity)[0]


def sgm_pair(
    left: UInt8[np.ndarray, "height width 3"], right: UInt8[np.ndarray, "height width 3"], max_disparity: int
) -> tuple[Answer, Answer]:
    """`sgm_disparity` of both views, for little more than that of one; the right view's is a magnitude, too."""
    if left.shape != right.shape:
        raise UserError(f"the views of a stereo pair have {_size(left)} and {_size(right)} pixels; give equal sizes.")
    if max_disparity < 1:
        raise UserError(f"max_disparity is {max_disparity}, but must be 1 pixel or more.")
    count = -(-max_disparity // STEP) * STEP
    seen = _fused(left, right, count)
    mirrored = _fused(right[:, ::-1], left[:, ::-1], count)  # in the mirror, the right camera stands left
    failed, mirrored_failed = _failed(seen, mirrored[:, ::-1]), _failed(mirrored, seen[:, ::-1])
    return (seen, failed), (mirrored[:, ::-1], mirrored_failed[:, ::-1])


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _fused(left: np.ndarray, right: np.ndarray, count: int) -> np.ndarray:
    """Per pixel the answer of the setting that rebuilds the left image best, among those that have one."""
    padded = _padded(left, count), _padded(right, count)
    answers = [_match(*padded, count, setting)[:, count:] for setting in SETTINGS]
    reference, view = measure(_to_float(left)), _to_float(right)
    best, error = answers[0], rebuilding_error(reference, view, answers[0])
    for answer in answers[1:]:
        other = rebuilding_error(reference, view, answer)
        better = other < error
        best, error = np.where(better, answer, best), np.where(better, other, error)
    return best


def _padded(image: np.ndarray, count: int) -> np.ndarray:
    """The grey image with `count` more columns at the left, those that the matcher leaves empty."""
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return cv2.copyMakeBorder(grey, 0, 0, count, 0, cv2.BORDER_REPLICATE)


def _to_float(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / 255


def _match(left: np.ndarray, right: np.ndarray, count: int, setting: Setting) -> np.ndarray:
    """Disparities of padded grey images, 0 where unknown or beside the right image."""
    penalty = setting.smoothing * setting.block**2
    matcher = cv2.StereoSGBM.create(
        minDisparity=LOWEST,
        numDisparities=count,
        blockSize=setting.block,
        P1=penalty,
        P2=4 * penalty,
        disp12MaxDiff=-1,  # views are compared once settings are fused
        preFilterCap=31,
        uniquenessRatio=UNIQUENESS,
        mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,  # the quickest, and no worse on real images than more paths
    )
    disparity = matcher.compute(left, right).astype(np.float32) / STEP
    columns = np.arange(disparity.shape[1], dtype=np.float32) - count
    return np.where((disparity > 0) & (columns - disparity >= -0.5), disparity, np.float32(0))


def measure(image: Float[np.ndarray, "height width 3"]) -> Reference:
    """The moments over 3x3 windows of an image in [0, 1]."""
    mean = _box(image)
    return Reference(image, mean, _box(image * image) - mean * mean)


def _box(image: np.ndarray) -> np.ndarray:
    return cv2.blur(image, (3, 3), borderType=cv2.BORDER_REFLECT_101)


def rebuilding_error(
    left: Reference, right: Float[np.ndarray, "height width 3"], disparity: Float[np.ndarray, "height width"]
) -> Float[np.ndarray, "height width"]:
    """pe(left, right shifted by the disparity) of METHOD.md 1.2, in [0, 1]; infinite where the disparity is unknown."""
    columns = np.arange(disparity.shape[1], dtype=np.float32)[None]
    rows = np.broadcast_to(np.arange(disparity.shape[0], dtype=np.float32)[:, None], disparity.shape)
    view = cv2.remap(
        right, columns - disparity, np.ascontiguousarray(rows), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    mean = _box(view)
    covariance = _box(left.image * view) - left.mean * mean
    variance = _box(view * view) - mean * mean
    similarity = (2 * left.mean * mean + C1) * (2 * covariance + C2)
    similarity /= (left.mean * left.mean + mean * mean + C1) * (left.variance + variance + C2)
    error = SSIM_SHARE * np.clip((1 - similarity) / 2, 0, 1) + (1 - SSIM_SHARE) * np.abs(left.image - view)
    return np.where(disparity > 0, error.mean(axis=2), np.float32(np.inf))


def _failed(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Known disparities of the left view that those of the right view, where they lead, do not confirm."""
    columns = np.arange(left.shape[1], dtype=np.float32)
    there = np.clip(np.rint(columns - left), 0, left.shape[1] - 1).astype(np.intp)
    answer = np.take_along_axis(right, there, axis=1)
    allowed = np.maximum(CHECK_PIXELS, CHECK_SHARE * left)
    return (left > 0) & ((answer <= 0) | (np.abs(answer - left) > allowed))


def add_sgm(batch: Batch, max_disparity: int) -> Batch:
    """The batch with `disparity` and `disparity_failed` of its targets, by `sgm_disparity`.

    A target that is the right camera, or a mirrored sample, has a negative baseline: both views are mirrored, matched,
    and the answer mirrored back. Samples without a stereo view get zeros.

    Args:
      batch: uint8 images in host memory, with or without stereo views.
    """
    target, sources, baseline = np.asarray(batch.target), np.asarray(batch.sources), np.asarray(batch.baseline)
    there = np.zeros(len(target), bool)
    if STEREO in batch.source_names:
        view = batch.source_names.index(STEREO)
        there = np.asarray(batch.source_valid)[:, view] & (baseline != 0)
    disparity = np.zeros(target.shape[:3], np.float32)
    failed = np.zeros(target.shape[:3], bool)

    def match(index: int) -> None:
        turn = slice(None, None, 1 if baseline[index] > 0 else -1)
        left, right = target[index][:, turn], sources[index, view][:, turn]
        answer = sgm_disparity(left, right, max_disparity)
        disparity[index], failed[index] = (array[:, turn] for array in answer)

    list(_threads().map(match, np.flatnonzero(there)))
    return dataclasses.replace(batch, disparity=disparity, disparity_failed=failed)


@functools.cache
def _threads() -> concurrent.futures.Executor:
    return concurrent.futures.ThreadPoolExecutor()

"""Panels that show what the numbers mean: image, predicted depth, error; of the best and the worst frames."""

from __future__ import annotations

import pathlib

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from robustdepth.evaluation.frame import Frame
from robustdepth.evaluation.predictors import Predictor
from robustdepth.evaluation.protocols import Protocol
from robustdepth.evaluation.result import Result
from robustdepth.evaluation.samples import Samples

WORST_ERROR = 0.5  # |g - p| / g shown in the brightest colour
SHOWN = 3  # best and worst frames each


def write_panels(
    result: Result, protocol: Protocol, samples: Samples, predictor: Predictor, folder: pathlib.Path
) -> list[tuple[str, str]]:
    """Draws the best and worst frames of a result; returns (caption, file name) of each, best first."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.argsort([row["abs_rel"] for row in result.per_image])
    chosen = order.tolist() if len(order) <= 2 * SHOWN else [*order[:SHOWN].tolist(), *order[-SHOWN:].tolist()]
    shown = [samples[index] for index in chosen]
    prepared = [predictor.prepare(index, sample) for index, sample in zip(chosen, shown, strict=True)]
    step, panels = predictor.batch_size, []
    inverse = [values for first in range(0, len(chosen), step) for values in predictor.infer(prepared[first:][:step])]
    for rank, (index, sample) in enumerate(zip(chosen, shown, strict=True)):
        frame = Frame(protocol, result.alignment, sample)
        depth = frame.depth(inverse[rank])
        file = f"{result.name.split('[')[0]}_{rank}.png"
        cv2.imwrite(str(folder / file), draw_panel(sample.image, depth, sample.depth, frame.mask)[..., ::-1])
        panels.append((f"{sample.name}: abs_rel {result.per_image[index]['abs_rel']:.3f}", file))
    return panels


def draw_panel(
    image: UInt8[np.ndarray, "height width 3"],
    depth: Float[np.ndarray, "height width"],
    truth: Float[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
) -> UInt8[np.ndarray, "panel_height width 3"]:
    """Image, inverse depth (bright is near) and relative error (blue 0, red WORST_ERROR or more), one above another.

    Sparse ground truth is drawn as dots over the dimmed image.
    """
    inverse = 1 / depth
    far, near = np.percentile(inverse, (2, 98))
    shown = _colour((inverse - far) / max(near - far, 1e-6), cv2.COLORMAP_MAGMA)
    error = np.where(mask, np.abs(depth - truth) / np.where(mask, truth, 1) / WORST_ERROR, 0)
    dot = np.ones((3, 3) if mask.mean() < 0.5 else (1, 1), np.uint8)
    dots = cv2.dilate(
        np.where(mask, np.clip(error, 0.01, 1), 0).astype(np.float32), dot
    )  # the worst of neighbours wins
    errors = np.where((dots > 0)[..., None], _colour(dots, cv2.COLORMAP_TURBO), image // 3)
    return np.concatenate([image, shown, errors]).astype(np.uint8)


def _colour(level: Float[np.ndarray, "height width"], colormap: int) -> UInt8[np.ndarray, "height width 3"]:
    grey = np.round(255 * np.clip(level, 0, 1)).astype(np.uint8)
    return cv2.applyColorMap(grey, colormap)[..., ::-1]

"""Pictures of what the numbers mean: the best and the worst frames, and the errors under corruptions as bars."""

from __future__ import annotations

import pathlib

import cv2
import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from robustdepth.evaluation.charts import Row, draw_bars
from robustdepth.evaluation.frame import ScoredFrame
from robustdepth.evaluation.predictors import Predictor
from robustdepth.evaluation.protocols import Protocol
from robustdepth.evaluation.result import Result
from robustdepth.evaluation.robustness.corruptions import Robustness
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
    indices = [result.indices[row] for row in chosen]
    shown = [samples[index] for index in indices]
    prepared = [predictor.prepare(index, sample) for index, sample in zip(indices, shown, strict=True)]
    step, panels = predictor.batch_size, []
    inverse = [values for first in range(0, len(chosen), step) for values in predictor.infer(prepared[first:][:step])]
    for rank, (row, sample) in enumerate(zip(chosen, shown, strict=True)):
        frame = ScoredFrame(protocol, result.alignment, sample)
        depth = frame.depth(inverse[rank])
        file = f"{result.name.split('[')[0]}_{rank}.png"
        size = max(sample.image.shape[:2], depth.shape)  # they differ where ground truth has a size of its own
        image, depth, truth = (_at(layer, size) for layer in (sample.image, depth, sample.depth))
        panel = draw_panel(image, depth, truth, _at(frame.mask.astype(np.uint8), size) > 0)
        cv2.imwrite(str(folder / file), panel[..., ::-1])
        panels.append((f"{sample.name}: abs_rel {result.per_image[row]['abs_rel']:.3f}", file))
    return panels


def bars_file(result_name: str) -> str:
    """The bar chart's file name; one alignment of a protocol is as good as another."""
    return f"{result_name.split('[')[0]}_corruptions.png"


def write_bars(measured: Robustness, folder: pathlib.Path) -> None:
    """Draws DEE on clean images and under every corruption into `folder`, with marks for the baseline's."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [Row("clean", ((0, measured.clean_dee),))]
    rows += [Row(name, ((0, value),), measured.reference[name]) for name, value in measured.dee.items()]
    draw_bars(rows).savefig(folder / bars_file(measured.clean.name), dpi=100)


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


def _at(layer: Shaped[np.ndarray, "height width ..."], size: tuple[int, int]) -> Shaped[np.ndarray, "..."]:
    """A layer of a picture at `size` (height, width), each pixel the nearest one."""
    return layer if layer.shape[:2] == size else cv2.resize(layer, size[::-1], interpolation=cv2.INTER_NEAREST)


def _colour(level: Float[np.ndarray, "height width"], colormap: int) -> UInt8[np.ndarray, "height width 3"]:
    grey = np.round(255 * np.clip(level, 0, 1)).astype(np.uint8)
    return cv2.applyColorMap(grey, colormap)[..., ::-1]

"""Pictures of what the numbers mean: the best and the worst frames, and the errors under corruptions as bars."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORST_ERROR = 0.5  # |g - p| / g shown in the darkest red
SHOWN = 3  # best and worst frames each
SPARSE = 0.5  # truth of a smaller share of the pixels is drawn as dots
WIDTH = 12.0  # of a picture, inches of 100 pixels
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)  # of depth
TITLES = ("image", "predicted depth", "true depth", "|predicted - true| / true")


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
        draw_panel(image, depth, truth, _at(frame.mask.astype(np.uint8), size) > 0).savefig(folder / file)
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
) -> Figure:
    """Image and predicted depth above truth and relative error; depth and truth share one scale, in the truth's unit.

    Pixels without truth are dark, and the two dim the image there; sparse truth is drawn as larger dots.
    """
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure

    known = np.where(mask, truth, np.nan)
    error = np.where(mask, np.abs(depth - truth) / np.where(mask, truth, 1), np.nan)
    if mask.mean() < SPARSE:
        known, error = _dots(known, np.fmin), _dots(error, np.fmax)
    near, far = np.nanpercentile(known, (1, 99)) if mask.any() else np.percentile(depth, (1, 99))
    metres = dict(norm=LogNorm(near, max(far, 1.01 * near)), cmap="magma_r")
    errors = dict(norm=Normalize(0, WORST_ERROR), cmap="turbo")
    height, width = image.shape[:2]
    figure = Figure(figsize=(WIDTH, (WIDTH - 1) / 2 * height / width * 2 + 0.7), dpi=100, layout="constrained")
    parts = zip(figure.subplots(2, 2).flat, TITLES, (None, depth, known, error), strict=True)
    for axes, title, layer in parts:
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_axis_off()
        axes.imshow(image if title == TITLES[0] else image // 3)
        if layer is not None:
            drawn = axes.imshow(layer, **(errors if layer is error else metres), interpolation="nearest")
            ends, ticks = ("max", None) if layer is error else ("both", TICKS)
            figure.colorbar(drawn, ax=axes, extend=ends, ticks=ticks, format="%g", fraction=0.03).minorticks_off()
    return figure


def _dots(layer: Float[np.ndarray, "height width"], worst: np.ufunc) -> Float[np.ndarray, "height width"]:
    """Sparse values as 3x3 dots; where they meet, `worst` decides: np.fmin or np.fmax, which pass over NaN."""
    padded = np.pad(layer, 1, constant_values=np.nan)
    return worst.reduce(np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(*layer.shape, 9), axis=-1)


def _at(layer: Shaped[np.ndarray, "height width ..."], size: tuple[int, int]) -> Shaped[np.ndarray, "..."]:
    """A layer of a picture at `size` (height, width), each pixel the nearest one."""
    return layer if layer.shape[:2] == size else cv2.resize(layer, size[::-1], interpolation=cv2.INTER_NEAREST)

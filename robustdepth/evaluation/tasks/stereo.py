"""Stereo networks on rectified pairs with true disparity, beside semi-global matching on the same pixels."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import jax
import numpy as np
from jaxtyping import Bool, Float, UInt8
from ml_collections import ConfigDict
from tqdm import tqdm

from robustdepth.data.stereo.pairs import StereoPair, StereoPairs, open_pairs, world_pairs
from robustdepth.data.stereo.sgm import sgm_disparity
from robustdepth.errors import UserError
from robustdepth.evaluation.protocols import PROTOCOLS, WORLD_SEED
from robustdepth.evaluation.report import metric_table, save_report
from robustdepth.evaluation.result import Metrics
from robustdepth.geometry.depth import disparity_range
from robustdepth.paths import for_opencv
from robustdepth.runtime import distributed
from robustdepth.runtime.bundle import read_model
from robustdepth.runtime.workdir import versions
from robustdepth.teachers.stereo_teacher import load_teacher

STEREO_PROTOCOL = "stereo"
SHOWN = 4  # pairs in pictures
ROWS = {  # what stands in the tables, by its key in report.json
    "network": "network",
    "sgbm": "SGBM, a hole is wrong",
    "constant": "constant",
    "network_where_sgbm": "network where SGBM answers",
    "sgbm_where_sgbm": "SGBM where SGBM answers",
    "network_where_consistent": "network where it passes its left/right check",
}
# Disparity and where its left/right check fails, of a pair searched up to a number of pixels.
Answer = tuple[Float[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]
Look = Callable[[StereoPair, int], Answer]


class PairScores(NamedTuple):
    """What one pair gave, by the keys of ROWS."""

    name: str
    size: Sequence[int]  # height and width
    reach: int  # disparities searched, by network and SGBM alike
    rows: dict[str, Metrics]


@dataclasses.dataclass(frozen=True)
class StereoScores:
    """Means over pairs, each pair counting once, and what they are the means of."""

    pairs: Sequence[PairScores]
    seconds: float
    network_seconds: float

    @property
    def rows(self) -> dict[str, Metrics]:
        """By the keys of ROWS; a pair in which a row has no pixel is left out of that row."""
        return {key: _mean([pair.rows[key] for pair in self.pairs]) for key in ROWS}


def evaluate_stereo(
    model_path: str, folder: pathlib.Path, data_root: str, names: Sequence[str], batch_size: int
) -> StereoScores:
    """Scores a stereo network on the pairs under `data_root`, else on the worlds of protocol "world", with a report.

    Worlds have the size that the network was trained at; other pairs keep theirs.

    Args:
      names: only these drives or pairs of `data_root`.
      batch_size: worlds that are rendered at a time.

    Raises:
      UserError: no stereo network, pairs that cannot be read, or a report that cannot be written.
    """
    weights = distributed.together(lambda: read_model(model_path))
    distributed.check_same_step(int(weights.step))
    config, size = weights.config, (int(weights.config.image_size[0]), int(weights.config.image_size[1]))
    if data_root:
        pairs = distributed.together(lambda: open_pairs(data_root, names))
    else:
        count = PROTOCOLS["world"].count or 1
        pairs = world_pairs(size, count, WORLD_SEED, min(batch_size, count))
    model = {"name": config.name, "step": int(weights.step), "network": config.stereo.network}
    model |= {"image_size": list(size), "trained_for": reach_of(config, size[1])}
    network = distributed.together(lambda: _network(model_path, size))
    return measure(network, pairs, lambda width: reach_of(config, width), model, folder)


def reach_of(config: ConfigDict, width: int) -> int:
    """The disparities that a network searches in images of `width` pixels: those of its training, in proportion."""
    return disparity_range(width, round_up(config.stereo.max_disparity * width / config.image_size[1]))


def round_up(pixels: int | float) -> int:
    """To a multiple of 16, as SGBM and the stereo networks need."""
    return 16 * math.ceil(pixels / 16)


def _network(path: str, size: tuple[int, int]) -> Look:
    # One pair at a time on one device: pairs differ in size, and batches of one do not split.
    mesh = jax.make_mesh((1,), ("data",), (jax.sharding.AxisType.Auto,), devices=jax.local_devices()[:1])
    teacher = load_teacher(path, size, mesh)

    def look(pair: StereoPair, reach: int) -> Answer:
        sized = dataclasses.replace(teacher, module=teacher.module.clone(max_disparity=reach))
        view = sized.look(pair.left[None], pair.right[None], np.ones(1, np.float32))
        return np.asarray(view.disparity[0]), np.asarray(view.failed[0])

    return look


def measure(
    look: Look, pairs: StereoPairs, reach_at: Callable[[int], int], model: Mapping[str, Any], folder: pathlib.Path
) -> StereoScores:
    """Scores a network and SGBM on every pair and writes the report.

    Both search as far as `reach_at` says for the pair's width, or as far as the pair needs where that is farther.

    Raises UserError: a pair cannot be read, or the report cannot be written.
    """
    panels: list[tuple[str, np.ndarray]] = []  # of the first pairs, which process 0 has
    started, network_seconds = time.perf_counter(), 0.0
    block = pairs.rendered * -(-SHOWN // pairs.rendered)

    def measure_share(own: range) -> list[PairScores]:
        nonlocal network_seconds
        chosen, scores = range(pairs.count)[own.start * block : own.stop * block], []
        with tqdm(total=len(chosen), desc="stereo", unit="pair", disable=not distributed.is_first()) as progress:
            for pair in pairs.read(chosen):
                progress.set_postfix_str(pair.name)
                reach = max(reach_at(pair.left.shape[1]), round_up(pair.max_disparity))
                before = time.perf_counter()
                disparity, failed = look(pair, reach)
                network_seconds += time.perf_counter() - before
                matched, unmatched = sgm_disparity(pair.left, pair.right, reach)
                answered = (matched > 0) & ~unmatched
                rows = score_pair(pair.disparity, disparity, failed, matched, answered)
                scores.append(PairScores(pair.name, pair.disparity.shape, reach, rows))
                if len(panels) < SHOWN:
                    panels.append((_caption(scores[-1]), draw_pair(pair, disparity, np.where(answered, matched, 0))))
                progress.update()
        return scores

    scores = [PairScores(*row) for row in distributed.shared(-(-pairs.count // block), measure_share, pairs.count)]
    if not scores:
        raise UserError(f"none of the {pairs.count} pairs can be read (the warnings say why): replace their files.")
    result = StereoScores(scores, time.perf_counter() - started, network_seconds)
    distributed.on_first(lambda: _write_report(folder, pairs, result, model, panels))
    return result


def score_pair(
    truth: Float[np.ndarray, "height width"],
    disparity: Float[np.ndarray, "height width"],
    failed: Bool[np.ndarray, "height width"],
    matched: Float[np.ndarray, "height width"],
    answered: Bool[np.ndarray, "height width"],
) -> dict[str, Metrics]:
    """All rows of one pair.

    Args:
      truth: true disparity, 0 where unknown.
      disparity: the network's.
      failed: where that fails its left/right check.
      matched: SGBM's.
      answered: where SGBM answers at all.
    """
    constant = np.full_like(truth, np.median(truth[truth > 0]))
    everywhere, finite = np.ones(truth.shape, bool), np.isfinite(disparity)
    return {
        "network": score(truth, disparity, finite, everywhere),
        "sgbm": score(truth, matched, answered, everywhere),
        "constant": score(truth, constant, everywhere, everywhere),
        "network_where_sgbm": score(truth, disparity, finite, answered),
        "sgbm_where_sgbm": score(truth, matched, answered, answered),
        "network_where_consistent": score(truth, disparity, finite, ~failed),
    }


def score(
    truth: Float[np.ndarray, "height width"],
    disparity: Float[np.ndarray, "height width"],
    answered: Bool[np.ndarray, "height width"],
    counted: Bool[np.ndarray, "height width"],
) -> Metrics:
    """Errors of a disparity map over the pixels that are `counted` and whose truth is known (above 0).

    bad_k: percent of them that are wrong by more than k pixels (Scharstein & Szeliski, IJCV 2002). d1: percent wrong by
    more than 3 pixels and 5% (Menze & Geiger, CVPR 2015). epe: mean |error|, pixels. density: percent of all known
    pixels that are counted and answered. A pixel without an answer is wrong without bound. All but density are NaN
    where nothing counts.
    """
    known = truth > 0
    counts = known & counted
    density = 100 * float((answered & counts).sum() / known.sum())
    if not counts.any():
        return dict.fromkeys(("bad_3", "bad_2", "bad_1", "d1", "epe"), math.nan) | {"density": density}
    true = truth[counts].astype(np.float64)
    error = np.where(answered[counts], np.abs(np.where(answered, disparity, 0)[counts] - true), np.inf)
    bad = {f"bad_{k}": 100 * float((error > k).mean()) for k in (3, 2, 1)}
    d1 = 100 * float(((error > 3) & (error > 0.05 * true)).mean())
    return bad | {"d1": d1, "epe": float(error.mean()), "density": density}


def _mean(rows: Sequence[Metrics]) -> Metrics:
    found = {key: [row[key] for row in rows if not math.isnan(row[key])] for key in rows[0]}
    return {key: float(np.mean(values)) if values else math.nan for key, values in found.items()}


def draw_pair(
    pair: StereoPair, disparity: Float[np.ndarray, "height width"], matched: Float[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "panel_height panel_width 3"]:
    """Left image and true disparity above, the network's and SGBM's below; unknown is black.

    One scale of colours, from 0 (blue) to the largest but 2% of the true disparities (red). Sparse truth is thickened.
    """
    brightest = np.percentile(pair.disparity[pair.disparity > 0], 98)
    dot = np.ones((3, 3) if (pair.disparity > 0).mean() < 0.5 else (1, 1), np.uint8)

    def colour(values: np.ndarray) -> np.ndarray:
        level = np.round(255 * np.clip(np.nan_to_num(values) / brightest, 0, 1)).astype(np.uint8)
        return np.where((values > 0)[..., None], cv2.applyColorMap(level, cv2.COLORMAP_TURBO)[..., ::-1], 0)

    above = np.concatenate([pair.left, colour(cv2.dilate(pair.disparity, dot))], axis=1)
    return np.concatenate([above, np.concatenate([colour(disparity), colour(matched)], axis=1)]).astype(np.uint8)


def _caption(scores: PairScores) -> str:
    network, sgbm = scores.rows["network"], scores.rows["sgbm"]
    return f"{scores.name}: bad_3 {network['bad_3']:.2f}, of SGBM {sgbm['bad_3']:.2f}"


def _summary(pairs: StereoPairs, result: StereoScores) -> str:
    rows, lacking = result.rows, pairs.count - len(result.pairs)
    return "\n".join(
        [
            f"{STEREO_PROTOCOL}: {pairs.title}; pairs: {len(result.pairs)}, each at its own size",
            *([f"WARNING: {lacking} of {pairs.count} pairs could not be read and are left out."] if lacking else []),
            "",
            metric_table({title: rows[key] for key, title in ROWS.items()}),
            "",
            "bad_k, d1 and density in percent, epe in pixels; inf: some pixels have no answer. The constant is the "
            "median of each pair's own truth.",
            f"{result.seconds:.1f} s, {result.network_seconds:.1f} s of it the network with compiling.",
        ]
    )


def _write_report(
    folder: pathlib.Path,
    pairs: StereoPairs,
    result: StereoScores,
    model: Mapping[str, Any],
    panels: Sequence[tuple[str, np.ndarray]],
) -> None:
    summary = _summary(pairs, result)
    entry = {
        "title": pairs.title,
        "count": len(result.pairs),
        "left_out": pairs.count - len(result.pairs),
        "metrics": {key: _finite(row) for key, row in result.rows.items()},
        "per_pair": [
            {"name": pair.name, "size": list(pair.size), "max_disparity": pair.reach}
            | {key: _finite(row) for key, row in pair.rows.items()}
            for pair in result.pairs
        ],
        "seconds": result.seconds,
        "network_seconds": result.network_seconds,
    }
    text = ["# Evaluation", ", ".join(f"{key} {value}" for key, value in model.items()), summary]
    if len(result.pairs) > 1:
        by_pair = {pair.name: pair.rows for pair in result.pairs}
        for key in ("network", "sgbm"):
            text += [f"## Per pair: {ROWS[key]}", metric_table({name: rows[key] for name, rows in by_pair.items()})]
    text.append("Left image and true disparity above, network and SGBM below, in one scale of colours:")
    text += [f"{caption}\n\n![{caption}](pictures/stereo_{i}.png)" for i, (caption, _) in enumerate(panels)]
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write pictures in {folder} ({error.strerror}).") from error
    for i, (_, panel) in enumerate(panels):
        cv2.imwrite(for_opencv(folder / "pictures" / f"stereo_{i}.png"), panel[..., ::-1])
    content = {"protocols": {STEREO_PROTOCOL: entry}, "model": dict(model), "versions": versions()}
    save_report(folder, content, "\n\n".join(text) + "\n")
    print(f"{summary}\n\nreport: {folder / 'report.md'}")


def _finite(row: Metrics) -> dict[str, float | None]:
    """As JSON can hold it: None for a mean over nothing, or over pixels without an answer."""
    return {key: value if math.isfinite(value) else None for key, value in row.items()}

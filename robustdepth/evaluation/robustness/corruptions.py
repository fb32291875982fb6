"""How much accuracy a network keeps on corrupted images: DEE, mCE and mRR of the RoboDepth benchmark.

Under any depth protocol every image is corrupted by each of the 18 corruptions at each severity, on the devices, and
then goes the way of a clean one. AbsRel and delta1 are averaged over images, then over severities (Kong et al.,
"RoboDepth", NeurIPS 2023). Images are corrupted at their own full size, as a camera would deliver them, or at a given
size: the published KITTI-C shrinks them to 640x192 first.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from robustdepth.conditions.corruptions.benchmark import (
    BENCHMARK,
    KITTI_C_SIZE,
    SEVERITIES,
    batches_by_size,
    resize_as_benchmark,
)
from robustdepth.errors import UserError
from robustdepth.evaluation.evaluator import map_ahead
from robustdepth.evaluation.frame import ScoredFrame
from robustdepth.evaluation.predictors import NetworkPredictor
from robustdepth.evaluation.protocols import Protocol
from robustdepth.evaluation.result import Metrics, Result, mean_metrics
from robustdepth.evaluation.robustness.look import Look, Timing
from robustdepth.evaluation.robustness.published import PUBLISHED_DEE, PUBLISHED_NAME
from robustdepth.evaluation.samples import Samples
from robustdepth.runtime import distributed

Size = tuple[int, int] | None  # height and width at which images are corrupted; None: their own
Variant = tuple[str, int]  # a corruption at a severity
AHEAD = 3  # corrupted batches whose scoring may be unfinished while the next one is predicted


def depth_estimation_error(metrics: Mapping[str, float]) -> float:
    """DEE = (AbsRel - delta1 + 1) / 2: 0 is perfect."""
    return (metrics["abs_rel"] - metrics["delta1"] + 1) / 2


def mean_corruption_error(dee: Mapping[str, float], baseline: Mapping[str, float]) -> float:
    """mCE: 100 times the mean of DEE_i / DEE_i(baseline) over the corruptions of `dee`; lower is better."""
    return 100 * float(np.mean([dee[name] / baseline[name] for name in dee]))


def mean_resilience_rate(dee: Mapping[str, float], clean: float) -> float:
    """mRR: 100 times the mean of (1 - DEE_i) / (1 - DEE_clean): the share of accuracy that is kept."""
    return 100 * float(np.mean([(1 - value) / (1 - clean) for value in dee.values()]))


@dataclasses.dataclass(frozen=True)
class Baseline:
    """The DEE that corruption errors are set against."""

    name: str
    dee: Mapping[str, float]


def find_baseline(
    path: str, protocol: str, count: int, names: Sequence[str], severities: Sequence[int], size: Size
) -> Baseline:
    """The baseline of a report.json, or the published one where `path` is empty.

    Raises UserError where the file is no report, or its numbers are of another protocol, number of images, severities
    or size, or lack a corruption: nothing else may be compared.
    """
    if not path:
        return Baseline(PUBLISHED_NAME, PUBLISHED_DEE)
    try:
        content = json.loads(pathlib.Path(path).read_text())
        results, model = content["protocols"], content["model"]
        entry = results[protocol]["corruptions"] if "corruptions" in results.get(protocol, {}) else None
        found = [key for key, result in results.items() if "corruptions" in result]
        if entry:
            dee = {name: float(row["dee"]) for name, row in entry["by_corruption"].items()}
            theirs = _conditions(results[protocol]["count"], entry["severities"], entry["image_size"])
            label = f"{model.get('name', 'model')} at step {model.get('step', 'unknown')} ({path})"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--baseline_report={path} is not a report.json of an evaluation ({error!r}).") from error
    if not entry:
        raise UserError(
            f"{path} has no corruptions under {protocol} (it has them under: {', '.join(found) or 'no protocol'}), and "
            "different protocols are not compared: evaluate the baseline with the same flags."
        )
    ours = _conditions(count, severities, size)
    if theirs != ours:
        raise UserError(
            f"{path} was measured on {theirs}, this is on {ours}: evaluate the baseline with the same flags."
        )
    if missing := [name for name in names if name not in dee]:
        raise UserError(
            f"{path} was not measured under {', '.join(missing)}: evaluate the baseline with the same flags."
        )
    if min(dee[name] for name in names) <= 0:
        raise UserError(f"{path} holds a DEE that is not positive: nothing can be set against it.")
    return Baseline(label, {name: dee[name] for name in names})


@dataclasses.dataclass(frozen=True)
class Robustness:
    """What corruptions do to a network under one protocol."""

    clean: Result
    metrics: Mapping[str, Mapping[int, Metrics]]  # corruption -> severity -> means over images
    baseline: Baseline
    size: Size
    timing: Timing

    @property
    def severities(self) -> tuple[int, ...]:
        return tuple(next(iter(self.metrics.values())))

    @property
    def means(self) -> dict[str, Metrics]:
        """Metrics of every corruption, averaged over its severities."""
        return {name: mean_metrics(list(rows.values())) for name, rows in self.metrics.items()}

    @property
    def dee(self) -> dict[str, float]:
        return {name: depth_estimation_error(row) for name, row in self.means.items()}

    @property
    def clean_dee(self) -> float:
        return depth_estimation_error(self.clean.metrics)

    @property
    def blind_dee(self) -> float:
        """The better trivial baseline's DEE; it looks at no image, so no corruption changes it."""
        return min(depth_estimation_error(row) for row in self.clean.baselines.values())

    @property
    def reference(self) -> dict[str, float]:
        """What the DEE of each corruption is set against: the baseline's, or `blind_dee` where it has none."""
        blind = max(self.blind_dee, 1e-6)  # 0 where all depth is the same
        return {name: self.baseline.dee.get(name, blind) for name in self.metrics}

    @property
    def mce(self) -> float:
        return mean_corruption_error(self.dee, self.reference)

    @property
    def mrr(self) -> float:
        return mean_resilience_rate(self.dee, self.clean_dee)

    @property
    def warnings(self) -> list[str]:
        """What keeps mCE or mRR from being compared with published ones."""
        said = []
        is_kitti_c = self.clean.name == "kitti_eigen" and not self.clean.warnings and self.size == KITTI_C_SIZE
        if self.baseline.name == PUBLISHED_NAME and not is_kitti_c:
            said.append(
                "mCE is set against a row published for KITTI-C, the whole kitti_eigen corrupted at 640x192 "
                "(--corruption_size=192,640), and this is not: give --baseline_report."
            )
        if others := [name for name in self.metrics if name not in self.baseline.dee]:
            said.append(
                f"{self.baseline.name} has no {', '.join(others)}: CE is set against the trivial baseline there."
            )
        if set(self.metrics) != set(BENCHMARK) or self.severities != SEVERITIES:
            counted = sum(name in BENCHMARK for name in self.metrics)
            said.append(
                f"{counted} of {len(BENCHMARK)} corruptions at severities {_listed(self.severities)}: "
                "mCE and mRR must not be compared with those of all."
            )
        return said

    def as_json(self) -> dict[str, Any]:
        """The entry `corruptions` of a protocol in report.json."""
        means, dee, reference = self.means, self.dee, self.reference
        return {
            "severities": list(self.severities),
            "image_size": self.size and list(self.size),
            "baseline": {"name": self.baseline.name, "dee": dict(self.baseline.dee)},
            "warnings": self.warnings,
            "clean_dee": self.clean_dee,
            "blind_dee": self.blind_dee,
            "mce": self.mce,
            "mrr": self.mrr,
            "by_corruption": {
                name: {
                    "abs_rel": means[name]["abs_rel"],
                    "delta1": means[name]["delta1"],
                    "dee": dee[name],
                    "ce": 100 * dee[name] / reference[name],
                    "rr": 100 * (1 - dee[name]) / (1 - self.clean_dee),
                    "by_severity": {str(severity): row for severity, row in rows.items()},
                }
                for name, rows in self.metrics.items()
            },
            "timing": dataclasses.asdict(self.timing),
        }


def evaluate_corruptions(
    protocol: Protocol,
    samples: Samples,
    predictor: NetworkPredictor,
    clean: Result,
    names: Sequence[str],
    severities: Sequence[int],
    baseline: Baseline,
    corruption_size: Size = None,
    threads: int = 4,
) -> Robustness:
    """Scores a network on every corruption and severity, under protocol, alignment and samples of its `clean` result.

    Of a job of several processes each takes some corruptions, or severities of one, and shows it all images: so it
    compiles no others, and batches are those of a single process.
    """
    variants = [(name, severity) for name in names for severity in severities]
    look, started = Look(predictor), time.perf_counter()

    def measure(own: range) -> list[Metrics]:
        chosen = [variants[number] for number in own]
        return _measure_variants(protocol, samples, look, clean, chosen, corruption_size, threads) if chosen else []

    found = dict(zip(variants, distributed.shared(len(variants), measure), strict=True))
    metrics = {name: {severity: found[name, severity] for severity in severities} for name in names}
    return Robustness(clean, metrics, baseline, corruption_size, look.timing(time.perf_counter() - started))


def _measure_variants(
    protocol: Protocol,
    samples: Samples,
    look: Look,
    clean: Result,
    variants: Sequence[Variant],
    corruption_size: Size,
    threads: int,
) -> list[Metrics]:
    """Means over images under every variant.

    Each image is read and sent to the devices once. Batches hold images of one size, so that programs are compiled once
    for each size in the data. An image's number among the samples is its seed, whatever batch it is in.
    """
    predictor = look.predictor
    scores: dict[Variant, list[Metrics]] = {variant: [] for variant in variants}
    waiting: collections.deque[tuple[Variant, list[Future]]] = collections.deque()
    size = predictor.round_up(min(predictor.batch_size, len(clean.indices)))

    def load(index: int) -> tuple[int, ScoredFrame, np.ndarray]:
        sample = samples[index]
        return index, ScoredFrame(protocol, clean.alignment, sample), resize_as_benchmark(sample.image, corruption_size)

    def collect(left: int) -> None:
        while len(waiting) > left:
            variant, futures = waiting.popleft()
            scores[variant] += [future.result() for future in futures]

    total, title = len(clean.indices) * len(variants), f"{clean.name} corrupted"
    with (
        ThreadPoolExecutor(threads) as loaders,
        ThreadPoolExecutor(threads) as scorers,
        tqdm(total=total, desc=title, unit="image", disable=not distributed.is_first()) as progress,
    ):
        loaded = map_ahead(loaders, load, clean.indices, ahead=2 * size)
        for batch in batches_by_size(loaded, size, lambda item: item[2].shape):
            images = predictor.put([image for _, _, image in batch], size)
            numbers = [index for index, _, _ in batch] + [batch[0][0]] * (size - len(batch))
            for variant in variants:
                predictions = look(images, *variant, numbers)
                pairs = zip(batch, predictions, strict=False)  # the last batch is padded
                scored = [scorers.submit(_score, predictor, frame, inverse) for (_, frame, _), inverse in pairs]
                waiting.append((variant, scored))
                collect(left=AHEAD)
                progress.update(len(batch))
        collect(left=0)
    return [mean_metrics(rows) for rows in scores.values()]


def _score(predictor: NetworkPredictor, frame: ScoredFrame, inverse: np.ndarray) -> Metrics:
    inverse = inverse / predictor.model.metres_factor(frame.sample.camera)
    frame.check(inverse)
    return frame.score(inverse)


def _conditions(count: int, severities: Sequence[int], size: Sequence[int] | None) -> str:
    at = f"corrupted at {size[1]}x{size[0]}" if size else "corrupted at their own size"
    return f"{count} images {at}, severities {_listed(severities)}"


def _listed(severities: Sequence[int]) -> str:
    return ",".join(map(str, severities))

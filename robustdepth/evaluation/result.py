"""What a protocol measured, in the form that every report writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Metrics = dict[str, float]


class LeftOut(NamedTuple):
    """A sample that could not be read."""

    number: int  # among the samples
    reason: str


@dataclasses.dataclass(frozen=True)
class Result:
    """One protocol's numbers. The first metric is its headline error (smaller is better)."""

    name: str  # the protocol's, with an overridden alignment named
    title: str
    alignment: str
    metrics: Metrics
    baselines: dict[str, Metrics]  # the same metrics of predictions that look at no image
    per_image: list[dict[str, Any]]  # {"name": ..., metrics}, in the order of the samples
    seconds: float
    network_seconds: float
    expected_count: int | None = None  # images of the published protocol
    counted: str = "images"  # what `per_image` lists
    left_out: tuple[LeftOut, ...] = ()

    @property
    def indices(self) -> list[int]:
        """Which samples `per_image` lists."""
        lacking = {number for number, _ in self.left_out}
        return [i for i in range(len(self.per_image) + len(lacking)) if i not in lacking]

    @property
    def below_baseline(self) -> float | None:
        """How far the headline error lies below that of the better trivial baseline, as a fraction of the latter.

        None where the baseline makes no error: constant depth never flickers.
        """
        headline = next(iter(self.metrics))
        best = min(row[headline] for row in self.baselines.values())
        return 1 - self.metrics[headline] / best if best > 0 else None

    @property
    def outside_network(self) -> float:
        """The share of the time in which no network call was under way."""
        return 1 - self.network_seconds / self.seconds

    @property
    def warnings(self) -> list[str]:
        """What keeps these numbers from being compared with published ones; said in every output."""
        said = []
        if self.left_out:
            said.append(
                f"{len(self.left_out)} of {len(self.left_out) + len(self.per_image)} {self.counted} could not be read "
                f"and are left out, the first: {self.left_out[0].reason}"
            )
        if self.expected_count not in (None, len(self.per_image)):
            said.append(
                f"{len(self.per_image)} images instead of the {self.expected_count} of the protocol: "
                "these numbers must not be compared with numbers on the whole set."
            )
        return said

    def as_json(self) -> dict[str, Any]:
        """The entry of report.json."""
        return {
            "title": self.title,
            "alignment": self.alignment,
            "count": len(self.per_image),
            "expected_count": self.expected_count,
            "left_out": [{"number": number, "reason": reason} for number, reason in self.left_out],
            "warnings": self.warnings,
            "metrics": self.metrics,
            "baselines": self.baselines,
            "below_better_baseline": self.below_baseline,
            "seconds": self.seconds,
            "outside_network": self.outside_network,
            "per_image": self.per_image,
        }


def mean_metrics(rows: Sequence[Metrics]) -> Metrics:
    """The mean over images of every metric: each image counts once, whatever batches and devices it went through."""
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}

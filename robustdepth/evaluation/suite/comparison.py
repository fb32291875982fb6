"""Several models' reports laid side by side: what may be compared with what, and which value is the best."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from robustdepth.data.benchmarks.datasets import DATASETS
from robustdepth.evaluation.metrics import HIGHER_IS_BETTER
from robustdepth.evaluation.protocols import PROTOCOLS, WHOLE_IMAGE, Protocol

Entry = Mapping[str, Any]  # one protocol in a report.json
HEADLINES = ("abs_rel", "delta1")
TRIVIAL = "better trivial baseline"
CLEAN = "clean"  # images, beside the names of corruptions
RESIZE = {
    "inverse_bilinear": "inverse depth, bilinear",
    "depth_corners": "depth, bilinear, corners aligned",
    "depth_nearest": "depth of the nearest pixel",
    "none": "not at all",
}


@dataclasses.dataclass(frozen=True)
class Condition:
    """One protocol under one alignment, and for rendered worlds at one size: nothing else may be compared."""

    name: str  # as in report.json
    size: str  # of rendered images, "" for recordings
    protocol: Protocol
    alignment: str
    entries: Mapping[str, Entry]  # model -> its numbers; only models that were measured under it

    @property
    def label(self) -> str:
        return f"{self.name} {self.size}".strip()

    @property
    def first(self) -> Entry:
        return next(iter(self.entries.values()))

    @property
    def warnings(self) -> list[str]:
        """Of all models, each once."""
        return list(dict.fromkeys(warning for entry in self.entries.values() for warning in entry["warnings"]))

    @property
    def corrupted(self) -> dict[str, Entry]:
        """Model -> its numbers under corruptions, where it has some."""
        return {name: entry["corruptions"] for name, entry in self.entries.items() if "corruptions" in entry}

    @property
    def dee(self) -> dict[str, dict[str, float]]:
        """Corruption -> model -> its DEE, on clean images first; of the models that were corrupted."""
        rows = {CLEAN: {name: entry["clean_dee"] for name, entry in self.corrupted.items()}}
        for name, entry in self.corrupted.items():
            for corruption, row in entry["by_corruption"].items():
                rows.setdefault(corruption, {})[name] = row["dee"]
        return rows

    def best_rate(self, rate: str) -> set[str]:
        """The models with the best "mce" or "mrr"."""
        return best_of({name: entry[rate] for name, entry in self.corrupted.items()}, higher=rate == "mrr")

    def best(self, metric: str) -> set[str]:
        """The models with the best value of a metric; none where there is nothing to compare."""
        values = {name: entry["metrics"][metric] for name, entry in self.entries.items()}
        return best_of(values, metric in HIGHER_IS_BETTER)

    def trivial(self, metric: str) -> float:
        """The better trivial baseline's value; it is the same for all models."""
        values = [row[metric] for row in self.first["baselines"].values()]
        return max(values) if metric in HIGHER_IS_BETTER else min(values)

    def beaten(self, model: str, metric: str) -> bool:
        """Whether a model is no better than the better trivial baseline."""
        value, trivial = self.entries[model]["metrics"][metric], self.trivial(metric)
        return value <= trivial if metric in HIGHER_IS_BETTER else value >= trivial


def best_of(values: Mapping[str, float], higher: bool = False) -> set[str]:
    """The names of the best value; none where fewer than two are given."""
    if len(values) < 2:
        return set()
    wanted = max(values.values()) if higher else min(values.values())
    return {name for name, value in values.items() if value == wanted}


def conditions_of(models: Mapping[str, Mapping[str, Any]]) -> list[Condition]:
    """All conditions of the models' report.json contents, in the order of their protocols."""
    found: dict[tuple[str, str, str], dict[str, Entry]] = {}
    for model, content in models.items():
        for name, entry in content["protocols"].items():
            rendered = protocol_of(name).truth == "world"
            size = "x".join(map(str, reversed(content["model"]["image_size"]))) if rendered else ""
            found.setdefault((name, entry["alignment"], size), {})[model] = entry
    conditions = [
        Condition(name, size, protocol_of(name), alignment, entries)
        for (name, alignment, size), entries in found.items()
    ]
    order = list(PROTOCOLS)
    return sorted(conditions, key=lambda condition: order.index(condition.protocol.name))


def protocol_of(result: str) -> Protocol:
    """The protocol of a result's name, which also tells an overridden alignment: world[alignment=none]."""
    return PROTOCOLS.find(result.split("[")[0])


@dataclasses.dataclass(frozen=True)
class Group:
    """Conditions of one dataset under the same rules, which differ only in what the camera saw."""

    title: str
    rules: str
    conditions: Sequence[Condition]


def groups_of(conditions: Sequence[Condition]) -> list[Group]:
    """The conditions by dataset, crop, depth range, resize rule, alignment and rendered size."""
    found: dict[tuple, list[Condition]] = {}
    for condition in conditions:
        rules = dataclasses.replace(condition.protocol, name="", title="", count=None)
        found.setdefault((rules, condition.alignment, condition.size), []).append(condition)
    return [
        Group(_title(members[0]), _rules(members[0].protocol, members[0].alignment), members)
        for members in found.values()
    ]


def _title(condition: Condition) -> str:
    match condition.protocol.truth:
        case "dataset":
            return DATASETS[condition.protocol.dataset].title
        case "world":
            return f"Procedural worlds, {condition.size}"
        case "improved":
            return "KITTI raw, accumulated ground truth"
        case _:
            return "KITTI raw, projected LiDAR"


def _rules(protocol: Protocol, alignment: str) -> str:
    """What makes the numbers comparable, in words."""
    low, high = protocol.valid
    top, bottom, left, right = (f"{100 * part:.1f}" for part in protocol.crop)
    return "; ".join(
        [
            f"alignment {alignment}",
            "whole image" if protocol.crop == WHOLE_IMAGE else f"rows {top} to {bottom}%, columns {left} to {right}%",
            "any true depth" if high == float("inf") else f"true depth {low:g} to {high:g} m",
            f"predictions clipped to {protocol.clip[0]:g} to {protocol.clip[1]:g} m",
            f"resized: {RESIZE[protocol.resize]}",
        ]
    )

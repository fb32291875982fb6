"""The public datasets that depth is evaluated on, and what `prepare check_dataset` says about a copy of one."""

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from robustdepth.data.benchmarks.listed import DATASETS
from robustdepth.errors import UserError, nearest
from robustdepth.types import EvalSample


def dataset_of(condition: str) -> str:
    """The name of the dataset that has this condition. Raises UserError with the nearest names if none has."""
    found = {key: name for name, dataset in DATASETS.items() for key in dataset.conditions}
    if condition not in found:
        raise UserError(f"unknown condition '{condition}'; {nearest(condition, found)}")
    return found[condition]


def open_condition(condition: str, root: str | os.PathLike, split: str = "") -> Sequence[EvalSample]:
    """The samples of a condition under `root`, read when they are asked for.

    Raises UserError for an unknown condition, or with the first thing that is missing or wrong.
    """
    dataset, folder = DATASETS[dataset_of(condition)], pathlib.Path(root)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: it must hold {dataset.layout}.")
    if split and not dataset.split_format:
        raise UserError(f"{condition} has a fixed set of frames: leave --split={split} out.")
    return dataset.open(folder, condition, split)


class DatasetReport(NamedTuple):
    """What `check_dataset` found; `faults` are the conditions that are not as published."""

    lines: list[str]
    faults: list[str]


def check_dataset(name: str, root: str | os.PathLike, split: str = "", read_all: bool = False) -> DatasetReport:
    """Looks for every file of every condition, counts frames, and reads the first and the last one (or all).

    A condition that takes its frames from a split file is passed over without one; where all do, that is a fault.
    Raises UserError for an unknown name, or a root that is no folder.
    """
    dataset = DATASETS.find(name)
    lines = [f"{name}: {dataset.title}", f"  from: {dataset.page}", f"  expected in {root}: {dataset.layout}"]
    if not pathlib.Path(root).is_dir():
        raise UserError("\n".join([*lines, f"{root} is no folder; give the one that holds the above with --root."]))
    faults: list[str] = []
    unchecked = []
    for condition, count in dataset.conditions.items():
        if dataset.needs_split(condition) and not split:
            lines.append(f"  {condition}: not checked; give --split=FILE with lines {dataset.split_format}")
            unchecked.append(condition)
            continue
        try:
            samples = open_condition(condition, root, split if dataset.needs_split(condition) else "")
            for index in range(len(samples)) if read_all else sorted({0, len(samples) - 1}):
                if not (samples[index].depth > 0).any():
                    raise UserError(f"{samples[index].name} has no ground truth at all.")
        except UserError as error:
            lines.append(f"  {condition}: INCOMPLETE. {error}")
            faults.append(condition)
            continue
        complete = count in (None, len(samples))
        lines.append(f"  {condition}: {len(samples)} frames" + ("" if complete else f" INSTEAD OF {count}"))
        faults += [] if complete else [condition]
    return DatasetReport(lines, faults if len(unchecked) < len(dataset.conditions) else unchecked)

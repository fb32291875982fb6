"""What a suite can evaluate with the data that are there, and what is missing for the rest."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from robustdepth.data.benchmarks.datasets import DATASETS
from robustdepth.data.benchmarks.packed import is_packed
from robustdepth.errors import UserError, nearest
from robustdepth.evaluation.protocols import PROTOCOLS, Protocol
from robustdepth.evaluation.robustness.weather import under_weather

KITTI_RAW = "kitti_raw"
KITTI_PAGE = "https://www.cvlibs.net/datasets/kitti/raw_data.php"
SPLIT_LINES = '"DATE/DRIVE_sync FRAME l|r"'
SPARSE = "kitti_sparse_frames"
WEATHER = ("fog", "rain", "snow", "night")  # that worlds are seen under too, see conditions.spec


@dataclasses.dataclass(frozen=True)
class Planned:
    """One protocol with the data it is evaluated on."""

    protocol: Protocol
    data_root: str = ""
    split: str = ""
    drives: Sequence[str] = ()
    weather: str = ""  # rendered into the frames

    @property
    def corruptible(self) -> bool:
        """Whether corruptions may be added: not to what shows bad weather itself."""
        return self.protocol.truth != "dataset" and not self.weather


@dataclasses.dataclass(frozen=True)
class Missing:
    """Protocols of one dataset that cannot be evaluated, and what to do about it."""

    title: str
    page: str
    protocols: Sequence[str]
    need: str
    command: str  # says whether a copy of the dataset is complete


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that a suite evaluates, and what it leaves out."""

    work: Sequence[Planned]
    missing: Sequence[Missing]


def named_paths(flag: str, entries: Sequence[str]) -> dict[str, str]:
    """NAME=PATH entries of a list flag. Raises UserError for anything else, and for a name given twice."""
    found: dict[str, str] = {}
    for entry in entries:
        name, equals, path = entry.partition("=")
        if not (name and equals and path):
            raise UserError(f"{flag}={entry} is not NAME=PATH; several are parted by commas.")
        if name in found:
            raise UserError(f"{flag} names {name!r} twice: each name stands for one path.")
        found[name] = path
    return found


def models_of(entries: Sequence[str], model: str) -> dict[str, str]:
    """The models of a suite: those of --models, or the one of --workdir or --checkpoint under its folder's name."""
    if entries and model:
        raise UserError("--models goes without --workdir and --checkpoint: name that model among --models.")
    return named_paths("--models", entries) or ({pathlib.Path(model).absolute().name: model} if model else {})


def make_plan(
    data_roots: Mapping[str, str],
    splits: Mapping[str, str],
    protocols: Sequence[str] = (),
    drives: Sequence[str] = (),
) -> Plan:
    """Chooses among `protocols`, of depth in images and all of them by default, those whose data are given.

    Args:
        data_roots: folders of public datasets by name, and of "kitti_raw".
        splits: lists of frames, by protocol, or by dataset for all its conditions that take one.
        drives: of KITTI raw, for kitti_sparse_frames.

    Raises:
        UserError: an unknown name, a root that is no folder, a list for something that takes none or has no root.
    """
    protocols, roots = protocols or list(PROTOCOLS), (KITTI_RAW, *DATASETS)
    if others := [name for name in protocols if name not in PROTOCOLS]:
        raise UserError(f"a suite is of depth in images, and protocol {others[0]!r} is not: evaluate it by itself.")
    for name, root in data_roots.items():
        if name not in roots:
            raise UserError(f"--data_roots: unknown dataset {name!r}: {nearest(name, roots)}")
        if not pathlib.Path(root).is_dir():
            raise UserError(f"--data_roots={name}={root}: there is no such folder.")
    plans = [_world(), _kitti(data_roots, splits, drives)]
    plans += [_dataset(name, data_roots.get(name, ""), splits) for name in DATASETS]
    work = [planned for plan in plans for planned in plan.work if planned.protocol.name.split("[")[0] in protocols]
    used = {planned.split for planned in work}
    if unused := [name for name, file in splits.items() if file not in used]:
        raise UserError(
            f"--splits names {unused[0]!r}, and nothing that is evaluated takes its list from there: name a protocol "
            "or dataset that takes one (docs/datasets.md) and is in --data_roots."
        )
    if drives and not any(planned.drives for planned in work):
        raise UserError(f"--drives chooses frames of {SPARSE} only, which is not evaluated: leave --drives out.")
    left_out = [
        dataclasses.replace(missing, protocols=[name for name in missing.protocols if name in protocols])
        for plan in plans
        for missing in plan.missing
    ]
    return Plan(work, [missing for missing in left_out if missing.protocols])


def _world() -> Plan:
    """Worlds in clear air and under each weather: what needs no data."""
    clear = PROTOCOLS["world"]
    rendered = [Planned(under_weather(clear, weather), weather=weather) for weather in WEATHER]
    return Plan([Planned(clear), *rendered], [])


def _kitti(data_roots: Mapping[str, str], splits: Mapping[str, str], drives: Sequence[str]) -> Plan:
    """The Eigen test frames where their list is given, otherwise all frames with LiDAR that are found."""
    root = data_roots.get(KITTI_RAW, "")
    listed = ("kitti_eigen", "kitti_eigen_improved")
    command = f"python -m robustdepth.prepare check {root or 'DIR'} --data=kitti_raw"
    if not root:
        need = f"unpack the recordings and add --data_roots={KITTI_RAW}=DIR"
        return Plan([], [Missing("KITTI raw", KITTI_PAGE, (SPARSE, *listed), need, command)])
    work = [Planned(PROTOCOLS[name], root, splits[name]) for name in listed if name in splits]
    missing = [
        Missing("KITTI raw", KITTI_PAGE, (name,), f"add --splits={name}=FILE with lines {SPLIT_LINES}", command)
        for name in listed
        if name not in splits
    ]
    return Plan(work or [Planned(PROTOCOLS[SPARSE], root, splits.get(SPARSE, ""), drives)], missing)


def _dataset(name: str, root: str, splits: Mapping[str, str]) -> Plan:
    dataset = DATASETS[name]
    command = f"python -m robustdepth.prepare check_dataset {name} --root={root or 'DIR'}"
    if not root:
        need = f"unpack it as {dataset.layout}, and add --data_roots={name}=DIR"
        return Plan([], [Missing(dataset.title, dataset.page, tuple(dataset.conditions), need, command)])
    work, without = [], []
    for condition in dataset.conditions:
        packed, needed = is_packed(root, condition), dataset.needs_split(condition)
        split = splits.get(condition, splits.get(name, "") if needed else "")
        if packed or not dataset.split_format:
            split = ""  # the frames are given
        if needed and not packed and not split:
            without.append(condition)
        else:
            work.append(Planned(PROTOCOLS.find(condition), root, split))
    if not without:
        return Plan(work, [])
    key = without[0] if len(without) == 1 else name
    need = f"add --splits={key}=FILE with lines {dataset.split_format}"
    return Plan(work, [Missing(dataset.title, dataset.page, without, need, f"{command} --split=FILE")])

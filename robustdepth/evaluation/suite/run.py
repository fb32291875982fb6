"""A suite: every protocol whose data are there, for one or several models, and one report that compares them."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from robustdepth.errors import UserError
from robustdepth.evaluation.baselines import find_median_map
from robustdepth.evaluation.pictures import write_bars
from robustdepth.evaluation.predictors import ForeignPredictor, NetworkPredictor, Predictor, map_size
from robustdepth.evaluation.protocols import PROTOCOLS
from robustdepth.evaluation.report import open_output, write_report
from robustdepth.evaluation.robustness.corruptions import Baseline
from robustdepth.evaluation.robustness.weather import WeatherSamples
from robustdepth.evaluation.run import Measured, Options, find_baselines, measure
from robustdepth.evaluation.samples import Samples, first_name, protocol_samples
from robustdepth.evaluation.suite.plan import Plan, Planned
from robustdepth.evaluation.suite.report import Failed, now, suite_summary, write_suite
from robustdepth.runtime import distributed
from robustdepth.runtime.inference import load_model
from robustdepth.runtime.workdir import versions
from robustdepth.types import EvalSample

NAME = re.compile(r"\w[\w.+-]*")  # a model's, and that of its folder in the output
FILES = (".npy", ".npz")
PICTURES = "pictures"
Worlds = dict[tuple[int, int], Sequence[EvalSample]]  # by their height and width


@dataclasses.dataclass
class Entrant:
    """A network, or predictions made elsewhere, with what was measured so far."""

    name: str
    folder: pathlib.Path  # of its own report
    network: NetworkPredictor | None
    files: Mapping[str, pathlib.Path]  # protocol -> predictions, where there is no network
    facts: dict[str, Any]
    measured: dict[str, Measured] = dataclasses.field(default_factory=dict)  # by result name

    def takes_part(self, planned: Planned) -> bool:
        return self.network is not None or planned.protocol.name in self.files

    def size(self, planned: Planned) -> tuple[int, int] | None:
        """Height and width of the images, where the protocol renders them: the network's, or those of predictions."""
        if planned.protocol.truth != "world":
            return None
        return self.network.model.image_size if self.network else map_size(self.files[planned.protocol.name])

    @property
    def panels(self) -> dict[str, list[tuple[str, str]]]:
        """Caption and file of the pictures of every result."""
        return {name: measured.panels for name, measured in self.measured.items()}

    def predictor(self, planned: Planned, samples: Samples, kind: str) -> Predictor:
        if self.network:
            return self.network
        return ForeignPredictor(self.files[planned.protocol.name], kind, len(samples), first_name(samples))


def run_suite(
    models: Mapping[str, str], plan: Plan, output: str, options: Options, overwrite: bool = False
) -> dict[str, Any]:
    """Evaluates every model on all that is planned; writes report.html, report.md and report.json, and a usual report
    for each model in a folder of its name.

    All are written anew after each protocol, so that a run that is stopped leaves what it has. What fails is told in
    the reports and does not stop the rest.

    Args:
        models: name -> working folder, checkpoint, or predictions: a file PROTOCOL.npz or PROTOCOL.npy, or a folder of
            such files and of folders PROTOCOL with one map per image.
        options: all that is no matter of the data.

    Returns:
        The content of report.json.

    Raises:
        UserError: for anything wrong before the first protocol, and at the end where one failed.
    """
    for name in models:
        if not NAME.fullmatch(name):
            raise UserError(f"--models: {name!r} is no name for a model: use letters, digits and . _ + - only.")
    folder = open_output(output, overwrite)
    paths = {name: pathlib.Path(path) for name, path in models.items()}
    entrants = distributed.together(lambda: [_enter(name, paths[name], folder, options) for name in paths])
    for entrant in entrants:
        distributed.check_same_step(int(entrant.network.model.step) if entrant.network else None)
    if not any(entrant.takes_part(planned) for planned in plan.work for entrant in entrants):
        raise UserError("the suite has nothing to evaluate: give --models and --data_roots (docs/evaluation.md).")
    network = next((entrant.network for entrant in entrants if entrant.network), None)
    # One map for all, so that all are set beside the same baselines.
    model = network.model if network else None
    median_map, origin = distributed.together(lambda: find_median_map(options.train_median, model))
    failed: list[Failed] = []
    content: dict[str, Any] = {}
    date = now()
    worlds: Worlds = {}
    for planned in plan.work:
        failed += _run_protocol(planned, entrants, median_map, options, worlds)
        for entrant in entrants:
            _write_own(entrant, origin)
        panels = {entrant.name: entrant.panels for entrant in entrants}
        content = distributed.from_first(partial(write_suite, folder, panels, date, plan.missing, failed))
    print(f"{suite_summary(content)}\n\nreport: {folder / 'report.html'}")
    if failed:
        raise UserError(
            f"{len(failed)} of the suite's evaluations failed, first {failed[0].protocol}: {failed[0].error} "
            f"The others are in {folder / 'report.html'}."
        )
    return content


def _enter(name: str, path: pathlib.Path, folder: pathlib.Path, options: Options) -> Entrant:
    """Loads a model, or finds predictions: what is named as a protocol."""
    entries = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    files = {
        entry.stem: entry for entry in entries if entry.stem in PROTOCOLS and (entry.is_dir() or entry.suffix in FILES)
    }
    if not files and path.is_file():
        raise UserError(f"--models={name}={path}: files of predictions are named as their protocol, world.npz.")
    if files:
        return Entrant(name, folder / name, None, files, {"predictions": str(path)})
    network = NetworkPredictor(load_model(str(path)), options.batch_size, options.flip)
    return Entrant(name, folder / name, network, {}, network.describe())


def _run_protocol(
    planned: Planned,
    entrants: Sequence[Entrant],
    median_map: Float[np.ndarray, "height width"],
    options: Options,
    worlds: Worlds,
) -> list[Failed]:
    """Measures all entrants under one protocol; images are opened once for all. Returns what failed."""
    protocol, failed = planned.protocol, []
    taking_part = [entrant for entrant in entrants if entrant.takes_part(planned)]
    for size in dict.fromkeys(entrant.size(planned) for entrant in taking_part):
        alike = [entrant for entrant in taking_part if entrant.size(planned) == size]
        try:
            samples = distributed.together(partial(_open, planned, size, worlds))
        except UserError as error:
            failed.append(Failed(protocol.name, ", ".join(entrant.name for entrant in alike), str(error)))
            continue
        for entrant in alike:
            try:
                _run_one(planned, samples, entrant, median_map, options)
            except UserError as error:
                failed.append(Failed(protocol.name, entrant.name, str(error)))
        if not options.baseline_report and protocol.name != "kitti_eigen":  # that one has a published baseline
            _set_against_first(protocol.name, alike)
    return failed


def _open(planned: Planned, size: tuple[int, int] | None, worlds: Worlds) -> Samples:
    """The samples of one protocol; `worlds` keeps the rendered ones, which every weather is drawn over."""
    if size is None:
        return protocol_samples(
            planned.protocol, data_root=planned.data_root, split=planned.split, drives=planned.drives
        )
    if size not in worlds:
        found = protocol_samples(planned.protocol, size=size)
        worlds[size] = [found[i] for i in range(len(found))]
    return WeatherSamples(worlds[size], planned.weather) if planned.weather else worlds[size]


def _run_one(
    planned: Planned,
    samples: Samples,
    entrant: Entrant,
    median_map: Float[np.ndarray, "height width"],
    options: Options,
) -> None:
    baseline, network, name = None, entrant.network, planned.protocol.name
    if planned.corruptible and options.corruptions and network:
        work = [(planned.protocol, samples)]
        baseline = distributed.together(lambda: find_baselines(work, network, options))[name]
    predictor = distributed.together(lambda: entrant.predictor(planned, samples, options.predictions_kind))
    measured = measure(planned.protocol, samples, predictor, median_map, options, entrant.folder / PICTURES, baseline)
    entrant.measured[measured.result.name] = measured
    entrant.facts |= predictor.describe()
    if size := entrant.size(planned):
        entrant.facts["image_size"] = list(size)  # worlds of another size are others: the comparison parts them by it


def _set_against_first(protocol: str, entrants: Sequence[Entrant]) -> None:
    """Makes the first of several networks the baseline of the corruption errors, as far as alignments are the same."""
    found = [
        (entrant, name, measured.robustness)
        for entrant in entrants
        for name, measured in entrant.measured.items()
        if measured.robustness and name.split("[")[0] == protocol
    ]
    for entrant, name, robustness in found if len(found) > 1 else []:
        first, first_name, base = found[0]
        if (name, robustness.clean.alignment) == (first_name, base.clean.alignment):
            against = dataclasses.replace(robustness, baseline=Baseline(first.name, base.dee))
            entrant.measured[name] = entrant.measured[name]._replace(robustness=against)
            distributed.on_first(partial(write_bars, against, entrant.folder / PICTURES))


def _write_own(entrant: Entrant, origin: str) -> None:
    """The usual report of one entrant."""
    open_output(entrant.folder, overwrite=True)
    measured = entrant.measured
    results = [one.result for one in measured.values()]
    robustness = {name: one.robustness for name, one in measured.items() if one.robustness}
    parts = results, entrant.facts, origin, versions(), entrant.panels, robustness
    distributed.on_first(lambda: write_report(entrant.folder, *parts))

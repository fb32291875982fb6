"""One evaluation from the flags to the report."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from robustdepth.errors import UserError, nearest
from robustdepth.evaluation.alignment import check_alignment
from robustdepth.evaluation.baselines import find_median_map
from robustdepth.evaluation.evaluator import evaluate
from robustdepth.evaluation.odometry import ODOMETRY, evaluate_odometry, open_sequence
from robustdepth.evaluation.pictures import write_panels
from robustdepth.evaluation.predictors import ForeignPredictor, NetworkPredictor
from robustdepth.evaluation.protocols import PROTOCOLS, Protocol, get_protocol
from robustdepth.evaluation.report import open_output, summary, write_report
from robustdepth.evaluation.result import Result
from robustdepth.evaluation.samples import Samples, protocol_samples
from robustdepth.runtime.inference import load_model
from robustdepth.runtime.workdir import versions


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line decides, beside the model and the output folder."""

    protocols: Sequence[str]
    data_root: str = ""
    split: str = ""
    drives: Sequence[str] = ()
    sequence: str = ""  # odometry sequence
    alignment: str = ""  # overrides the protocols' own
    flip: bool = False
    batch_size: int = 16
    predictions: str = ""
    predictions_kind: str = "depth"
    train_median: str = ""

    def __post_init__(self):
        known = (*PROTOCOLS, ODOMETRY)
        if not self.protocols:
            raise UserError(f"--protocols is empty: {nearest('', known)}")
        for name in self.protocols:
            if name not in known:
                raise UserError(f"unknown protocol {name!r}: {nearest(name, known)}")
        if self.predictions and ODOMETRY in self.protocols:
            raise UserError("protocol odometry needs a model: give --workdir or --checkpoint.")
        if self.alignment:
            check_alignment(self.alignment)
        if self.batch_size < 1:
            raise UserError(f"--batch_size={self.batch_size} must be 1 or more.")


def run_evaluation(model_path: str, output: str, options: Options, overwrite: bool = False) -> list[Result]:
    """Evaluates a model, or foreign predictions where `options` names some, and writes the report.

    Raises UserError for anything the user can mend; no report is written then.
    """
    if bool(model_path) == bool(options.predictions):
        raise UserError("give either --workdir or --checkpoint (a model), or --predictions (files), and only one.")
    folder = open_output(output, overwrite)
    return evaluate_model(load_model(model_path) if model_path else None, folder, options)


def evaluate_model(model: Any | None, folder: pathlib.Path, options: Options) -> list[Result]:
    """All protocols of `options` on a model (foreign predictions where None); writes and prints the report."""
    # Opened first: what is missing is said before anything is computed.
    protocols = [get_protocol(name) for name in options.protocols if name != ODOMETRY]
    work = [(protocol, _open_samples(protocol, model, options)) for protocol in protocols]
    sequence = open_sequence(options.data_root, options.sequence) if ODOMETRY in options.protocols else None
    results, panels, origin = [], {}, "not used"
    describe: dict[str, Any] = {}
    if work:
        median_map, origin = find_median_map(options.train_median, model)
        network = NetworkPredictor(model, options.batch_size, options.flip) if model else None
    for protocol, samples in work:
        predictor = network or ForeignPredictor(
            options.predictions, options.predictions_kind, len(samples), samples[0].name
        )
        result = evaluate(protocol, samples, predictor, median_map, alignment=options.alignment)
        panels[result.name] = write_panels(result, protocol, samples, predictor, folder / "pictures")
        results.append(result)
        describe = predictor.describe()
    if sequence and model:
        results.append(evaluate_odometry(model, sequence))
        describe = describe or {"path": str(model.path), "step": int(model.step), "name": model.config.name}
    write_report(folder, results, describe, origin, versions(), panels)
    print("\n\n".join(summary(result) for result in results) + f"\n\nreport: {folder / 'report.md'}")
    return results


def _open_samples(protocol: Protocol, model: Any | None, options: Options) -> Samples:
    size = model.image_size if model else None
    return protocol_samples(
        protocol, data_root=options.data_root, split=options.split, drives=options.drives, size=size
    )

"""One evaluation from the flags to the report."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from robustdepth.conditions.corruptions.benchmark import SEVERITIES, check_corruptions, check_severities, check_size
from robustdepth.conditions.spec import parse
from robustdepth.data.benchmarks.protocol import OTHER_PROTOCOLS
from robustdepth.errors import UserError, nearest
from robustdepth.evaluation.alignment import check_alignment
from robustdepth.evaluation.baselines import find_median_map
from robustdepth.evaluation.evaluator import evaluate
from robustdepth.evaluation.pictures import write_bars, write_panels
from robustdepth.evaluation.predictors import ForeignPredictor, NetworkPredictor, Predictor, map_size
from robustdepth.evaluation.protocols import PROTOCOLS, Protocol, resolve_alignment
from robustdepth.evaluation.report import open_output, robustness_summary, summary, write_report
from robustdepth.evaluation.result import Result
from robustdepth.evaluation.robustness.corruptions import Baseline, Robustness, evaluate_corruptions, find_baseline
from robustdepth.evaluation.robustness.weather import WeatherSamples, under_weather
from robustdepth.evaluation.samples import Samples, first_name, protocol_samples
from robustdepth.evaluation.tasks.masks import MASKS, check_selective, evaluate_masks
from robustdepth.evaluation.tasks.odometry import ODOMETRY, evaluate_odometry, open_sequence
from robustdepth.evaluation.tasks.odometry import Sequence as OdometrySequence
from robustdepth.evaluation.tasks.segmentation import WORLD, evaluate_segmentation
from robustdepth.evaluation.tasks.stereo import STEREO_PROTOCOL, evaluate_stereo
from robustdepth.evaluation.video.protocols import VIDEO_PROTOCOLS, VideoSet, evaluate_videos, open_videos
from robustdepth.runtime import distributed
from robustdepth.runtime.bundle import read_model, task_of
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
    weather: str = ""  # conditions that the frames are seen under; none: as they are
    corruptions: Sequence[str] = ()  # names, or "all"; none: clean images only
    severities: Sequence[int | str] = SEVERITIES
    corruption_size: Sequence[int | str] = ()  # height and width at which images are corrupted; none: their own
    baseline_report: str = ""  # what mCE is set against

    def __post_init__(self):
        known = (*PROTOCOLS, *OTHER_PROTOCOLS)
        if not self.protocols:
            raise UserError("--protocols is empty: give world, kitti_eigen or others of docs/evaluation.md.")
        for name in self.protocols:
            if name not in known:
                raise UserError(f"unknown protocol {name!r}: {nearest(name, known)}")
        if self.predictions and ODOMETRY in self.protocols:
            raise UserError("protocol odometry needs a model: give --workdir or --checkpoint.")
        if self.alignment:
            check_alignment(self.alignment)
        if self.batch_size < 1:
            raise UserError(f"--batch_size={self.batch_size} must be 1 or more.")
        if self.weather:
            parse(self.weather)
            if self.predictions or set(self.protocols) & {ODOMETRY, *VIDEO_PROTOCOLS}:
                raise UserError("--weather needs a model and protocols of depth in images: leave the others out.")
        if self.corruptions:
            check_corruptions(self.corruptions)
            check_severities(self.severities)
            check_size(self.corruption_size)
            if self.predictions:
                raise UserError("--corruptions needs a model to show corrupted images to: leave --predictions out.")
            if set(self.protocols) <= {ODOMETRY, *VIDEO_PROTOCOLS}:
                raise UserError(f"--corruptions needs a protocol of depth in images, not {self.protocols[0]}: add one.")
        elif self.baseline_report or self.corruption_size:
            raise UserError("--baseline_report and --corruption_size are for corruptions: add --corruptions=all.")


def run_evaluation(model_path: str, output: str, options: Options, overwrite: bool = False) -> list[Result]:
    """Evaluates a model, or foreign predictions where `options` names some, and writes the report.

    The results are those of depth: segmentation and stereo networks and masks have reports of their own.

    Raises UserError for anything the user can mend; no report is written then.
    """
    if bool(model_path) == bool(options.predictions):
        raise UserError("give either --workdir or --checkpoint (a model), or --predictions (files), and only one.")
    task = distributed.together(lambda: task_of(model_path)) if model_path else "depth"
    if task in OTHER_TASKS:
        check_for_task(task, options)
        folder = open_output(output, overwrite)
        if task == "segmentation":
            evaluate_segmentation(open_same(read_model, model_path), folder, options.batch_size)
        else:
            evaluate_stereo(model_path, folder, options.data_root, options.drives, options.batch_size)
        return []
    if MASKS in options.protocols:
        if not model_path:
            raise UserError(f"protocol {MASKS} needs a model: give --workdir or --checkpoint.")
        check_for_task("selective", options)
        model = open_same(load_model, model_path)
        check_selective(model)
        evaluate_masks(model, open_output(output, overwrite), options.batch_size)
        return []
    folder = open_output(output, overwrite)
    return evaluate_model(open_same(load_model, model_path) if model_path else None, folder, options)


def open_same(read: Callable[[str], Any], path: str) -> Any:
    """A model that all processes have read. Raises UserError, also where they have found different checkpoints."""
    model = distributed.together(lambda: read(path))
    distributed.check_same_step(int(model.step))
    return model


# What is evaluated by itself, tasks other than depth and the masks of selective distillation: the protocol, what it
# is evaluated on, and the options that say so.
OTHER_TASKS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "segmentation": (WORLD, "unseen worlds alone", ()),
    "selective": (MASKS, "unseen worlds alone", ()),
    "stereo": (STEREO_PROTOCOL, "unseen worlds, or pairs that --data_root and --drives name", ("data_root", "drives")),
}


def check_for_task(task: str, options: Options) -> None:
    """Raises UserError for options that mean nothing for what is evaluated by itself."""
    protocol, subject, allowed = OTHER_TASKS[task]
    allowed += ("protocols", "batch_size", "severities", "predictions_kind")  # these have values by default
    given = [field.name for field in dataclasses.fields(Options) if field.name not in allowed]
    if refused := [f"--{name}" for name in given if getattr(options, name)]:
        raise UserError(f"a {task} network is evaluated on {subject}: leave {', '.join(refused)} out.")
    if list(options.protocols) != [protocol]:
        raise UserError(f"a {task} network has --protocols={protocol} alone, not {','.join(options.protocols)}.")
    if options.drives and not options.data_root:
        raise UserError("--drives names drives or pairs of --data_root: give that as well.")


class Opened(NamedTuple):
    """All that a model or foreign predictions are evaluated on."""

    work: list[tuple[Protocol, Samples]]
    sequence: OdometrySequence | None
    videos: list[VideoSet]
    network: NetworkPredictor | None
    foreign: dict[str, ForeignPredictor]  # by protocol, where there is no network
    baselines: dict[str, Baseline]  # by protocol, where there are corruptions
    median_map: Float[np.ndarray, "height width"]  # one pixel, where neither frames nor videos are evaluated
    origin: str  # of the median map


def open_all(model: Any | None, options: Options) -> Opened:
    """Opens everything before anything is computed: what is missing is said at once. Raises UserError."""
    if STEREO_PROTOCOL in options.protocols:
        raise UserError("protocol stereo needs a stereo network: give the checkpoint of one that was trained as such.")
    protocols = [PROTOCOLS.find(name) for name in options.protocols if name not in (ODOMETRY, *VIDEO_PROTOCOLS)]
    work = [open_frames(protocol, model, options) for protocol in protocols]
    sequence = open_sequence(options.data_root, options.sequence) if ODOMETRY in options.protocols else None
    videos = [
        open_videos(
            name,
            data_root=options.data_root,
            sequence=options.sequence,
            clips=options.drives,
            size=model.image_size if model else None,
        )
        for name in options.protocols
        if name in VIDEO_PROTOCOLS
    ]
    given = [] if model else work  # predictions from files
    foreign = {protocol.name: _foreign(options, len(samples), first_name(samples)) for protocol, samples in given}
    foreign |= {opened.protocol: _foreign(options, opened.frames, opened.first_name) for opened in videos if not model}
    median_map, origin = np.ones((1, 1), np.float32), "not used"
    if work or videos:
        median_map, origin = find_median_map(options.train_median, model)
    network = NetworkPredictor(model, options.batch_size, options.flip) if model and (work or videos) else None
    baselines = find_baselines(work, network, options) if network and options.corruptions else {}
    return Opened(work, sequence, videos, network, foreign, baselines, median_map, origin)


def evaluate_model(model: Any | None, folder: pathlib.Path, options: Options) -> list[Result]:
    """All protocols of `options` on a model (foreign predictions where None); writes and prints the report.

    In a job of several processes all of them evaluate, and process 0 writes; all return the same.
    """
    opened = distributed.together(lambda: open_all(model, options))
    results, panels = [], {}
    robustness: dict[str, Robustness] = {}
    describe: dict[str, Any] = {}
    for protocol, samples in opened.work:
        predictor = opened.network or opened.foreign[protocol.name]
        pictures, baseline = folder / "pictures", opened.baselines.get(protocol.name)
        measured = measure(protocol, samples, predictor, opened.median_map, options, pictures, baseline)
        results.append(measured.result)
        panels[measured.result.name] = measured.panels
        if measured.robustness:
            robustness[measured.result.name] = measured.robustness
        describe = predictor.describe()
    for videos in opened.videos:
        predictor = opened.network or opened.foreign[videos.protocol]
        results.append(evaluate_videos(videos, predictor, opened.median_map, alignment=options.alignment))
        describe = predictor.describe()
    if opened.sequence and model:
        results.append(evaluate_odometry(model, opened.sequence))
        describe = describe or {"path": str(model.path), "step": int(model.step), "name": model.config.name}
    parts = describe, opened.origin, versions(), panels, robustness
    distributed.on_first(lambda: write_report(folder, results, *parts))
    said = [*map(summary, results), *map(robustness_summary, robustness.values())]
    print("\n\n".join(said) + f"\n\nreport: {folder / 'report.md'}")
    return results


class Measured(NamedTuple):
    """What one protocol gave: numbers, pictures as (caption, file), and what corruptions do to the numbers."""

    result: Result
    panels: list[tuple[str, str]]
    robustness: Robustness | None


def measure(
    protocol: Protocol,
    samples: Samples,
    predictor: Predictor,
    median_map: Float[np.ndarray, "height width"],
    options: Options,
    pictures: pathlib.Path,
    baseline: Baseline | None,
) -> Measured:
    """Evaluates one protocol; under corruptions too where their `baseline` is given. Process 0 draws pictures."""
    result = evaluate(protocol, samples, predictor, median_map, alignment=options.alignment)
    panels = distributed.on_first(lambda: write_panels(result, protocol, samples, predictor, pictures)) or []
    if baseline is None or not isinstance(predictor, NetworkPredictor):
        return Measured(result, panels, None)
    names, severities = check_corruptions(options.corruptions), check_severities(options.severities)
    size = check_size(options.corruption_size)
    robustness = evaluate_corruptions(protocol, samples, predictor, result, names, severities, baseline, size)
    distributed.on_first(lambda: write_bars(robustness, pictures))
    return Measured(result, panels, robustness)


def _foreign(options: Options, count: int, first_name: str) -> ForeignPredictor:
    return ForeignPredictor(options.predictions, options.predictions_kind, count, first_name)


def find_baselines(
    work: Sequence[tuple[Protocol, Samples]], predictor: NetworkPredictor, options: Options
) -> dict[str, Baseline]:
    """By protocol; opened before anything is computed, so that what must not be compared is said at once."""
    names, severities = check_corruptions(options.corruptions), check_severities(options.severities)
    return {
        protocol.name: find_baseline(
            options.baseline_report,
            resolve_alignment(protocol, predictor.scale, options.alignment)[1],
            len(samples),
            names,
            severities,
            check_size(options.corruption_size),
        )
        for protocol, samples in work
    }


def open_frames(protocol: Protocol, model: Any | None, options: Options) -> tuple[Protocol, Samples]:
    """A protocol with its samples, both under the weather of `options`."""
    size = model.image_size if model else map_size(options.predictions) if protocol.truth == "world" else None
    samples = protocol_samples(
        protocol, data_root=options.data_root, split=options.split, drives=options.drives, size=size
    )
    if not options.weather:
        return protocol, samples
    return under_weather(protocol, options.weather), WeatherSamples(samples, options.weather)

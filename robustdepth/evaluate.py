"""Evaluates depth under protocols: python -m robustdepth.evaluate --workdir=DIR --protocols=world --output=DIR."""

import dataclasses
import signal
from typing import Any

from absl import app, flags, logging

from robustdepth.errors import UserError
from robustdepth.paths import command_line
from robustdepth.runtime.distributed_flags import run_in_job

OTHER_FLAGS = ("workdir", "checkpoint", "output", "overwrite", "watch", "suite", "models", "splits")  # than Options has


def define_flags() -> None:
    """The flags of this command, which it defines where it runs: several commands can be imported in one process."""
    flags.DEFINE_string("workdir", "", "A training's working folder; its newest checkpoint is evaluated.")
    flags.DEFINE_string("checkpoint", "", "A working folder, or one checkpoint: WORKDIR/checkpoints/STEP.")
    flags.DEFINE_list(
        "protocols", [], "world, kitti_eigen, odometry, flicker, stereo and others of docs/evaluation.md."
    )
    flags.DEFINE_string("output", None, "Folder for report.json, report.md and pictures.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace the report that lies in the output folder.")
    flags.DEFINE_bool("watch", False, "Follow a training job: evaluate each new checkpoint until it is finished.")
    flags.DEFINE_string("data_root", "", "Folder of KITTI raw or odometry, own footage or stereo pairs.")
    flags.DEFINE_string("split", "", 'Test frames, lines "DATE/DRIVE_sync FRAME l|r".')
    flags.DEFINE_list("drives", [], "Only these drives, DATE/DRIVE_sync, clips of own footage, or stereo pairs.")
    flags.DEFINE_string("sequence", "", "Odometry sequence, for example 09.")
    flags.DEFINE_string("alignment", "", "Overrides the protocol's: none, median or least_squares.")
    flags.DEFINE_bool("flip", False, "Average with the prediction of the mirrored image (post-processing).")
    flags.DEFINE_integer("batch_size", 16, "Images per call of the network, over all devices of a process.")
    flags.DEFINE_string("predictions", "", "Predictions made elsewhere: .npy, .npz or a folder of maps.")
    flags.DEFINE_enum("predictions_kind", "depth", ["depth", "inverse_depth"], "What those predictions hold.")
    flags.DEFINE_string("weather", "", "Frames under rendered conditions: fog, rain+night(0.5-1.0).")
    flags.DEFINE_list("corruptions", [], 'Corrupted images as well: "all", or names such as fog,motion,jpeg.')
    flags.DEFINE_list("severities", ["1", "2", "3", "4", "5"], "Severities of the corruptions.")
    flags.DEFINE_list("corruption_size", [], "HEIGHT,WIDTH to corrupt at; KITTI-C: 192,640. Else full.")
    flags.DEFINE_string("baseline_report", "", "The report.json that corruption errors are set against.")
    flags.DEFINE_enum("suite", None, ["adverse"], "Every protocol whose data are given, compared in report.html.")
    flags.DEFINE_list("models", [], "For --suite, side by side: NAME=WORKDIR, =CHECKPOINT or =PREDICTIONS.")
    flags.DEFINE_list("data_roots", [], "For --suite: DATASET=FOLDER, of docs/datasets.md or kitti_raw.")
    flags.DEFINE_list("splits", [], "For --suite, lists of frames: DATASET=FILE or PROTOCOL=FILE.")
    flags.DEFINE_string("train_median", "", "The train_median.npz of the baseline, if not the model's.")


def main(argv: list[str]) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # checkpoint readers are talkative
    run_in_job(_evaluate, argv[1:])


def _evaluate() -> None:
    if flags.FLAGS.workdir and flags.FLAGS.checkpoint:
        raise UserError("--workdir and --checkpoint exclude each other: give one of them.")
    if flags.FLAGS.watch and not flags.FLAGS.workdir:
        raise UserError("--watch needs --workdir, the folder of the training job to follow.")
    not_for_suite = "watch", "data_root", "split", "sequence", "predictions", "weather"
    for name in not_for_suite if flags.FLAGS.suite else ("models", "data_roots", "splits"):
        if flags.FLAGS[name].value:
            raise UserError(
                f"--{name} goes {'not ' if flags.FLAGS.suite else 'only '}with --suite (docs/evaluation.md)."
            )
    # JAX starts only once the flags are right; those that Options knows have its fields' names.
    from robustdepth.evaluation.protocols import PROTOCOLS
    from robustdepth.evaluation.run import Options, run_evaluation
    from robustdepth.evaluation.suite.plan import make_plan, models_of, named_paths
    from robustdepth.evaluation.suite.run import run_suite
    from robustdepth.evaluation.watch import watch

    _check_same()
    values: dict[str, Any] = {field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(Options)}
    if flags.FLAGS.suite and not values["protocols"]:
        values["protocols"] = list(PROTOCOLS)
    options = Options(**values)
    model = flags.FLAGS.workdir or flags.FLAGS.checkpoint
    if flags.FLAGS.suite:
        roots, splits = named_paths("--data_roots", flags.FLAGS.data_roots), named_paths("--splits", flags.FLAGS.splits)
        plan = make_plan(roots, splits, options.protocols, options.drives)
        run_suite(models_of(flags.FLAGS.models, model), plan, flags.FLAGS.output, options, flags.FLAGS.overwrite)
    elif flags.FLAGS.watch:
        watch(flags.FLAGS.workdir, flags.FLAGS.output, options)
    else:
        run_evaluation(model, flags.FLAGS.output, options, flags.FLAGS.overwrite)


def _check_same() -> None:
    """Raises UserError on all processes of a job where they were started with different flags."""
    import jax

    from robustdepth.evaluation.run import Options
    from robustdepth.runtime import distributed

    if jax.process_count() > 1:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends the process; JAX would hold it back, for checkpoints
    of_one_host = {"data_root", "data_roots"}  # folders may differ between hosts
    names = {field.name for field in dataclasses.fields(Options)} | set(OTHER_FLAGS)
    distributed.check_same({f"--{name}": flags.FLAGS[name].value for name in names - of_one_host})


if __name__ == "__main__":
    define_flags()
    app.run(main, argv=command_line())

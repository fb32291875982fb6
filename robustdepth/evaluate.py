"""Evaluates depth under protocols: python -m robustdepth.evaluate --workdir=DIR --protocols=world --output=DIR."""

from absl import app, flags, logging

from robustdepth.errors import UserError, run_main

_WORKDIR = flags.DEFINE_string("workdir", "", "A training's working folder; its newest checkpoint is evaluated.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "", "A working folder, or one checkpoint: WORKDIR/checkpoints/STEP.")
_PROTOCOLS = flags.DEFINE_list(
    "protocols", [], "world, kitti_eigen, kitti_eigen_improved, kitti_sparse_frames, odometry; see docs/evaluation.md."
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for report.json, report.md and pictures.", required=True)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the report that lies in the output folder.")
_WATCH = flags.DEFINE_bool("watch", False, "Follow a training job: evaluate each new checkpoint until it is finished.")
_DATA_ROOT = flags.DEFINE_string("data_root", "", "Folder of the KITTI raw (or odometry) recordings.")
_SPLIT = flags.DEFINE_string("split", "", 'Test frames, lines "DATE/DRIVE_sync FRAME l|r".')
_DRIVES = flags.DEFINE_list("drives", [], "Only these drives, DATE/DRIVE_sync.")
_SEQUENCE = flags.DEFINE_string("sequence", "", "Odometry sequence, for example 09.")
_ALIGNMENT = flags.DEFINE_string("alignment", "", "Overrides the protocol's: none, median or least_squares.")
_FLIP = flags.DEFINE_bool("flip", False, "Average with the prediction of the mirrored image (post-processing).")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Images per call of the network, over all devices.")
_PREDICTIONS = flags.DEFINE_string("predictions", "", "Predictions made elsewhere: .npy, .npz or a folder of maps.")
_KIND = flags.DEFINE_enum("predictions_kind", "depth", ["depth", "inverse_depth"], "What those predictions hold.")
_TRAIN_MEDIAN = flags.DEFINE_string("train_median", "", "The train_median.npz of the baseline, if not the model's.")


def main(_) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # checkpoint readers are talkative
    run_main(_evaluate)


def _evaluate() -> None:
    if _WORKDIR.value and _CHECKPOINT.value:
        raise UserError("--workdir and --checkpoint exclude each other: give one of them.")
    if _WATCH.value and not _WORKDIR.value:
        raise UserError("--watch needs --workdir, the folder of the training job to follow.")
    # JAX starts only once the flags are right.
    from robustdepth.evaluation.run import Options, run_evaluation
    from robustdepth.evaluation.watch import watch

    options = Options(
        protocols=_PROTOCOLS.value,
        data_root=_DATA_ROOT.value,
        split=_SPLIT.value,
        drives=_DRIVES.value,
        sequence=_SEQUENCE.value,
        alignment=_ALIGNMENT.value,
        flip=_FLIP.value,
        batch_size=_BATCH_SIZE.value,
        predictions=_PREDICTIONS.value,
        predictions_kind=_KIND.value,
        train_median=_TRAIN_MEDIAN.value,
    )
    if _WATCH.value:
        watch(_WORKDIR.value, _OUTPUT.value, options)
    else:
        run_evaluation(_WORKDIR.value or _CHECKPOINT.value, _OUTPUT.value, options, _OVERWRITE.value)


if __name__ == "__main__":
    app.run(main)

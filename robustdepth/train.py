"""Trains an experiment: python -m robustdepth.train --config=configs/NAME.py --workdir=DIR [--config.key=value]."""

import re
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from robustdepth.errors import blame, run_main
from robustdepth.paths import command_line
from robustdepth.runtime.distributed_flags import run_in_job
from robustdepth.runtime.experiments import as_config, find_experiment, provide_configs


def define_flags() -> None:
    """The flags of this command, which it defines where it runs: several commands can be imported in one process."""
    config_flags.DEFINE_config_file("config", None, "Experiment, by name or as a file; --config.key=value sets a key.")
    flags.DEFINE_string("workdir", "", "Folder of this run; started again, it goes on.")
    flags.DEFINE_string(
        "dry_run",
        "",
        "Train nothing: compile the step for here, cpu:N or a TPU topology (v5e:2x4), and print what it needs.",
    )
    flags.DEFINE_string("profile_steps", "", "FIRST:LAST, steps to profile into WORKDIR/profile.")
    flags.DEFINE_list(
        "change",
        [],
        "What this run may change although it has begun: optimizer.steps (or optimizer.epochs), batch_size.",
    )
    flags.mark_flag_as_required("config")
    flags.register_multi_flags_validator(
        ["workdir", "dry_run"],
        lambda given: bool(given["workdir"] or given["dry_run"]),
        "Flag --workdir must name the folder of the run.",
    )


def main(argv: list[str]) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # checkpoint writers are talkative
    if flags.FLAGS.dry_run:
        run_main(_dry_run, argv[1:])
    else:
        run_in_job(_train, argv[1:])


def _train() -> None:
    from robustdepth.evaluation.validation import open_validation  # JAX starts only once the flags are right
    from robustdepth.training.loop import train

    values = flags.FLAGS.config, flags.FLAGS.workdir, flags.FLAGS.profile_steps, flags.FLAGS.change
    train(*values, open_validation)


def _dry_run() -> None:
    from robustdepth.compiling.dry_run import dry_run

    dry_run(flags.FLAGS.config, flags.FLAGS.dry_run)


def parse_flags(argv: list[str]) -> list[str]:
    """As absl does; whatever is wrong with the flags or in the config file ends with a sentence."""
    path = colon = row = ""
    try:
        argv = _joined(argv)
        argv = [f"--config={find_experiment(word.partition('=')[2])}" if _names_config(word) else word for word in argv]
        given = [word.partition("=")[2] for word in argv if _names_config(word)]
        path, colon, row = given[-1].partition(":") if given else ("", "", "")
        provide_configs()
        rest = flags.FLAGS(argv)
        if given:
            getattr(flags.FLAGS.config, "lock", None)  # raises what has kept the file from being read
            as_config(flags.FLAGS.config, path)
        return rest
    except (Exception, SystemExit) as error:  # whatever a config file raises
        if (sentence := blame(error, path)) is None:
            if isinstance(error, SystemExit):  # of --help
                raise
            sentence = _unblamed(error, path)
        if colon and sentence.endswith(f"KeyError: {row!r}"):
            sentence = f"{path} has no row {row!r}: its ROWS have the names."
        if colon and "get_config() takes 0 positional arguments" in sentence:
            sentence = f"{path} has no rows: leave :{row} out."
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(2)


def _joined(argv: list[str]) -> list[str]:
    """Makes one word of "--config FILE"."""
    words = list(argv)
    for i in [i for i, word in enumerate(argv[:-1]) if word in ("--config", "-config")][::-1]:
        words[i : i + 2] = [f"--config={argv[i + 1]}"]
    return words


def _names_config(word: str) -> bool:
    return bool(re.match("--?config=", word))


def _unblamed(error: BaseException, path: str) -> str:
    """What is wrong, where no line of the config file is to blame."""
    if "no attribute 'get_config'" in str(error):
        return f"{path} has no get_config(): it is no experiment, such as those in configs/."
    if path and "--config=None" in str(error):
        return f"{path}: get_config() returns nothing; it must return what base.get_config() gave it, changed."
    if isinstance(error, SyntaxError) or "Traceback (most recent call last)" in str(error):
        return f"config file {path} cannot be run: {str(error).strip().splitlines()[-1]}"
    if isinstance(error, AttributeError | KeyError):
        text, *hint = re.sub(r"[\\'\"]", "", str(error).replace("\\n", "\n")).splitlines()
        return f"the config has no key {text}. {' '.join(hint) or 'configs/base.py lists all keys.'}"
    return " ".join(str(error).split())


if __name__ == "__main__":
    define_flags()
    app.run(main, argv=command_line(), flags_parser=parse_flags)

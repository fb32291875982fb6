"""Trains and evaluates the rows of a family: python -m robustdepth.ablate --family=configs/NAME.py --output=DIR."""

from functools import partial
from typing import Any

from absl import app, flags, logging

from robustdepth.errors import UserError, run_main
from robustdepth.paths import command_line
from robustdepth.runtime.compilation_cache import keep_compiled

FOR_EVALUATION = ("protocols", "corruptions", "severities", "alignment", "data_root", "split", "batch_size")


def define_flags() -> None:
    """The flags of this command, which it defines where it runs: several commands can be imported in one process."""
    flags.DEFINE_string("family", None, "A config, by name or as a file, with ROWS and get_config(row).", required=True)
    flags.DEFINE_list("rows", [], "Rows to train; the first one is what the others are set against. Empty: all.")
    flags.DEFINE_list("seeds", ["0"], "Trainings of every row, for the spread of its numbers.")
    flags.DEFINE_string("output", None, "Folder for ROW/seed_S and the table; goes on there.", required=True)
    flags.DEFINE_multi_string("set", [], "KEY=VALUE in the config of every row; may be given several times.")
    flags.DEFINE_list("weather", ["fog", "rain", "snow", "night"], "One evaluation under each of these.")
    flags.DEFINE_list("protocols", ["world"], "Of depth in images, see docs/evaluation.md.")
    flags.DEFINE_list("corruptions", ["all"], "Corruptions to evaluate under; empty: none.")
    flags.DEFINE_list("severities", ["1", "2", "3", "4", "5"], "Severities of the corruptions.")
    flags.DEFINE_string("alignment", "", "Overrides the protocols' own: none (metres), median or least_squares.")
    flags.DEFINE_string("data_root", "", "Folder of the recordings that the protocols need.")
    flags.DEFINE_string("split", "", "Test frames, for protocols that need the list.")
    flags.DEFINE_integer("batch_size", 16, "Images per call of the network in evaluations.")


def main(argv: list[str]) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # checkpoint writers are talkative
    run_main(_ablate, argv[1:])


def _ablate() -> None:
    if wrong := [seed for seed in flags.FLAGS.seeds if not seed.isdecimal()]:
        raise UserError(f"--seeds has {wrong[0]!r}: seeds are whole numbers, such as 0,1,2.")
    seeds = tuple(dict.fromkeys(int(seed) for seed in flags.FLAGS.seeds))
    if not seeds:
        raise UserError("--seeds is empty: give at least one, such as 0.")
    keep_compiled()
    # JAX starts only once the flags are right.
    from robustdepth.evaluation.ablation import plan_evaluations, run_ablation
    from robustdepth.evaluation.run import Options
    from robustdepth.evaluation.validation import open_validation
    from robustdepth.runtime.family import choose_rows, configs_of, load_family
    from robustdepth.training.loop import train

    values: dict[str, Any] = {name: flags.FLAGS[name].value for name in FOR_EVALUATION}
    evaluations = plan_evaluations(Options(**values), flags.FLAGS.weather)
    family = load_family(flags.FLAGS.family)
    configs = configs_of(family, choose_rows(family, flags.FLAGS.rows), seeds, flags.FLAGS.set)
    run_ablation(
        flags.FLAGS.output, configs, evaluations, flags.FLAGS.set, partial(train, open_validation=open_validation)
    )


if __name__ == "__main__":
    define_flags()
    app.run(main, argv=command_line())

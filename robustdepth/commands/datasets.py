"""The sub-commands of `robustdepth.prepare` for public evaluation datasets: their arguments, and what they do."""

import argparse
from typing import Any

from robustdepth.data.benchmarks.datasets import DATASETS, check_dataset, dataset_of
from robustdepth.data.benchmarks.packed import pack_condition
from robustdepth.errors import UserError


def add_dataset_commands(commands: Any) -> None:
    """Adds `check_dataset` and `evaluation` to argparse's sub-commands; `arguments.run(arguments)` runs them."""
    checking = commands.add_parser("check_dataset", help="say what of a public dataset is there, and what is missing")
    checking.add_argument("name", choices=DATASETS, help="the dataset")
    checking.add_argument("--read_all", action="store_true", help="read every frame, not the first and last only")
    checking.set_defaults(run=_check)
    packing = commands.add_parser("evaluation", help="pack the evaluation images of a public dataset")
    packing.add_argument("name", help="the condition, named as its protocol: drivingstereo_rainy")
    packing.add_argument("--output", required=True, help="folder for the packed images")
    packing.add_argument("--beam_pipeline_options", default="", help="use Apache Beam: runner=DirectRunner,...")
    packing.set_defaults(run=_pack)
    for parser in (checking, packing):
        parser.add_argument("--root", required=True, help="the dataset's folder")
        parser.add_argument("--split", default="", help="the frames, for conditions that are published as a list")


def _check(arguments: argparse.Namespace) -> None:
    report = check_dataset(arguments.name, arguments.root, arguments.split, arguments.read_all)
    print(*report.lines, sep="\n")
    if report.faults:
        raise UserError(f"{arguments.name} is not complete under {arguments.root}: {', '.join(report.faults)}.")


def _pack(arguments: argparse.Namespace) -> None:
    dataset_of(arguments.name)  # misspelt names are told before anything is imported
    print(
        pack_condition(
            arguments.name, arguments.root, arguments.output, arguments.split, arguments.beam_pipeline_options
        )
    )

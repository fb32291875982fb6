"""An ablation: every row of a family trained with every seed, evaluated clear, corrupted and in weather; one table.

Everything is in DIR/ROW/seed_S. Finished parts are not repeated, so the same command continues after a kill.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from robustdepth.conditions.corruptions.benchmark import check_corruptions, check_severities
from robustdepth.errors import UserError
from robustdepth.evaluation.protocols import PROTOCOLS
from robustdepth.evaluation.report import REPORT
from robustdepth.evaluation.run import Options, run_evaluation
from robustdepth.runtime import config as configs
from robustdepth.runtime.workdir import FINISHED_FILE, versions

CLEAN = "clean"  # with the corruptions; the other evaluations have the names of their weather
OPTIONS_FILE = "options.json"
KINDS = ("clean", "corrupted", "weather")
Train = Callable[[ConfigDict, pathlib.Path], bool]  # whether to go on; see `training.loop.train`
Scores = dict[str, Any]  # AbsRel of one training under one protocol, see `scores_of`


class Spread(NamedTuple):
    """A number over trainings that differ in their seed."""

    mean: float
    std: float | None  # of the sample (divided by n - 1); None for a single one
    n: int


def plan_evaluations(options: Options, weather: Sequence[str]) -> dict[str, Options]:
    """The evaluations of one training by name: "clean" with the corruptions of `options`, and one for each weather.

    Raises:
      UserError: a protocol that has no AbsRel of single images, or a weather that cannot be read.
    """
    for name in options.protocols:
        if name not in PROTOCOLS:
            raise UserError(f"an ablation compares depth in images: leave --protocols={name} out.")
    clear = dataclasses.replace(options, corruptions=())
    return {CLEAN: options} | {spec: dataclasses.replace(clear, weather=spec) for spec in weather}


def run_ablation(
    output: str,
    experiments: Mapping[tuple[str, int], ConfigDict],
    evaluations: Mapping[str, Options],
    overrides: Sequence[str],
    train: Train,
) -> None:
    """Trains and evaluates what is not finished in `output`; writes ablation.md and ablation.json, prints the table.

    Args:
      experiments: configs by (row, seed), in the order of the table; the first row is what the others are set against.
      evaluations: see `plan_evaluations`.
      overrides: what was changed in every config, kept with the results.
      train: trains a config in a workdir, or goes on there.

    Raises:
      UserError: the folder holds an ablation with other options or configs; whatever training and evaluation raise.
    """
    folder, options = pathlib.Path(output), _comparable(evaluations, overrides)
    _claim(folder, options)
    workdirs = {(row, seed): folder / row / f"seed_{seed}" for row, seed in experiments}
    for key, workdir in workdirs.items():  # said before anything is computed
        if (workdir / configs.CONFIG_FILE).exists():
            configs.check_same(experiments[key], workdir)
    results: dict[tuple[str, int], dict[str, Scores]] = {}
    for number, ((row, seed), workdir) in enumerate(workdirs.items(), start=1):
        print(f"\n{row}, seed {seed}: {number} of {len(workdirs)}", flush=True)
        if not (workdir / FINISHED_FILE).exists() and not train(experiments[row, seed], workdir):
            print("the ablation goes on there when the same command is given again")
            return
        reports = {name: _evaluated(workdir, name, wanted) for name, wanted in evaluations.items()}
        results[row, seed] = scores_of(reports)
        _write(folder, results, options)
    print(f"\n{(folder / 'ablation.md').read_text()}\ntable: {folder / 'ablation.md'}")


def _comparable(evaluations: Mapping[str, Options], overrides: Sequence[str]) -> dict[str, Any]:
    """What must be equal in every row and call."""
    options = evaluations[CLEAN]
    return {
        "protocols": list(options.protocols),
        "corruptions": list(check_corruptions(options.corruptions)) if options.corruptions else [],
        "severities": list(check_severities(options.severities)),
        "weather": [name for name in evaluations if name != CLEAN],
        "split": options.split,
        "alignment": options.alignment,
        "set": list(overrides),
    }


def _claim(folder: pathlib.Path, options: dict[str, Any]) -> None:
    """Creates the folder, or checks that it belongs to an ablation with the same options."""
    path = folder / OPTIONS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(json.dumps(options, indent=1) + "\n")
        there = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot write in {folder} ({error.strerror}): choose another --output.") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): choose another --output.") from None
    for key, value in options.items():
        found = there.get(key, type(value)())  # older folders do not hold every option
        if found != value:
            raise UserError(
                f"{folder} holds an ablation with --{key}={_listed(found)}, this is with "
                f"{_listed(value)}: choose another --output."
            )


def _listed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _evaluated(workdir: pathlib.Path, name: str, options: Options) -> dict[str, Any]:
    """The report of one evaluation, which is made unless it lies there whole."""
    folder = workdir / "evaluation" / re.sub(r"[^\w.+-]", "_", name)
    try:
        return json.loads((folder / REPORT).read_text())
    except (FileNotFoundError, json.JSONDecodeError):  # cut short by a kill
        run_evaluation(str(workdir), str(folder), options, overwrite=True)
    return json.loads((folder / REPORT).read_text())


def scores_of(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Scores]:
    """AbsRel by protocol from the reports of one training's evaluations.

    Returns:
      For each protocol "clean"; "corrupted", the mean over corruptions and severities; "weather", the mean over the
      conditions; None for what was not measured; both in parts in "by_corruption" and "by_weather"; and "baseline", the
      better trivial one's on clear images.
    """
    scores = {}
    for name, result in reports[CLEAN]["protocols"].items():
        corruptions = result.get("corruptions", {}).get("by_corruption", {})
        by_corruption = {corruption: entry["abs_rel"] for corruption, entry in corruptions.items()}
        by_weather = {
            spec: report["protocols"][in_weather(name, spec)]["metrics"]["abs_rel"]
            for spec, report in reports.items()
            if spec != CLEAN
        }
        scores[name] = {
            "clean": result["metrics"]["abs_rel"],
            "corrupted": _mean(by_corruption),
            "weather": _mean(by_weather),
            "by_corruption": by_corruption,
            "by_weather": by_weather,
            "baseline": min(row["abs_rel"] for row in result["baselines"].values()),
        }
    return scores


def in_weather(name: str, spec: str) -> str:
    """The name under which a protocol's result in this weather is reported: before an alignment of its own."""
    protocol, bracket, alignment = name.partition("[")
    return f"{protocol}[{spec}]{bracket}{alignment}"


def _mean(values: Mapping[str, float]) -> float | None:
    return float(np.mean(list(values.values()))) if values else None


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), std, len(values))


def summarise(results: Mapping[tuple[str, int], Mapping[str, Scores]], protocol: str) -> dict[str, dict[str, Any]]:
    """By row, in order: what was measured of "clean", "corrupted" and "weather", each with mean, std, n and ratio.

    The ratio is that of the row's mean to the first row's; below 1 is better.
    """
    rows: dict[str, dict[str, Any]] = {}
    for row in dict.fromkeys(row for row, _ in results):
        seeds = {seed: scores[protocol] for (name, seed), scores in results.items() if name == row}
        kinds = [kind for kind in KINDS if all(scores[kind] is not None for scores in seeds.values())]
        rows[row] = {kind: spread([scores[kind] for scores in seeds.values()])._asdict() for kind in kinds}
        for kind, entry in rows[row].items():
            entry["ratio"] = entry["mean"] / rows[next(iter(rows))][kind]["mean"]
    return rows


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """`summarise`'s rows as a Markdown table, which reads well on a console too."""
    kinds = list(next(iter(rows.values())))
    cells = [["", "n", *[title for kind in kinds for title in (f"{kind} AbsRel", "ratio")]]]
    for row, entries in rows.items():
        line = [row, str(entries[kinds[0]]["n"])]
        for kind in kinds:
            entry = entries[kind]
            deviation = "" if entry["std"] is None else f" ± {entry['std']:.4f}"
            line += [f"{entry['mean']:.4f}{deviation}", f"{entry['ratio']:.3f}"]
        cells.append(line)
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _write(folder: pathlib.Path, results: Mapping[tuple[str, int], Mapping[str, Scores]], options: dict) -> None:
    protocols = list(next(iter(results.values())))
    content: dict[str, Any] = {"options": options, "versions": versions(), "protocols": {}}
    parts = ["# Ablation", "; ".join(f"{key}: {_listed(value)}" for key, value in options.items() if value)]
    for protocol in protocols:
        rows = summarise(results, protocol)
        baseline = float(np.mean([scores[protocol]["baseline"] for scores in results.values()]))
        seeds = [{"row": row, "seed": seed, **scores[protocol]} for (row, seed), scores in results.items()]
        content["protocols"][protocol] = {"rows": rows, "baseline": baseline, "trainings": seeds}
        parts += [
            f"## {protocol}",
            table(rows),
            f"Mean and sample standard deviation over n seeds; ratio to {next(iter(rows))}, below 1 is better. "
            f"The better trivial baseline, which looks at no image, has {baseline:.4f}.",
        ]
    try:
        (folder / "ablation.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8", errors="backslashreplace")
        (folder / "ablation.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(f"cannot write the table in {folder} ({error.strerror}).") from error

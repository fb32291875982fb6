"""report.json for machines, report.md for people; one folder per evaluation, never overwritten silently."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from robustdepth.errors import UserError
from robustdepth.evaluation.result import Result

REPORT = "report.json"
Panels = Mapping[str, Sequence[tuple[str, str]]]  # result name -> (caption, file)


def open_output(folder: str | pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Creates the output folder. Raises UserError if it holds a report (unless `overwrite`) or cannot be written."""
    folder = pathlib.Path(folder)
    if (folder / REPORT).exists() and not overwrite:
        raise UserError(f"{folder} already holds a {REPORT}: choose another --output or pass --overwrite.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write in {folder} ({error.strerror}): choose another --output.") from None
    return folder


def write_report(
    folder: pathlib.Path,
    results: Sequence[Result],
    model: Mapping[str, Any],
    train_median: str,
    versions: Mapping[str, Any],
    panels: Panels,
) -> None:
    """Writes both files; `train_median` says where the baseline's map is from. Raises UserError on a full disk."""
    content = {
        "protocols": {result.name: result.as_json() for result in results},
        "model": dict(model),
        "train_median_origin": train_median,
        "versions": dict(versions),
    }
    try:
        (folder / "report.md").write_text(_markdown(results, model, train_median, panels))
        (folder / REPORT).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(f"cannot write the report in {folder} ({error.strerror}).") from error


def table(result: Result) -> str:
    """The numbers of model and baselines as a Markdown table, which reads well on a console too."""
    rows = {"model": result.metrics, **result.baselines}
    width = max(len(name) for name in rows)
    lines = [
        f"| {'':{width}} | " + " | ".join(f"{key:>8}" for key in result.metrics) + " |",
        f"|{'-' * (width + 2)}|" + "---------:|" * len(result.metrics),
    ]
    for name, metrics in rows.items():
        lines.append(f"| {name:{width}} | " + " | ".join(f"{value:8.3f}" for value in metrics.values()) + " |")
    return "\n".join(lines)


def summary(result: Result) -> str:
    """What was measured, and its numbers, for the console and for report.md."""
    headline = next(iter(result.metrics))
    side = "below" if result.below_baseline >= 0 else "ABOVE"
    return "\n".join(
        [
            f"{result.name}: {result.title}; {len(result.per_image)} images, alignment {result.alignment}",
            *[f"WARNING: {warning}" for warning in result.warnings],
            "",
            table(result),
            "",
            f"{headline} is {abs(result.below_baseline):.1%} {side} the better trivial baseline; "
            f"{result.seconds:.1f} s, {result.outside_network:.0%} of it outside the network.",
        ]
    )


def _markdown(results: Sequence[Result], model: Mapping[str, Any], train_median: str, panels: Panels) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in model.items())
    parts = ["# Evaluation", facts, f"Baseline train_median: {train_median}"]
    for result in results:
        parts += [f"## {result.name}", summary(result)]
        if result.name in panels:
            parts.append("From above: image, predicted inverse depth, relative error (blue 0, red 0.5). Best first.")
            parts += [f"{caption}\n\n![{caption}](pictures/{file})" for caption, file in panels[result.name]]
    return "\n\n".join(parts) + "\n"

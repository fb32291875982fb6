"""report.json for machines, report.md for people; one folder per evaluation, never overwritten silently."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from robustdepth.errors import UserError
from robustdepth.evaluation.pictures import bars_file
from robustdepth.evaluation.result import Metrics, Result
from robustdepth.evaluation.robustness.corruptions import Robustness
from robustdepth.runtime import distributed

REPORT = "report.json"
Panels = Mapping[str, Sequence[tuple[str, str]]]  # result name -> (caption, file)


def open_output(folder: str | pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Creates the output folder, which is that of process 0.

    Raises UserError, on every process, if it holds a report (unless `overwrite`) or cannot be written.
    """
    distributed.on_first(lambda: _open(pathlib.Path(folder), overwrite))
    return pathlib.Path(folder)


def _open(folder: pathlib.Path, overwrite: bool) -> None:
    if (folder / REPORT).exists() and not overwrite:
        raise UserError(f"{folder} already holds a {REPORT}: choose another --output or pass --overwrite.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write in {folder} ({error.strerror}): choose another --output.") from None


def write_report(
    folder: pathlib.Path,
    results: Sequence[Result],
    model: Mapping[str, Any],
    train_median: str,
    versions: Mapping[str, Any],
    panels: Panels,
    robustness: Mapping[str, Robustness] | None = None,
) -> None:
    """Writes both files; `train_median` says where the baseline's map is from, `robustness` is by result name.

    Raises UserError on a full disk.
    """
    robustness = robustness or {}
    entries = {result.name: result.as_json() for result in results}
    for name, measured in robustness.items():
        entries[name]["corruptions"] = measured.as_json()
    content = {
        "protocols": entries,
        "model": dict(model),
        "train_median_origin": train_median,
        "versions": dict(versions),
    }
    save_report(folder, content, _markdown(results, model, train_median, panels, robustness))


def save_report(folder: pathlib.Path, content: Mapping[str, Any], text: str) -> None:
    """Writes report.json and report.md. Raises UserError on a full disk."""
    try:
        (folder / "report.md").write_text(text, encoding="utf-8", errors="backslashreplace")  # of names
        (folder / REPORT).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(f"cannot write the report in {folder} ({error.strerror}).") from error


def table(result: Result) -> str:
    """The numbers of model and baselines."""
    return metric_table({"model": result.metrics, **result.baselines})


def metric_table(rows: Mapping[str, Metrics]) -> str:
    """Rows with the same metrics as a Markdown table, which reads well on a console too."""
    width, header = max(len(name) for name in rows), next(iter(rows.values()))
    lines = [
        f"| {'':{width}} | " + " | ".join(f"{key:>8}" for key in header) + " |",
        f"|{'-' * (width + 2)}|" + "---------:|" * len(header),
    ]
    for name, metrics in rows.items():
        lines.append(f"| {name:{width}} | " + " | ".join(f"{value:8.3f}" for value in metrics.values()) + " |")
    return "\n".join(lines)


def summary(result: Result) -> str:
    """What was measured, and its numbers, for the console and for report.md."""
    headline = next(iter(result.metrics))
    below = result.below_baseline
    if below is None:
        against = f"{headline} of the better trivial baseline is 0"
    else:
        against = f"{headline} is {abs(below):.1%} {'below' if below >= 0 else 'ABOVE'} the better trivial baseline"
    return "\n".join(
        [
            f"{result.name}: {result.title}; {len(result.per_image)} {result.counted}, alignment {result.alignment}",
            *[f"WARNING: {warning}" for warning in result.warnings],
            "",
            table(result),
            "",
            f"{against}; {result.seconds:.1f} s, {result.outside_network:.0%} of it outside the network.",
        ]
    )


def robustness_table(measured: Robustness) -> str:
    """One row each: means over severities, CE against the baseline, RR against clean images, AbsRel by severity."""
    entry = measured.as_json()
    header = ["abs_rel", "delta1", "DEE", "CE", "RR", *[f"abs_rel {severity}" for severity in measured.severities]]
    lines = [
        f"| {'':11} | " + " | ".join(f"{title:>9}" for title in header) + " |",
        f"|{'-' * 13}|" + "----------:|" * len(header),
    ]
    clean = measured.clean.metrics
    rows = {"clean": [clean["abs_rel"], clean["delta1"], measured.clean_dee]}
    for name, row in entry["by_corruption"].items():
        by_severity = [metrics["abs_rel"] for metrics in row["by_severity"].values()]
        rows[name] = [row["abs_rel"], row["delta1"], row["dee"], row["ce"], row["rr"], *by_severity]
    for name, values in rows.items():
        cells = [f"{value:9.1f}" if column in (3, 4) else f"{value:9.3f}" for column, value in enumerate(values)]
        cells += [" " * 9] * (len(header) - len(values))  # clean images have no CE
        lines.append(f"| {name:11} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def robustness_summary(measured: Robustness) -> str:
    """The corruptions' numbers and how to read them, for the console and for report.md."""
    dee = measured.dee
    beaten = sum(value < measured.blind_dee for value in dee.values())
    timing = measured.timing
    size = f"{measured.size[1]}x{measured.size[0]}" if measured.size else "the images' own size"
    return "\n".join(
        [
            f"{measured.clean.name} under corruptions at {size}: mCE {measured.mce:.2f} against "
            f"{measured.baseline.name}; mRR {measured.mrr:.2f}",
            *[f"WARNING: {warning}" for warning in measured.warnings],
            "",
            robustness_table(measured),
            "",
            f"The better trivial baseline has DEE {measured.blind_dee:.3f} under every corruption (and mRR 100); the "
            f"model is below it under {beaten} of {len(dee)}.",
            f"{timing.seconds:.1f} s, {timing.compile_seconds:.1f} s of it compiling; of the devices' time "
            f"{timing.corruption_share:.0%} went into corrupting, the rest into the network.",
        ]
    )


def _markdown(
    results: Sequence[Result],
    model: Mapping[str, Any],
    train_median: str,
    panels: Panels,
    robustness: Mapping[str, Robustness],
) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in model.items())
    parts = ["# Evaluation", facts, f"Baseline train_median: {train_median}"]
    for result in results:
        parts += [f"## {result.name}", summary(result)]
        if result.name in panels:
            parts.append("From above: image, predicted inverse depth, relative error (blue 0, red 0.5). Best first.")
            parts += [f"{caption}\n\n![{caption}](pictures/{file})" for caption, file in panels[result.name]]
        if result.name in robustness:
            measured = robustness[result.name]
            parts += [f"### {result.name} under corruptions", robustness_summary(measured)]
            parts.append(f"DEE of the model as bars; the marks are that of {measured.baseline.name}.")
            parts.append(f"![DEE under every corruption](pictures/{bars_file(result.name)})")
    return "\n\n".join(parts) + "\n"

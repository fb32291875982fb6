"""The recorded tables behind docs/results.md: one JSON each in docs/results/, written by the tools that measured them.

    python -m benchmarks.results add runs/x/eval/report.json --name=NAME --title=TITLE --command=COMMAND
    python -m benchmarks.results compare clear=runs/x/eval/report.json weather=runs/y/eval/report.json --name=NAME ...
    python -m benchmarks.results render

A JSON holds name, title, command, machine, git revision, note (Markdown) and rows. docs/results/topics.yaml names the
topic of each table. All three actions write the pages, the figures and the README's table anew.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import sys

from benchmarks.results_pages import FOLDER, ROOT, load, markdown, pages
from robustdepth.errors import run_main
from robustdepth.runtime.workdir import git_revision

__all__ = ["machine", "markdown", "record"]
SHOWN = ("abs_rel", "sq_rel", "rmse", "rmse_log", "delta1", "delta2", "delta3")


def machine() -> str:
    """Processor, cores and accelerators of this machine in words."""
    import jax

    kinds = {device.device_kind for device in jax.devices()}
    return f"{os.cpu_count()} cores, {platform.machine()}, {jax.device_count()} x {', '.join(sorted(kinds))}"


def record(path: str | pathlib.Path, title: str, rows: list[dict], note: str = "", command: str = "") -> None:
    """Writes one table; `command` is by default the one that is running."""
    path = pathlib.Path(path)
    table = {
        "name": path.stem,
        "title": title,
        "command": command or "python " + " ".join(sys.orig_argv[1:]),
        "machine": machine(),
        "git": git_revision(),
        "date": datetime.date.today().isoformat(),
        "note": note,
        "rows": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table, indent=1) + "\n")


def rows_of_report(report: dict) -> list[dict]:
    """The model and the trivial baselines of every protocol of an evaluation's report.json."""
    rows = []
    for name, result in report["protocols"].items():
        lines = {"model": result["metrics"] | result.get("iou", {}), **result.get("baselines", {})}
        for who, metrics in lines.items():
            shown = {key: round(metrics[key], 4) for key in (*SHOWN, *metrics) if key in metrics}
            alignment = result.get("alignment", "")
            rows.append({"protocol": name, "alignment": alignment, "images": result["count"], "who": who, **shown})
    return rows


def rows_of_stereo(reports: list[tuple[str, dict]]) -> list[dict]:
    """Bad pixels in percent and end-point error in pixels of several evaluations under protocol "stereo".

    Args:
      reports: (label, content of a report.json) in the order of the rows.
    """
    rows = []
    for label, report in reports:
        result = report["protocols"]["stereo"]
        for who, metrics in result["metrics"].items():
            shown = {key: "inf" if value is None else round(value, 2) for key, value in metrics.items()}
            rows.append({"pairs": label, "count": result["count"], "who": who.replace("_", " "), **shown})
    return rows


def rows_of_ablation(report: dict) -> list[dict]:
    """AbsRel of an ablation.json: mean +- sample deviation over the seeds, and the ratio to the first row."""
    rows = []
    for name, protocol in report["protocols"].items():
        for label, parts in protocol["rows"].items():
            row = {"protocol": name, "row": label}
            for part, found in parts.items():
                spread = "" if found["std"] is None else f" +- {found['std']:.4f}"
                row |= {
                    "seeds": found["n"],
                    part: f"{found['mean']:.4f}{spread}",
                    f"{part} ratio": f"{found['ratio']:.3f}",
                }
            rows.append(row)
    return rows


def compare(reports: list[tuple[str, dict]]) -> list[dict]:
    """AbsRel of several models under the same protocols and corruptions; several reports of one model add up.

    Args:
      reports: (label, content of a report.json) in the order of the columns.
    """
    rows: dict[str, dict] = {}
    for label, report in reports:
        for name, result in report["protocols"].items():
            row = rows.setdefault(name, {"protocol": name, "images": result["count"]})
            row[label] = round(result["metrics"]["abs_rel"], 4)
            row["better baseline"] = round(min(values["abs_rel"] for values in result["baselines"].values()), 4)
            corrupted = result.get("corruptions", {})
            for corruption, values in corrupted.get("by_corruption", {}).items():
                row = rows.setdefault(f"{name} {corruption}", {"protocol": f"{name}, {corruption}", "images": ""})
                row[label] = round(values["abs_rel"], 4)
            for score in ("mce", "mrr") if corrupted else ():
                rows.setdefault(f"{name} {score}", {"protocol": f"{name}, {score}", "images": ""})[label] = round(
                    corrupted[score], 2
                )
    return list(rows.values())


def render() -> None:
    """Writes docs/results.md, the pages and figures in docs/results/, and the README's table."""
    from benchmarks.results_figures import draw  # matplotlib, which other benchmarks do without

    topics, tables = load()
    for path, text in pages().items():
        path.write_text(text)
    for topic in topics:
        draw(topic, tables, ROOT / FOLDER / f"{topic.name}.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", help="keep an evaluation's report.json, or an ablation.json, as a table")
    add.add_argument("report", type=pathlib.Path)
    comparing = actions.add_parser("compare", help="keep several models' reports as one table")
    comparing.add_argument("reports", nargs="+", help="LABEL=REPORT.json")
    for action in (add, comparing):
        for word in ("name", "title", "command"):
            action.add_argument(f"--{word}", required=True)
        action.add_argument("--note", default="")
    actions.add_parser("render", help="write the pages, the figures and the README's table")
    options = parser.parse_args()
    if options.action != "render":
        if options.action == "add":
            report = json.loads(options.report.read_text())
            rows = rows_of_ablation(report) if options.report.name == "ablation.json" else rows_of_report(report)
        else:
            named = [text.split("=", 1) for text in options.reports]
            reports = [(label, json.loads(pathlib.Path(path).read_text())) for label, path in named]
            rows = (rows_of_stereo if "stereo" in reports[0][1]["protocols"] else compare)(reports)
        record(ROOT / FOLDER / f"{options.name}.json", options.title, rows, options.note, options.command)
    run_main(render)


if __name__ == "__main__":
    main()

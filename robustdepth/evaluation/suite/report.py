"""The reports of a suite: report.json for machines, report.md and report.html for people."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2

from robustdepth.errors import UserError
from robustdepth.evaluation.report import REPORT, Panels
from robustdepth.evaluation.suite.comparison import HEADLINES, Condition, conditions_of, groups_of
from robustdepth.evaluation.suite.html import Picture, render
from robustdepth.evaluation.suite.plan import Missing
from robustdepth.paths import for_opencv

PICTURE_WIDTH = 416  # pixels; wider panels are made smaller, so that a page with many stays light
QUALITY = 75  # JPEG
SHOWN = (0, -2, -1)  # of a result's panels, best first


@dataclasses.dataclass(frozen=True)
class Failed:
    """An evaluation that could not be made."""

    protocol: str
    model: str
    error: str


def now() -> str:
    """The local time, to the minute, with its offset."""
    return datetime.datetime.now().astimezone().isoformat(" ", "minutes")


def write_suite(
    folder: pathlib.Path,
    panels: Mapping[str, Panels],
    date: str,
    missing: Sequence[Missing],
    failed: Sequence[Failed],
) -> dict[str, Any]:
    """Joins the models' own reports, which lie in folders of their names, into one comparison.

    Args:
        panels: for each model, what `write_panels` drew in FOLDER/MODEL/pictures, by result name.
        date: when it was measured.

    Returns:
        The content of report.json. Raises UserError on a full disk.
    """
    content = {
        "date": date,
        "models": {name: json.loads((folder / name / REPORT).read_text()) for name in panels},
        "missing": [dataclasses.asdict(row) for row in missing],
        "failed": [dataclasses.asdict(row) for row in failed],
    }
    pictures = {
        (model, result): [
            Picture(caption, data_uri(folder / model / "pictures" / file)) for caption, file in _shown(drawn)
        ]
        for model, results in panels.items()
        for result, drawn in results.items()
    }
    try:
        (folder / "report.html").write_text(render(content, pictures), encoding="utf-8", errors="backslashreplace")
        (folder / "report.md").write_text(markdown(content), encoding="utf-8", errors="backslashreplace")
        (folder / REPORT).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(f"cannot write the report in {folder} ({error.strerror}).") from error
    return content


def _shown(drawn: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The best panel and the two worst ones."""
    return [drawn[i] for i in sorted({index % len(drawn) for index in SHOWN if -len(drawn) <= index < len(drawn)})]


def data_uri(file: pathlib.Path, width: int = PICTURE_WIDTH) -> str:
    """A picture as a JPEG of at most `width` pixels, to be written into a page."""
    image = cv2.imread(for_opencv(file))
    if image is None:
        raise UserError(f"{file} cannot be read as a picture.")
    if image.shape[1] > width:
        size = width, round(image.shape[0] * width / image.shape[1])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def markdown(content: Mapping[str, Any]) -> str:
    """report.md: the summary, and what each model's own report holds."""
    own = [f"* [{name}]({name}/report.md): {_facts(model['model'])}" for name, model in content["models"].items()]
    parts = ["# Depth in adverse conditions", f"Measured {content['date']}. With charts and pictures: report.html."]
    return "\n\n".join([*parts, "\n".join(own), suite_summary(content)]) + "\n"


def suite_summary(content: Mapping[str, Any]) -> str:
    """What was measured, failed and is missing, for the console and for report.md."""
    models = list(content["models"])
    parts = []
    for group in groups_of(conditions_of(content["models"])):
        parts += [f"## {group.title}", group.rules]
        parts += [f"WARNING: {c.label}: {warning}" for c in group.conditions for warning in c.warnings]
        parts.append(_table(group.conditions, models))
        parts += [line for c in group.conditions for line in _corruption_lines(c)]
    if content["failed"]:
        parts.append("## Failed")
        parts.append("\n".join(f"* {row['protocol']} of {row['model']}: {row['error']}" for row in content["failed"]))
    if content["missing"]:
        parts.append("## Missing datasets")
        rows = content["missing"]
        parts.append("\n".join(f"* {r['title']} ({r['page']}): {r['need']}; `{r['command']}`" for r in rows))
    return "\n\n".join(parts)


def _table(conditions: Sequence[Condition], models: Sequence[str]) -> str:
    """A line per condition: AbsRel and delta1 of every model and of the better trivial baseline, the best bold."""
    heads = ["condition", "images", *(f"{name} {key}" for name in (*models, "trivial") for key in HEADLINES)]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for condition in conditions:
        cells = [condition.label, str(condition.first["count"])]
        for name in models:
            for key in HEADLINES:
                value = f"{condition.entries[name]['metrics'][key]:.3f}" if name in condition.entries else "-"
                cells.append(f"**{value}**" if name in condition.best(key) else value)
        lines.append([*cells, *(f"{condition.trivial(key):.3f}" for key in HEADLINES)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _corruption_lines(condition: Condition) -> list[str]:
    said = []
    for name, entry in condition.corrupted.items():
        said.append(
            f"{condition.label} under corruptions, {name}: mCE {entry['mce']:.2f} against "
            f"{entry['baseline']['name']}; mRR {entry['mrr']:.2f}"
        )
    warnings = [f"WARNING: {warning}" for entry in condition.corrupted.values() for warning in entry["warnings"]]
    return said + list(dict.fromkeys(warnings))


def _facts(model: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in model.items())

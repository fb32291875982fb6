"""report.html of a suite: one self-contained page, with every picture, chart and style inside."""

from __future__ import annotations

import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import jinja2
import numpy as np
from markupsafe import Markup

from robustdepth.evaluation.charts import PALETTE, Row, bar_chart
from robustdepth.evaluation.metrics import HIGHER_IS_BETTER
from robustdepth.evaluation.pictures import WORST_ERROR
from robustdepth.evaluation.suite.comparison import TRIVIAL, Condition, Group, best_of, conditions_of, groups_of

MANY = 8  # conditions of one group beyond which their pictures would make the page too heavy
HEADERS = {"abs_rel": "AbsRel", "sq_rel": "SqRel", "rmse": "RMSE", "rmse_log": "RMSE log", "delta1": "δ<1.25"}
HEADERS |= {"delta2": "δ<1.25²", "delta3": "δ<1.25³", "si_log": "SI log", "boundary_f1": "boundary F1"}


class Picture(NamedTuple):
    """A panel of a frame: image, predicted inverse depth, error."""

    caption: str
    source: str  # a data: URI


def render(content: Mapping[str, Any], pictures: Mapping[tuple[str, str], Sequence[Picture]]) -> str:
    """The page of a suite's report.json; `pictures` are by model and result name, best frame first."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    conditions = conditions_of(content["models"])
    return environment.get_template("report.html.jinja").render(
        content,
        conditions=conditions,
        groups=groups_of(conditions),
        pictures=pictures,
        group_chart=group_chart,
        corruption_chart=corruption_chart,
        best_of=best_of,
        header=lambda metric: f"{HEADERS.get(metric, metric)} {'↑' if metric in HIGHER_IS_BETTER else '↓'}",
        trivial=TRIVIAL,
        many=MANY,
        palette=PALETTE,
        ramp=ramp(),
        worst_error=WORST_ERROR,
    )


def group_chart(group: Group, models: Collection[str]) -> Markup:
    """AbsRel of the models under all conditions of a group; the mark is the better trivial baseline."""
    rows = []
    for condition in group.conditions:
        values = {name: entry["metrics"]["abs_rel"] for name, entry in condition.entries.items()}
        rows.append(_row(condition.label, values, condition.trivial("abs_rel"), models))
    return bar_chart(f"AbsRel, {group.title}", tuple(rows))


def corruption_chart(condition: Condition, models: Collection[str]) -> Markup:
    """DEE of the models under all corruptions of a condition; the mark is the better trivial baseline."""
    blind = next(iter(condition.corrupted.values()))["blind_dee"]
    rows = tuple(_row(name, values, blind, models) for name, values in condition.dee.items())
    return bar_chart(f"DEE under corruptions, {condition.label}", rows)


def ramp() -> list[str]:
    """The colours of errors from 0 to `WORST_ERROR`, as in the pictures."""
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)[None]
    return [f"rgb({r} {g} {b})" for b, g, r in cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[0]]


def _row(label: str, values: Mapping[str, float], mark: float, models: Collection[str]) -> Row:
    """The models' values as bars, with the same colour for a model in every chart of the page."""
    return Row(label, tuple((list(models).index(name), value) for name, value in values.items()), mark)

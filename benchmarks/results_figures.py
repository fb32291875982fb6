"""The figures of the results' pages: bars with matplotlib, one SVG a topic."""

import pathlib
import re
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.results_pages import HEAD, Rows, Topic, by_condition

STYLE = {"svg.hashsalt": "robustdepth", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")  # Paul Tol's bright scheme
BASELINE = "better baseline"


def draw(topic: Topic, tables: dict[str, dict], path: pathlib.Path) -> None:
    """Writes the topic's figure: groups of bars, with the better trivial baseline as a line where the table has it."""
    figure = topic.figure
    rows = tables[figure["table"]]["rows"]
    groups, series, line = conditions(rows, figure) if figure.get("conditions") else columns(rows, figure)
    with plt.rc_context(STYLE):
        picture, axes = plt.subplots(figsize=(9, 2.8), layout="constrained")
        width = 0.8 / len(series)
        for i, (label, (values, spreads)) in enumerate(series.items()):
            x = np.arange(len(groups)) + (i - (len(series) - 1) / 2) * width
            axes.bar(x, values, width, yerr=spreads, label=label, color=COLORS[i % len(COLORS)], error_kw={"lw": 1})
        if line is not None:
            axes.axhline(line, color="#777777", lw=1, ls="--", label=f"{BASELINE} (clear)")
        crowded = max(map(len, groups)) * len(groups) > 100
        axes.set_xticks(range(len(groups)), groups, rotation=35 if crowded else 0, ha="right" if crowded else "center")
        axes.set_ylabel(figure.get("unit", "AbsRel"))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
        picture.savefig(path, metadata={"Date": None}, facecolor="white")
        plt.close(picture)


Series = dict[str, tuple[list[float], list[float] | None]]  # label -> values and spreads of its bars


def conditions(rows: Rows, figure: dict[str, Any]) -> tuple[list[str], Series, float | None]:
    """Groups are conditions, series are models, under the protocol `where`; and the baseline's clear value."""
    found: dict[str, dict[str, float]] = {}
    for part, prefix in zip(by_condition(rows), ("", "rendered "), strict=True):
        for line in part:
            if line["protocol"] == figure["where"]:
                values = {prefix + key: float(value) for key, value in line.items() if key not in (*HEAD, "mRR")}
                found.setdefault(line["model"], {}).update(values)
    groups = list(dict.fromkeys(name for model in figure["values"] for name in found[model]))
    series: Series = {model: ([found[model].get(name, np.nan) for name in groups], None) for model in figure["values"]}
    return groups, series, found.get(BASELINE, {}).get("clear")


def columns(rows: Rows, figure: dict[str, Any]) -> tuple[list[str], Series, float | None]:
    """Groups are the values of the column `rows`; series are the columns `values`.

    With `series` there is one column of values, and each value of the column `series` that `only` lists is a series.
    """
    groups = list(dict.fromkeys(str(row[figure["rows"]]) for row in rows))
    series: Series = {}
    if "series" in figure:
        (column,) = figure["values"]
        for label in figure["only"]:
            by_group = {
                str(row[figure["rows"]]): number(row[column])[0] for row in rows if row[figure["series"]] == label
            }
            series[label] = [by_group.get(group, np.nan) for group in groups], None
        return groups, series, None
    for column in figure["values"]:
        numbers = [number(row[column]) for row in rows]
        spreads = [spread for _, spread in numbers]
        series[column] = [value for value, _ in numbers], spreads if any(spreads) else None
    return groups, series, None


def number(value: object) -> tuple[float, float]:
    """The value and its spread, of a number or of text such as "0.2230 +- 0.0020"."""
    found = re.findall(r"[\d.]+(?:e[-+]?\d+)?", str(value))
    return float(found[0]), float(found[1]) if "+-" in str(value) else 0.0

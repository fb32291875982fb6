"""The part of report.html on corruptions: a table and a chart for every condition that was corrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robustdepth.evaluation.robustness.corruptions import depth_estimation_error
from robustdepth.evaluation.suite.charts import Row, bar_chart, legend
from robustdepth.evaluation.suite.comparison import TRIVIAL, Condition, best_of
from robustdepth.evaluation.suite.markup import Markup, bold, element, join, note, table

CLEAN = "clean"
COLUMNS = ("AbsRel", "δ<1.25", "DEE", "CE", "RR")  # of each model
RATES = {"mce": "mCE ↓", "mrr": "mRR ↑"}


def corruption_summary(conditions: Sequence[Condition], models: Sequence[str]) -> Markup:
    """mCE and mRR of every model under every condition that was corrupted."""
    lines = []
    for condition in conditions:
        corrupted = condition.corrupted
        cells = [element("th", condition.label), element("td", _baseline(condition), class_="text")]
        for name in models:
            for key in RATES:
                values = {other: entry[key] for other, entry in corrupted.items()}
                shown = bold(f"{values[name]:.1f}", name in best_of(values, key == "mrr")) if name in values else "-"
                cells.append(element("td", shown, class_="first" if key == "mce" else None))
        lines.append(element("tr", *cells))
    names = [element("th", name, colspan=len(RATES), class_="first") for name in models]
    heads = [
        element("th", title, class_="first" if key == "mce" else None) for _ in models for key, title in RATES.items()
    ]
    top = element("tr", element("th", "", colspan=2), *names)
    below = [element("th", words, class_="text") for words in ("condition", "mCE against")]
    return join(
        element("h3", "Under corruptions"),
        element(
            "p",
            "mCE: error in percent of the baseline's, lower is better. mRR: percent of the accuracy on clean images "
            "that is kept, higher is better; a network that sees nothing keeps everything.",
        ),
        table([top, element("tr", *below, *heads)], lines),
    )


def corruption_section(condition: Condition, models: Sequence[str]) -> Markup:
    """All corruptions of one condition; `models` are all of the page, whose order gives them their colours."""
    corrupted = condition.corrupted
    first = next(iter(corrupted.values()))
    dee = {CLEAN: {name: depth_estimation_error(condition.entries[name]["metrics"]) for name in corrupted}}
    for key in first["by_corruption"]:
        dee[key] = {name: entry["by_corruption"][key]["dee"] for name, entry in corrupted.items()}
    severities = ", ".join(map(str, first["severities"]))
    warnings = dict.fromkeys(warning for entry in corrupted.values() for warning in entry["warnings"])
    return join(
        element("h3", f"{condition.label} under corruptions"),
        element("p", f"Means over severities {severities}. CE and mCE against {_baseline(condition)}.", class_="soft"),
        *(note(f"⚠ {warning}") for warning in warnings),
        bar_chart(
            f"DEE under corruptions, {condition.label}",
            models,
            [Row(key, values, first["blind_dee"]) for key, values in dee.items()],
        ),
        legend(models, f"DEE; mark: {TRIVIAL}"),
        _table(condition, dee),
    )


def _table(condition: Condition, dee: Mapping[str, Mapping[str, float]]) -> Markup:
    """A line for every corruption, the best DEE bold."""
    corrupted = condition.corrupted
    lines = []
    for key, errors in dee.items():
        cells = [element("th", key)]
        for name, entry in corrupted.items():
            row = entry["by_corruption"].get(key, condition.entries[name]["metrics"])
            rates = ["", ""] if key == CLEAN else [f"{row['ce']:.1f}", f"{row['rr']:.1f}"]
            cells.append(element("td", f"{row['abs_rel']:.3f}", class_="first"))
            cells.append(element("td", f"{row['delta1']:.3f}"))
            cells.append(element("td", bold(f"{errors[name]:.3f}", name in best_of(errors))))
            cells += [element("td", rate) for rate in rates]
        lines.append(element("tr", *cells))
    totals = [element("th", "mCE, mRR")]
    for entry in corrupted.values():
        totals.append(element("td", "", colspan=len(COLUMNS) - 2, class_="first"))
        totals += [element("td", f"{entry[key]:.1f}") for key in ("mce", "mrr")]
    lines.append(element("tr", *totals, class_="total"))
    names = [element("th", name, colspan=len(COLUMNS), class_="first") for name in corrupted]
    heads = [
        element("th", words, class_="first" if words == COLUMNS[0] else None) for _ in corrupted for words in COLUMNS
    ]
    top = element("tr", element("th", ""), *names)
    return table([top, element("tr", element("th", "corruption", class_="text"), *heads)], lines, class_="dense")


def _baseline(condition: Condition) -> str:
    return next(iter(condition.corrupted.values()))["baseline"]["name"]

"""report.html of a suite: one self-contained page, with every picture, chart and style inside."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from robustdepth.evaluation.metrics import HIGHER_IS_BETTER
from robustdepth.evaluation.pictures import WORST_ERROR
from robustdepth.evaluation.suite.charts import COLOURS, Row, bar_chart, legend
from robustdepth.evaluation.suite.comparison import HEADLINES, TRIVIAL, Condition, Group, conditions_of, groups_of
from robustdepth.evaluation.suite.html_corruptions import corruption_section, corruption_summary
from robustdepth.evaluation.suite.markup import Markup, bold, element, join, line, note, table
from robustdepth.evaluation.suite.style import STYLE

TITLE = "Depth in adverse conditions"
MANY = 8  # conditions of one group beyond which their pictures would make the page too heavy
HEADERS = {"abs_rel": "AbsRel", "sq_rel": "SqRel", "rmse": "RMSE", "rmse_log": "RMSE log", "delta1": "δ<1.25"}
HEADERS |= {"delta2": "δ<1.25²", "delta3": "δ<1.25³", "log10": "log10", "si_log": "SI log"}


class Picture(NamedTuple):
    """A panel of a frame: image, predicted inverse depth, error."""

    caption: str
    source: str  # a data: URI


def render(content: Mapping[str, Any], pictures: Mapping[tuple[str, str], Sequence[Picture]]) -> str:
    """The page of a suite's report.json; `pictures` are by model and result name, best frame first."""
    models = content["models"]
    conditions = conditions_of(models)
    groups = groups_of(conditions)
    sections = [_group_section(index, group, list(models), pictures) for index, group in enumerate(groups)]
    corrupted = [condition for condition in conditions if condition.corrupted]
    body = join(
        _header(content, groups),
        *(note(_failure(failed)) for failed in content["failed"]),
        _summary(groups, list(models)),
        *([corruption_summary(corrupted, list(models))] if corrupted else []),
        *sections,
        _missing(content["missing"]),
        _reading(),
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{TITLE}: {', '.join(models)}"),
        element("style", Markup(STYLE)),
    )
    return f"<!doctype html>\n{element('html', head, element('body', body), lang='en')}\n"


def _header(content: Mapping[str, Any], groups: Sequence[Group]) -> Markup:
    facts = [content["models"][name]["model"] for name in content["models"]]
    origins = {model["train_median_origin"] for model in content["models"].values()}
    versions = next(iter(content["models"].values()))["versions"]
    keys = list(dict.fromkeys(key for row in facts for key in row))
    rows = [
        [_swatch(index, name), *(_fact(key, row.get(key, "-")) for key in keys)]
        for index, (name, row) in enumerate(zip(content["models"], facts, strict=True))
    ]
    flush = range(len(keys) + 1)
    links = [("Summary", "summary"), *((group.title, f"group{index}") for index, group in enumerate(groups))]
    links += [("Missing datasets", "missing"), ("How to read this", "reading")]
    return join(
        element("h1", TITLE),
        element("p", f"Measured {content['date']}", class_="soft"),
        element("nav", *(join(element("a", words, href=f"#{target}"), " ") for words, target in links)),
        table(
            [line("th", ["model", *(key.replace("_", " ") for key in keys)], flush)],
            [line("td", row, flush) for row in rows],
        ),
        element("p", f"Trivial baseline train_median: {'; '.join(sorted(origins))}", class_="soft"),
        element("p", element("small", ", ".join(f"{key} {value}" for key, value in versions.items()))),
    )


def _summary(groups: Sequence[Group], models: Sequence[str]) -> Markup:
    columns = 2 + 2 * (len(models) + 1)
    top = [element("th", "", colspan=2)]
    top += [element("th", name, colspan=2, class_="first") for name in models]
    top += [element("th", TRIVIAL, colspan=2, class_="first trivial")]
    heads = [element("th", "condition", class_="text"), element("th", "images")]
    for _ in (*models, TRIVIAL):
        heads += [element("th", HEADERS[key], class_="first" if key == HEADLINES[0] else None) for key in HEADLINES]
    rows = []
    for group in groups:
        title = join(group.title, element("br"), element("small", group.rules))
        rows.append(element("tr", element("th", title, colspan=columns, class_="wide")))
        for condition in group.conditions:
            cells = [element("th", condition.label), element("td", _count(condition))]
            for model in models:
                cells += [_cell(condition, model, key) for key in HEADLINES]
            cells += [
                element(
                    "td", f"{condition.trivial(key):.3f}", class_="trivial first" if key == "abs_rel" else "trivial"
                )
                for key in HEADLINES
            ]
            rows.append(element("tr", *cells))
    return join(
        element("h2", "Summary", id="summary"),
        element(
            "p",
            "Compare along a line only: every line is one protocol under one alignment. Bold is the best model; "
            "† is a model no better than a baseline that looks at no image; ⚠ is a number of images other than the "
            "published protocol's.",
        ),
        table([element("tr", *top), element("tr", *heads)], rows),
        *([] if rows else [note("Nothing was measured.")]),
    )


def _cell(condition: Condition, model: str, metric: str) -> Markup:
    first = "first" if metric == HEADLINES[0] else ""
    if model not in condition.entries:
        return element("td", "-", class_=first or None)
    value = f"{condition.entries[model]['metrics'][metric]:.3f}"
    beaten = condition.beaten(model, metric)
    shown = element("b", value) if model in condition.best(metric) else value
    classes = " ".join(word for word in (first, "beaten" if beaten else "") if word)
    return element("td", join(shown, "†" if beaten else ""), class_=classes or None)


def _group_section(
    index: int, group: Group, models: Sequence[str], pictures: Mapping[tuple[str, str], Sequence[Picture]]
) -> Markup:
    bars = [
        Row(c.label, {m: c.entries[m]["metrics"]["abs_rel"] for m in models if m in c.entries}, c.trivial("abs_rel"))
        for c in group.conditions
    ]
    parts = [
        element("h2", group.title, id=f"group{index}"),
        element("p", group.rules, class_="soft"),
        *(note(f"⚠ {c.label}: {warning}") for c in group.conditions for warning in c.warnings),
        bar_chart(f"AbsRel, {group.title}", models, bars),
        legend(models, f"AbsRel; mark: {TRIVIAL}"),
        _accuracy(group, models),
    ]
    parts += [corruption_section(condition, models) for condition in group.conditions if condition.corrupted]
    if len(group.conditions) > MANY:
        parts.append(element("p", f"Best and worst frames: {', '.join(f'{model}/report.md' for model in models)}."))
        return join(*parts)
    for condition in group.conditions:
        shown = [part for m in models for part in _frames(m, condition, pictures.get((m, condition.name), ()))]
        if shown:
            parts += [element("h3", f"Best and worst frames: {condition.label}"), *shown]
    return join(*parts)


def _accuracy(group: Group, models: Sequence[str]) -> Markup:
    """Every metric of models and baselines, the best of the models bold."""
    metrics = list(group.conditions[0].first["metrics"])
    rows = []
    for condition in group.conditions:
        title = f"{condition.label}: {condition.first['count']} images"
        rows.append(element("tr", element("th", title, colspan=len(metrics) + 1, class_="wide")))
        for model in models:
            if model in condition.entries:
                values = condition.entries[model]["metrics"]
                cells = [bold(f"{values[key]:.3f}", model in condition.best(key)) for key in metrics]
                rows.append(element("tr", element("th", model), *(element("td", cell) for cell in cells)))
        for name, values in condition.first["baselines"].items():
            cells = [element("td", f"{values[key]:.3f}", class_="trivial") for key in metrics]
            rows.append(element("tr", element("th", name, class_="trivial"), *cells))
    arrows = [f"{HEADERS.get(key, key)} {'↑' if key in HIGHER_IS_BETTER else '↓'}" for key in metrics]
    return table([line("th", ["", *arrows])], rows)


def _frames(model: str, condition: Condition, pictures: Sequence[Picture]) -> Iterator[Markup]:
    """The best frame and the two worst ones of a model."""
    if pictures:
        worst = pictures[1:][-2:]
        named = [("best", pictures[0]), *(("worst" if p is worst[-1] else "second worst", p) for p in worst)]
        figures = [
            element(
                "figure",
                element("img", src=picture.source, alt=f"{model}, {rank} frame: {picture.caption}"),
                element("figcaption", f"{rank}: {picture.caption}"),
            )
            for rank, picture in named
        ]
        title = element("p", element("b", model), " ", _ramp())
        yield element("div", title, element("div", *figures, class_="pictures"), class_="frames")


def _ramp() -> Markup:
    levels = np.round(np.linspace(0, 255, 9)).astype(np.uint8)[None]
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[0, :, ::-1]
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in colours)
    ramp = element("span", class_="ramp", style=f"background: linear-gradient(90deg, {stops})")
    words = join("image, inverse depth (bright is near), relative error 0", ramp, f"{WORST_ERROR} and more")
    return element("span", words, class_="soft")


def _missing(missing: Sequence[Mapping[str, Any]]) -> Markup:
    if not missing:
        return join(element("h2", "Missing datasets", id="missing"), element("p", "None: all of them were evaluated."))
    rows = [
        [
            join(row["title"], element("br"), element("small", _listed(row["protocols"]))),
            join(row["need"], element("br"), element("code", row["command"])),
            _link(row["page"]),
        ]
        for row in missing
    ]
    said = "Not evaluated, because they were not given. The commands say whether a copy is complete."
    heads = line("th", ["dataset and protocols", "what to do", "where it can be had"], range(3))
    lines = [line("td", row, range(3)) for row in rows]
    return join(element("h2", "Missing datasets", id="missing"), element("p", said), table([heads], lines, "prose"))


def _reading() -> Markup:
    return join(
        element("h2", "How to read this", id="reading"),
        element(
            "p",
            "AbsRel is the mean of |g - p| / g, δ<1.25 the share of pixels within a factor of 1.25; each is computed "
            "per image and averaged over images. DEE is (AbsRel - δ<1.25 + 1) / 2. Trivial baselines look at no "
            "image: one depth everywhere, or the training set's median depth of every pixel. Alignment median "
            "multiplies each prediction by median(truth) / median(prediction); none takes it at its word.",
        ),
    )


def _failure(failed: Mapping[str, str]) -> str:
    return f"Failed: {failed['protocol']}{' of ' + failed['model'] if failed['model'] else ''}: {failed['error']}"


def _count(condition: Condition) -> str:
    return f"{condition.first['count']}{' ⚠' if condition.warnings else ''}"


def _fact(key: str, value: Any) -> str:
    """What a report says about a model; paths may break anywhere, as they are long."""
    if isinstance(value, list):
        return "x".join(map(str, reversed(value)))  # image sizes: width first
    words = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    return element("code", words) if key in ("path", "predictions") else words


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return ", ".join(names[:MANY]) + more


def _link(page: str) -> Markup:
    """A page's address as a link, with what is said after it."""
    found = re.match(r"(https?://[^\s,]+)(.*)", page, re.DOTALL)
    return join(element("a", found[1], href=found[1]), found[2]) if found else join(page)


def _swatch(index: int, name: str) -> Markup:
    return element("span", element("i", class_=f"swatch series{index % COLOURS}"), name, class_="key")

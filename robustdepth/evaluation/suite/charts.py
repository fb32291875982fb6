"""Bar charts in SVG, which follow the page's light or dark colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from robustdepth.evaluation.suite.markup import Markup, element

LABEL, WIDTH, VALUE = 190, 520, 60  # pixels: names left, bars, the room for values behind the longest bar
BAR, GAP = 13, 9  # a bar's height, and the room between rows
COLOURS = 8  # of the style sheet: series0 .. series7


class Row(NamedTuple):
    """One line of bars: a value per series (a model without value has no bar), and a mark across them all."""

    label: str
    values: Mapping[str, float]
    mark: float


def bar_chart(title: str, series: Sequence[str], rows: Sequence[Row]) -> Markup:
    """Horizontal bars of non-negative values on one axis from 0; each row's mark is a thin line across its bars."""
    longest = max([row.mark for row in rows] + [value for row in rows for value in row.values.values()])
    scale = WIDTH / (longest or 1.0)
    shapes, y = [], 4
    for row in rows:
        height = BAR * len(row.values)
        shapes.append(text(row.label, LABEL - 8, y + height / 2 + 4, "end"))
        for line, (name, value) in enumerate(row.values.items()):
            top, length = y + BAR * line, value * scale
            shapes.append(
                element(
                    "rect",
                    element("title", f"{name}, {row.label}: {value:.3f}"),
                    class_=f"series{series.index(name) % COLOURS}",
                    x=LABEL,
                    y=top,
                    width=f"{length:.1f}",
                    height=BAR - 1,
                )
            )
            # A value stands clear of the mark where that lies just behind its bar.
            behind = max(length, row.mark * scale) if -2 < row.mark * scale - length < 42 else length
            shapes.append(text(f"{value:.3f}", LABEL + behind + 5, top + 10, "start"))
        across = LABEL + row.mark * scale
        shapes.append(
            element("line", class_="mark", x1=f"{across:.1f}", x2=f"{across:.1f}", y1=y - 2, y2=y + height + 1)
        )
        y += height + GAP
    shapes.append(element("line", class_="axis", x1=LABEL, x2=LABEL, y1=0, y2=y))
    return element(
        "svg",
        element("title", title),
        *shapes,
        role="img",
        viewBox=f"0 0 {LABEL + WIDTH + VALUE} {y}",
        class_="chart",
    )


def legend(series: Sequence[str], mark: str) -> Markup:
    """Which colour is which series, and what the marks are."""
    swatches = [
        element("span", element("i", class_=f"swatch series{index % COLOURS}"), name, class_="key")
        for index, name in enumerate(series)
    ]
    return element("p", *swatches, element("span", element("i", class_="swatch mark"), mark, class_="key"))


def text(words: str, x: float | int, y: float | int, anchor: str) -> Markup:
    """Words at a place; `anchor` is start, middle or end."""
    return element("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)

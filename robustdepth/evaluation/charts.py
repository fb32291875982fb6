"""Bar charts: as SVG for a page, whose light or dark colours they follow, or as a picture file."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ("#0072b2", "#e08e00", "#009e73", "#b8578f", "#46a3dd", "#c9540a", "#8a8f00", "#6b6f76")
INK = "#000000"
LABELS, BARS, VALUES = 190, 520, 60  # points: the rows' names, the longest bar, the room for values behind it
BAR, GAP = 13, 9  # points: a bar with its share of the room between bars, and the room between rows


class Row(NamedTuple):
    """A group of bars: (number of the series, value >= 0) for each series that has one, and a mark across them all."""

    label: str
    bars: tuple[tuple[int, float], ...]
    mark: float | None = None


def draw_bars(rows: Sequence[Row]) -> Figure:
    """Horizontal bars on one scale from 0, with their values; a row's mark is a dashed line across its bars."""
    from matplotlib.figure import Figure  # only who draws waits for it

    width, height = LABELS + BARS + VALUES, sum(BAR * len(row.bars) + GAP for row in rows)
    longest = max(value for row in rows for value in (row.mark or 0.0, *(value for _, value in row.bars))) or 1.0
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((LABELS / width, 0.0, BARS / width, 1.0), xlim=(0.0, longest), ylim=(height, 0.0))
    axes.set_axis_off()
    axes.vlines(0.0, 0.0, height, INK, linewidth=1, clip_on=False)

    def write(words: str, beside: tuple[float, float], points: int, side: str) -> None:
        text = axes.annotate(words, beside, (points, 0), textcoords="offset points", ha=side, va="center_baseline")
        text.set(fontsize=11, color=INK, parse_math=False, zorder=3)

    top = GAP / 2
    for row in rows:
        end = top + BAR * len(row.bars)
        write(row.label, (0.0, (top + end) / 2), -8, "right")
        for line, (series, value) in enumerate(row.bars):
            middle = top + BAR * (line + 0.5)
            axes.barh(middle, value, BAR - 1, color=PALETTE[series % len(PALETTE)], clip_on=False)
            write(f"{value:.3f}", (value, middle), 5, "left")
        if row.mark is not None:
            axes.vlines(row.mark, top - 3, end + 3, INK, (0, (2, 1.4)), linewidth=1.5, clip_on=False)
        top = end + GAP
    return figure


@functools.cache
def bar_chart(title: str, rows: tuple[Row, ...]) -> Markup:
    """The chart as an SVG element to be set into a page: `draw_bars` in currentColor, and var(--c0) to var(--c7)."""
    import matplotlib

    page, parts = io.StringIO(), dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw_bars(rows).savefig(page, format="svg", transparent=True, metadata=parts | {"Title": title})
    svg = page.getvalue()
    svg = svg[svg.index("<svg") :]
    # Metadata are for files; ids and the style of all elements would meet those of the page and its other charts.
    svg = re.sub(r' id="\w+"|<(metadata|defs)>.*?</\1>', "", svg, flags=re.DOTALL)
    for number, colour in enumerate(PALETTE):
        svg = svg.replace(colour, f"var(--c{number})")
    return Markup(svg.replace(INK, "currentColor").replace("<svg", '<svg class="chart" role="img"', 1))

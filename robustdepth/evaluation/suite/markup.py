"""HTML and SVG elements that escape whatever text they are given."""

from __future__ import annotations

import html
from collections.abc import Sequence

VOID = ("br", "img", "meta")  # elements without an end


class Markup(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


def element(tag: str, /, *children: str, **attributes: object) -> Markup:
    """One element. Children that are not Markup are escaped, attribute values always are.

    Attribute names lose a trailing "_" (`class_`), and "_" becomes "-" (`text_anchor`); None leaves an attribute out.
    """
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = join(*children)
    return Markup(f"<{tag}{named}>" if tag in VOID else f"<{tag}{named}>{inside}</{tag}>")


def join(*children: str) -> Markup:
    """Elements and texts one after another, texts escaped."""
    return Markup("".join(child if isinstance(child, Markup) else html.escape(child) for child in children))


def bold(words: str, wanted: bool) -> str:
    """Words in bold where that is wanted."""
    return element("b", words) if wanted else words


def note(words: str) -> Markup:
    """A line that must not be overlooked."""
    return element("p", words, class_="note")


def line(tag: str, cells: Sequence[str], text: Sequence[int] = (0,)) -> Markup:
    """One line of a table, of "th" or "td"; `text` are the columns set flush left."""
    return element(
        "tr", *(element(tag, cell, class_="text" if column in text else None) for column, cell in enumerate(cells))
    )


def table(heads: Sequence[Markup], lines: Sequence[Markup], class_: str | None = None) -> Markup:
    """A table of lines, which scrolls on its own where the page is narrow."""
    inside = element("table", element("thead", *heads), element("tbody", *lines), class_=class_)
    return element("div", inside, class_="scroll")

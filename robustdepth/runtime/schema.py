"""Are a config's keys and values of the kind that its defaults are, and within their ranges?

A range is written as in mathematics: "[0, 1)" holds 0 and not 1. "4 x [0, 1]" is for a tuple of four numbers, "* x" for
one of any length; "[0, 1] or a schedule" also takes a text "start:end:steps". "section.*" gives the range of all
numbers of a section that have none of their own.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from robustdepth.errors import UserError, nearest

_RANGE = re.compile(
    r"(?:(?P<count>\d+|\*) x )?(?P<left>[\[(])(?P<low>[^,]+), (?P<high>[^,]+)(?P<right>[\])])"
    r"(?P<schedule> or a schedule)?"
)
SMALLEST, LARGEST = 1.2e-38, 3.4e38  # normal numbers of float32
MOST_STEPS = 2**31 - 1
_ONE = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}
_MANY = {int: "whole numbers", float: "numbers", str: "texts"}


class Range(NamedTuple):
    """Numbers from `low` to `high`; "[" and "]" take the ends in."""

    low: float
    high: float
    left: str
    right: str
    length: int | None  # of a tuple, -1 for any; None: a single number
    schedule: bool  # or a text "start:end:steps"

    def holds(self, number: int | float) -> bool:
        """Whether the number lies within; never for one that is not finite."""
        above = number >= self.low if self.left == "[" else number > self.low
        below = number <= self.high if self.right == "]" else number < self.high
        return above and below and abs(number) < math.inf

    def __str__(self) -> str:
        low = f"{'at least' if self.left == '[' else 'above'} {self.low:g}"
        high = f"{'at most' if self.right == ']' else 'below'} {self.high:g}"
        return " and ".join(([low] if self.low > -math.inf else []) + ([high] if self.high < math.inf else []))


def parse_range(text: str) -> Range:
    """A range as the module's docstring says. Raises ValueError for another text."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no range such as '[0, 1)'")
    count = {None: None, "*": -1}[match["count"]] if match["count"] in (None, "*") else int(match["count"])
    ends = float(match["low"]), float(match["high"]), match["left"], match["right"]
    return Range(*ends, count, match["schedule"] is not None)


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value, for comparing and listing."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def check_sections(config: ConfigDict, defaults: ConfigDict) -> None:
    """Raises UserError where a section of the defaults is missing, or is something else."""
    for name, section in defaults.items():
        if isinstance(section, ConfigDict) and not isinstance(config.get(name), ConfigDict):
            raise UserError(f"config.{name} must be a section with options, as configs.base.get_config() has it.")


def check_values(config: ConfigDict, defaults: ConfigDict, ranges: Mapping[str, str]) -> None:
    """Refuses keys that the defaults lack, values of another kind, and numbers outside their ranges.

    Raises:
      UserError: names the key, its value, and what would be right; a misspelt key's nearest ones.
    """
    given, known = flatten(config), flatten(defaults)
    sections = {key.rpartition(".")[0] for key in known} - {""}
    for key in sorted(given.keys() - known.keys()):
        raise UserError(f"config.{key} is unknown: {nearest(key, known.keys() | sections)}")
    for key in sorted(known.keys() - given.keys()):
        raise UserError(f"config.{key} is missing: start from configs.base.get_config() and change what differs.")
    for key, default in known.items():
        limits = range_of(key, default, ranges)
        if not _is_right(given[key], default, limits):
            raise UserError(f"config.{key}={_written(given[key])} must be {_wanted(default, limits)}.")
        if limits is not None and not _fit_float32(given[key]):
            raise UserError(
                f"config.{key}={given[key]} has a number that float32, which computes with it, cannot hold."
            )


def range_of(key: str, default: Any, ranges: Mapping[str, str]) -> Range | None:
    """The range of a key whose default is a number, or a tuple of numbers; None for others, or where none is given."""
    first = default[0] if isinstance(default, tuple) and default else default
    if isinstance(first, bool) or not isinstance(first, int | float):
        return None
    text = ranges.get(key) or ranges.get(f"{key.rpartition('.')[0]}.*")
    return parse_range(text) if text else None


def _is_right(value: Any, default: Any, limits: Range | None) -> bool:
    if isinstance(default, tuple):
        if not isinstance(value, tuple):
            return False
        if limits is None or limits.length is None:  # of texts, or with a structure of its own
            return all(isinstance(item, type(default[0]) if default else str) for item in value)
        right_length = limits.length in (-1, len(value))
        return right_length and all(_is_right(item, default[0], limits._replace(length=None)) for item in value)
    if isinstance(value, str) and limits is not None and limits.schedule:
        return _is_schedule(value, limits)
    if isinstance(value, bool) or isinstance(default, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if not isinstance(value, int | float if isinstance(default, float) else type(default)):
        return False
    return limits is None or limits.holds(value)


def _fit_float32(value: Any) -> bool:
    """Whether no number, of those that the value may be or hold, is infinite or rounded to 0 in float32."""
    numbers = [item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, int | float)]
    return all(number == 0 or SMALLEST <= abs(number) <= LARGEST for number in numbers)


def _is_schedule(text: str, limits: Range) -> bool:
    """Whether it is "start:end:steps" of a loss weight."""
    try:
        start, end, steps = map(float, text.split(":"))
    except ValueError:
        return False
    return limits.holds(start) and limits.holds(end) and 1 <= steps <= MOST_STEPS


def _wanted(default: Any, limits: Range | None) -> str:
    within = f", {limits}" if limits is not None and str(limits) else ""
    if not isinstance(default, tuple):
        schedule = ', or a schedule "start:end:steps" of such numbers' if limits is not None and limits.schedule else ""
        return f"{_ONE[type(default)]}{within}{schedule}"
    items = _MANY.get(type(default[0]), "entries") if default else "texts"
    length = f"{limits.length} " if limits is not None and limits.length != -1 else ""
    return f"a tuple of {length}{items}{within}{f', such as {default}' if default else ''}"


def _written(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."

"""What a compiled program sends between devices, read from its text (`compiled.as_text()`, XLA's HLO)."""

import re
from collections.abc import Iterator
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")

_COMMENT = re.compile(r"/\*.*?\*/")
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[^\s(]+) \(.*\{$")
# "%name = TYPE KIND(operands)": the type is one word, or a tuple in parentheses, which holds no quote and no "=".
_COLLECTIVE = re.compile(rf'= (?P<shape>\([^"=]*?\)|\S+) (?:ragged-)?(?P<kind>{"|".join(KINDS)})(?P<start>-start)?\(')
_CALLED = re.compile(r"(\w+)=\{?(%[^\s,{}]+(?:, %[^\s,{}]+)*)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_ARRAY = re.compile(r"\b([a-z]+\d*)[a-z0-9]*\[([\d,]*)\]")


class Collective(NamedTuple):
    """One exchange between devices."""

    kind: str  # of KINDS
    bytes: int  # of its result on one device
    shape: str  # of its result, as in the program
    times: int = 1  # how often a run of the program does it: once, or as often as the loops that hold it go round
    counted: bool = True  # False: it lies in a loop whose rounds the program does not tell, `times` leaves that one out


class Kind(NamedTuple):
    """All collectives of one kind in one run of the program."""

    times: int
    bytes: int
    counted: bool  # False: at least, see `Collective.counted`


class _Call(NamedTuple):
    computation: str
    times: int
    counted: bool


def collectives(program: str) -> list[Collective]:
    """The collectives of a program, in the order of its text; an asynchronous pair (start, done) is one.

    Args:
      program: optimised HLO as text, that of one device.
    """
    found: dict[str, list[Collective]] = {}
    calls: dict[str, list[_Call]] = {}
    entry = inside = ""
    for line in _COMMENT.sub("", program).splitlines():
        if head := _COMPUTATION.match(line):
            inside = head["name"]
            entry = inside if head["entry"] else entry
            found[inside], calls[inside] = [], []
        elif inside:
            found[inside] += _collective(line)
            calls[inside] += _calls(line)
    runs: dict[str, tuple[int, bool]] = {}
    _count_runs(entry, 1, True, calls, runs)
    return [
        collective._replace(times=runs[name][0], counted=runs[name][1])
        for name, held in found.items()
        if name in runs
        for collective in held
    ]


def by_kind(found: list[Collective]) -> dict[str, Kind]:
    """Sums over the collectives of each kind, in the order of KINDS; kinds that do not occur are left out."""
    kinds = {kind: [one for one in found if one.kind == kind] for kind in KINDS}
    return {
        kind: Kind(
            sum(one.times for one in ones), sum(one.times * one.bytes for one in ones), all(o.counted for o in ones)
        )
        for kind, ones in kinds.items()
        if ones
    }


def shape_bytes(shape: str) -> int:
    """Bytes of an HLO shape such as "f32[3,64]{1,0}" or a tuple of them."""
    return sum(_array_bytes(kind, sizes) for kind, sizes in _ARRAY.findall(shape))


def _array_bytes(kind: str, sizes: str) -> int:
    elements = 1
    for size in filter(None, sizes.split(",")):
        elements *= int(size)
    digits = re.search(r"\d+", kind)
    bits = int(digits.group()) if digits else 8  # "pred" has a byte
    return -(-elements * bits // 8)


def _collective(line: str) -> Iterator[Collective]:
    if match := _COLLECTIVE.search(line):
        shape = match["shape"]
        # What starts a gather or a permutation gives (operands, results, ...), what starts a reduction its results.
        if match["start"] and match["kind"] != "all-reduce" and shape.startswith("("):
            shape = _elements(shape)[1]
        yield Collective(match["kind"], shape_bytes(shape), shape)


def _elements(shape: str) -> list[str]:
    """The members of a tuple shape, which may be tuples themselves."""
    members, depth, begin = [], 0, 1
    for position, character in enumerate(shape):
        depth += (character in "([{") - (character in ")]}")
        if (character == "," and depth == 1) or (character == ")" and depth == 0):
            members.append(shape[begin:position].strip())
            begin = position + 1
    return members


def _calls(line: str) -> Iterator[_Call]:
    """The computations that an instruction runs, and how often; those that a reduction applies hold no collectives."""
    loop = " while(" in line
    trips = _TRIPS.search(line)
    for role, names in _CALLED.findall(line):
        times, counted = (int(trips.group(1)), True) if loop and trips else (1, not loop)
        if role in ("body", "condition", "calls", "branch_computations", "true_computation", "false_computation") or (
            role == "to_apply" and " call(" in line
        ):
            yield from (_Call(name.lstrip("%"), times, counted) for name in names.split(", "))


def _count_runs(name: str, times: int, counted: bool, calls: dict[str, list[_Call]], runs: dict) -> None:
    before, before_counted = runs.get(name, (0, True))
    runs[name] = before + times, before_counted and counted
    for call in calls.get(name, []):
        _count_runs(call.computation, times * call.times, counted and call.counted, calls, runs)

"""What a compiled program launches and moves, read from its text (`compiled.as_text()`, XLA's HLO).

A kernel is an instruction of the entry computation, or of what it calls outright, that does work: parameters, constants
and changes of form do none. Its bytes are those of its operands and results. Rounds of a loop count once.
"""

import collections
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from robustdepth.compiling.collectives import shape_bytes

FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id")
CALLS = ("call", "async-start", "while", "conditional")  # they launch what their computations hold
# Of a training step, by what stands in an instruction's scope; the first match counts.
PARTS = {
    "pose network": re.compile("PoseNet"),
    "depth network": re.compile("DepthNet"),
    "losses with augmentation": re.compile(r"jvp|augment|jit\(photograph\)"),
    "optimiser and rest": re.compile(""),
}
_HEAD = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[^\s(]+) \(.*\{$")
_INSTRUCTION = re.compile(
    r'^\s*(?:ROOT )?%?(?P<name>[^\s=]+) = (?P<shape>\([^"=]*?\)|\S+) (?P<kind>[\w-]+)'
    r"\((?P<operands>[^)]*)\)(?P<rest>.*)$"
)
_COMMENT = re.compile(r"/\*.*?\*/")
_SCOPE = re.compile(r'op_name="([^"]*)"')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_CALLED = re.compile(r"(?:to_apply|calls|body|condition)=%?([^\s,}]+)")


class Kernel(NamedTuple):
    """One launch."""

    kind: str  # HLO's name of it
    bytes: int  # read and written
    part: str  # of PARTS
    target: str  # of a custom call; "" for others


class Sum(NamedTuple):
    """Kernels of one part of a program."""

    kernels: int
    bytes: int


def kernels(program: str) -> list[Kernel]:
    """The kernels that one run of a program launches, in the order of its text."""
    held: dict[str, list[re.Match[str]]] = {}
    entry = inside = ""
    for line in _COMMENT.sub("", program).splitlines():
        if head := _HEAD.match(line):
            inside = head["name"]
            entry = inside if head["entry"] else entry
            held[inside] = []
        elif inside and (match := _INSTRUCTION.match(line)):
            held[inside].append(match)
    return list(_launched(entry, held))


def _launched(name: str, held: Mapping[str, list[re.Match[str]]]) -> Iterator[Kernel]:
    shapes = {match["name"]: match["shape"] for match in held.get(name, [])}
    for match in held.get(name, []):
        if match["kind"] in FREE or match["kind"].endswith("-done"):
            continue
        if match["kind"] in CALLS:
            for called in _CALLED.findall(match["rest"]):
                yield from _launched(called, held)
            continue
        operands = [operand.split()[-1].lstrip("%") for operand in match["operands"].split(",") if operand.strip()]
        size = shape_bytes(match["shape"]) + sum(shape_bytes(shapes.get(operand, "")) for operand in operands)
        scope, target = _SCOPE.search(match["rest"]), _TARGET.search(match["rest"])
        where = scope.group(1) if scope else ""
        part = next(part for part, pattern in PARTS.items() if pattern.search(where))
        yield Kernel(match["kind"], size, part, target.group(1) if target else "")


def by_part(found: list[Kernel]) -> dict[str, Sum]:
    """Sums over the kernels of each of PARTS."""
    return {
        part: Sum(sum(k.part == part for k in found), sum(k.bytes for k in found if k.part == part)) for part in PARTS
    }


def custom_calls(found: list[Kernel]) -> dict[str, int]:
    """How often each library is called, most often first."""
    return dict(collections.Counter(kernel.target for kernel in found if kernel.target).most_common())

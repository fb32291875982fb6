"""Which images of a clip follow each other, by the numbers in their names."""

import itertools
import pathlib
import re
import statistics
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from absl import logging

LARGEST = 2**63  # numbers of packed frames are below
FAR = 10**6  # places between two series of names in one folder: no view of one belongs to the other
_LAST_NUMBER = re.compile(r"(.*?)(\d{9,}\.\d+|\d+)(\D*)")


class Place(NamedTuple):
    """Where an image stands in its clip."""

    number: int  # that of its name, by which split files call it
    place: int  # in time: neighbours differ by one, a gap is as wide as the frames that are missing


def places(images: Sequence[pathlib.Path]) -> list[Place]:
    """Numbers and places of a clip's images, given in natural order.

    The last number of a name counts: drive1_frame_0012 is number 12. The usual step between two numbers is one place,
    so footage of which every tenth frame was kept, or whose names are times, has neighbours too. Another text around
    the number begins another series. Where names hold no such numbers, or most of them do not follow their
    neighbours', images are counted from 0 in their order; the same holds for `number` alone where one occurs twice.
    """
    counted = list(range(len(images)))
    found = [_LAST_NUMBER.fullmatch(image.stem.lower()) for image in images]
    names = [(match[1], match[3], Decimal(match[2])) for match in found if match]
    if len(names) < len(images):
        return [Place(i, i) for i in counted]
    steps = [_step(*pair) for pair in itertools.pairwise(names)]
    if same := [pair for pair, step in zip(itertools.pairwise(images), steps, strict=True) if step == 0]:
        text = "%s: %s and %s have one number (%d such): they count as frames in a row; two clips need two folders."
        logging.warning(text, same[0][0].parent, same[0][0].name, same[0][1].name, len(same))
    usual = statistics.median_low(known) if (known := [step for step in steps if step]) else Decimal(1)
    jumps = [max(1, round(step / usual)) if step is not None else FAR for step in steps]
    values = [value for _, _, value in names]
    whole = len(set(values)) == len(values) and all(value == int(value) < LARGEST for value in values)
    numbers = [int(value) for value in values] if whole else counted
    if 2 * sum(jump > 1 for jump in jumps) > len(jumps):
        return [Place(number, i) for number, i in zip(numbers, counted, strict=True)]
    place = numbers[0] if whole and usual == 1 and numbers else 0
    result = [Place(number, place) for number in numbers[:1]]
    for number, jump in zip(numbers[1:], jumps, strict=True):
        place += jump
        result.append(Place(number, place))
    return result


def _step(first: tuple[str, str, Decimal], second: tuple[str, str, Decimal]) -> Decimal | None:
    """From one number to the next; None where the names belong to two series."""
    return second[2] - first[2] if first[:2] == second[:2] else None

"""Which images follow each other: gaps, steps, times and series in the names of a clip's files."""

import itertools
import pathlib

import pytest

from robustdepth.data.images import natural_sort
from robustdepth.data.numbering import FAR, places


def placed(*stems: str) -> list[tuple[int, int]]:
    """(number, place) of images in natural order."""
    return [tuple(place) for place in places(natural_sort(pathlib.Path(f"{stem}.png") for stem in stems))]


def neighbours(*stems: str) -> list[bool]:
    """For each image but the last, whether the next one follows it."""
    found = [place for _, place in placed(*stems)]
    return [after == before + 1 for before, after in itertools.pairwise(found)]


def test_numbers_are_those_of_the_names_and_gaps_stay():
    stems = ("frame_0000", "frame_0001", "frame_0002", "frame_0400", "frame_0401")
    assert placed(*stems) == [(0, 0), (1, 1), (2, 2), (400, 400), (401, 401)]
    assert placed("img8", "img9", "img10") == [(8, 8), (9, 9), (10, 10)]
    assert placed("2_left", "3_left", "5_left") == [(2, 2), (3, 3), (5, 5)]


def test_a_constant_step_is_one_place():
    assert placed("00", "10", "20", "40", "50") == [(0, 0), (10, 1), (20, 2), (40, 4), (50, 5)]


def test_times_have_neighbours_though_their_steps_differ():
    """30 frames a second in nanoseconds with jitter, then a second's pause."""
    times = [1403636579763555584, 1403636579796888908, 1403636579831222232, 1403636579862000000, 1403636580862000000]
    assert neighbours(*map(str, times)) == [True, True, True, False]
    assert [number for number, _ in placed(*map(str, times))] == times
    assert neighbours("1305031102.2", "1305031102.175304", "1305031102.23", "1305031103.4") == [True, True, False]


def test_two_series_in_one_folder_never_mix():
    assert placed("a_1", "a_2", "a_3", "b_1", "b_2") == [(0, 0), (1, 1), (2, 2), (3, 2 + FAR), (4, 3 + FAR)]


@pytest.mark.parametrize(
    "stems", [["a", "b", "c"], ["0_640", "1_320", "2_640"], ["1x7", "2x7", "3x7"], ["a", "1", "2"]]
)
def test_names_that_number_nothing_are_counted(stems):
    assert [place for _, place in placed(*stems)] == [0, 1, 2]
    assert [number for number, _ in placed(*stems)] == [0, 1, 2]


def test_two_writings_of_one_number_are_two_frames_and_told(caplog):
    assert placed("1", "02", "3") == [(1, 1), (2, 2), (3, 3)]
    assert not caplog.text
    assert placed("1", "01", "2") == [(0, 0), (1, 1), (2, 2)]
    assert "01.png and 1.png have one number (1 such)" in caplog.text


def test_few_images():
    assert placed() == []
    assert placed("7") == [(7, 7)]

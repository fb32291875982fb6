"""Split files: lines "folder frame l|r", whose frames are file numbers and whose folders may hold blanks."""

import pytest

from robustdepth.data.recordings.clips import read_split
from robustdepth.errors import UserError


def read(tmp_path, text: str, encoding: str = "utf-8") -> list:
    (tmp_path / "split.txt").write_bytes(text.encode(encoding))
    return read_split(tmp_path / "split.txt")


def test_lines_name_folder_number_and_side(tmp_path):
    text = "2011_09_26/drive_0001_sync 0000000012 r\n\n  clip\t3\n/a/b/ 7 l \n"
    assert read(tmp_path, text) == [
        ("2011_09_26/drive_0001_sync", 12, "r"),
        ("clip", 3, "l"),
        ("a/b", 7, "l"),
    ]


def test_folders_with_blanks(tmp_path):
    text = 'day 1 3 l\nday 1 4\n"day 1" 5 r\n"cam l" 6\n"day 1 2" 7 l\n'
    assert read(tmp_path, text) == [
        ("day 1", 3, "l"), ("day 1", 4, "l"), ("day 1", 5, "r"), ("cam l", 6, "l"), ("day 1 2", 7, "l")
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_of_other_systems(tmp_path, encoding, newline):
    assert read(tmp_path, newline.join(["straße 1 l", "b 2 r", ""]), encoding) == [("straße", 1, "l"), ("b", 2, "r")]


@pytest.mark.parametrize(
    "line",
    [
        "../clip 3 l",
        "a/../../b 3",
        "/ 3 l",
        "clip",
        "clip l",
        "clip three l",
        "clip 3 x",
        "clip -3 l",
        "clip ² l",
        "3 l",
        '"clip 3 l',
        f"clip {10**30} l",
    ],
)
def test_other_lines_are_refused_with_their_number(tmp_path, line):
    with pytest.raises(UserError, match=r"split\.txt line 2 is '.*', expected 'folder frame l\|r'"):
        read(tmp_path, f"clip 1 l\n{line}\n")


def test_empty_and_binary_files(tmp_path):
    with pytest.raises(UserError, match="is empty"):
        read(tmp_path, "\n \n")
    (tmp_path / "split.txt").write_bytes(b"\xff\x00\x9c")
    with pytest.raises(UserError, match="cannot read split file"):
        read_split(tmp_path / "split.txt")


def test_a_frame_that_is_named_again_counts_once(tmp_path, caplog):
    assert read(tmp_path, "./a//b 1 l\na 2\n") == [("a/b", 1, "l"), ("a", 2, "l")]
    assert not caplog.text
    assert read(tmp_path, "a 2 l\na 1\n./a 02 l\na 2\na 2 r\n") == [("a", 2, "l"), ("a", 1, "l"), ("a", 2, "r")]
    assert "names 2 frames more than once" in caplog.text

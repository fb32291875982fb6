"""Your own footage: folders, videos, camera.json, and clear words about what cannot be right."""

import json
import shutil

import numpy as np
import pytest

from robustdepth.commands.corrupt import write_corrupted_copy
from robustdepth.data.check import check
from robustdepth.data.source import build_source
from robustdepth.errors import UserError
from robustdepth.prediction.inputs import find_inputs
from tests.recordings import (
    CAMERA,
    CX,
    CY,
    FX,
    FY,
    SIZE,
    config_for,
    data_options,
    picture,
    write_clip,
    write_image,
    write_kitti_raw,
)


def test_a_folder_of_images_in_natural_order(tmp_path):
    write_clip(tmp_path / "clip")  # frame_8, frame_9, frame_10, frame_11
    source = build_source(config_for("frames", tmp_path / "clip", size=SIZE))
    assert len(source) == 4
    example = source[2]
    np.testing.assert_array_equal(example.target, picture(2))
    np.testing.assert_array_equal(example.sources, np.stack([picture(1), picture(3)]))
    np.testing.assert_allclose([*example.focal, *example.center], [FX, FY, CX, CY])
    assert not example.speed.any()


def test_folder_of_clips_never_mixes_them(tmp_path):
    write_clip(tmp_path / "a", count=2)
    write_clip(tmp_path / "deep" / "b", count=3, camera=CAMERA | {"fps": 10, "speed": 5})
    source = build_source(config_for("frames", tmp_path))
    assert [(view.target.clip, view.target.number) for view in source.views] == [
        ("a", 8), ("a", 9), ("deep/b", 8), ("deep/b", 9), ("deep/b", 10)
    ]  # fmt: skip
    assert source[1].source_valid.tolist() == [True, False]
    np.testing.assert_allclose(source[3].speed, [0.5, 0.5])
    assert len(build_source(config_for("frames", tmp_path, sequences=("b",)))) == 3


def test_right_images_make_a_stereo_rig(tmp_path):
    write_clip(tmp_path / "rig", camera=CAMERA | {"baseline": 0.12}, right=True)
    (tmp_path / "rig" / "right" / "frame_9.png").unlink()
    source = build_source(config_for("frames", tmp_path, size=SIZE, views=("previous", "stereo")))
    examples = {view.target.key[1:]: source[i] for i, view in enumerate(source.views)}
    np.testing.assert_array_equal(examples[8, "l"].sources[1], picture(50))
    np.testing.assert_array_equal(examples[8, "r"].sources[1], picture(0))
    np.testing.assert_allclose([examples[8, "l"].baseline, examples[8, "r"].baseline], [0.12, -0.12])
    assert examples[9, "l"].source_valid.tolist() == [True, False]
    assert (9, "r") not in examples


def rename(folder, *names) -> None:
    """Gives the images of `write_clip` other names, in their order."""
    for number, name in enumerate(names):
        (folder / f"frame_{number + 8}.png").rename(folder / name)


def paired(source) -> dict[int, list[bool]]:
    """Which views every target has, by its number."""
    return {view.target.number: [frame is not None for frame in view.sources] for view in source.views}


def test_a_gap_in_the_numbering_ends_a_clip(tmp_path):
    write_clip(tmp_path / "clip", count=5, camera=CAMERA | {"fps": 10, "speed": 5})
    rename(tmp_path / "clip", *(f"frame_{number:04d}.png" for number in (0, 1, 2, 400, 401)))
    source = build_source(config_for("frames", tmp_path / "clip"))
    assert paired(source) == {
        0: [False, True], 1: [True, True], 2: [True, False], 400: [False, True], 401: [True, False]
    }  # fmt: skip
    assert [view.target.time for view in source.views] == pytest.approx([0, 0.1, 0.2, 40, 40.1])
    two_apart = build_source(config_for("frames", tmp_path / "clip", frame_step=2))
    assert paired(two_apart) == {0: [False, True], 2: [True, False]}


def test_every_tenth_frame_is_a_clip_and_the_split_names_file_numbers(tmp_path):
    write_clip(tmp_path / "day 1", count=4)
    rename(tmp_path / "day 1", *(f"{number:04d}.png" for number in (10, 20, 30, 40)))
    (tmp_path / "split.txt").write_text('day 1 20 l\n"day 1" 40\n')
    source = build_source(config_for("frames", tmp_path, split=str(tmp_path / "split.txt"), size=SIZE))
    assert paired(source) == {20: [True, True], 40: [True, False]}
    np.testing.assert_array_equal(source[0].target, picture(1))
    np.testing.assert_array_equal(source[0].sources, [picture(0), picture(2)])


def test_a_frame_in_two_formats_is_one_frame(tmp_path, caplog):
    write_clip(tmp_path / "clip")
    write_image(tmp_path / "clip" / "frame_9.jpg", picture(70))
    source = build_source(config_for("frames", tmp_path / "clip", size=SIZE))
    assert len(source) == 4
    np.testing.assert_array_equal(source[1].target, picture(1))
    assert "frame_9.png is read, frame_9.jpg is not" in caplog.text


@pytest.mark.parametrize("suffix", [".PNG", ".webp", ".bmp", ".pgm", ".TIFF"])
def test_every_command_finds_the_same_images(tmp_path, suffix):
    write_clip(tmp_path / "clip", count=0)
    for number in range(3):
        image = picture(number)
        write_image(tmp_path / "clip" / f"{number:010d}{suffix}", image[..., 0] if suffix == ".pgm" else image)
    source = build_source(config_for("frames", tmp_path))
    assert [view.target.number for view in source.views] == [0, 1, 2]
    assert source[1].target.std() > 0
    (report,) = check(data_options("frames", tmp_path))
    assert report.frames == 3
    inputs, problems = find_inputs([str(tmp_path / "clip")], str(tmp_path / "out"))
    assert ([entry.name for entry in inputs], problems) == ([f"{number:010d}" for number in range(3)], [])
    said = write_corrupted_copy(tmp_path / "clip", tmp_path / "copy", ["contrast"], [1])
    assert "copy holds 3 images under 1 conditions: 3 written" in said
    write_kitti_raw(tmp_path / "raw", numbers=range(3), sides="l", suffix=suffix)
    assert len(build_source(config_for("kitti_raw", tmp_path / "raw"))) == 3


def test_clips_behind_links_beside_other_systems_leftovers(tmp_path):
    write_clip(tmp_path / "elsewhere")
    (tmp_path / "footage").mkdir()
    (tmp_path / "footage" / "clip").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "._frame_8.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "elsewhere" / "Thumbs.db").write_bytes(b"\xd0\xcf")
    (tmp_path / "elsewhere" / "._drive.mp4").write_bytes(b"\0\5\x16\7")
    source = build_source(config_for("frames", tmp_path / "footage"))
    assert [view.target.name for view in source.views] == [f"clip {number:010d} l" for number in (8, 9, 10, 11)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_no_text(tmp_path, encoding):
    write_clip(tmp_path / "clip")
    (tmp_path / "clip" / "camera.json").write_text(json.dumps(CAMERA), encoding=encoding)
    (tmp_path / "split.txt").write_bytes("clip 9 l\r\nclip 10 l\r\n".encode(encoding))
    source = build_source(config_for("frames", tmp_path, split=str(tmp_path / "split.txt")))
    assert [view.target.number for view in source.views] == [9, 10]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fx": -90}, r"camera\.json: focal lengths must be positive"),
        ({"cx": 400}, r"camera\.json: principal point .* lies outside the image of 160x48"),
        ({"fy": "80"}, "\"fy\" is '80', but must be a number"),
        ({"fy": float("nan")}, '"fy" is nan, but must be a number'),
        ({"width": 0}, '"width" is 0, but must be positive'),
        ({"width": 0.5}, '"width" is 0.5, but must be a whole number'),
        ({"cx": float("inf")}, '"cx" is inf, which no camera has'),
        ({"fx": 10**400}, r'"fx" is 10{39}, which no camera has'),
        ({"fx": 1e-300}, r"camera\.json: no camera has fx=1e-300, fy=80"),
        (
            {"fx": 0.56, "fy": 1.67, "cx": 0.5, "cy": 0.5},
            "fx=0.56 and fy=1.67 are too short for 160x48 pixels; give pix",
        ),
        ({"focal": 3}, 'unknown entry "focal"'),
        ({"x" * 10_000: 3}, 'unknown entry "x{40}"; known'),
        ({"speed": 3}, 'gives "speed" but no "fps"'),
        ({"baseline": 0.1}, "holds no image named like one in"),
        (
            {"width": 320, "height": 96, "fx": 180, "fy": 160, "cx": 158.5, "cy": 46.5},
            "width=160, height=48, fx=90.00, fy=80.00, cx=79.00, cy=23.00",
        ),
    ],
)
def test_impossible_cameras(tmp_path, change, message):
    write_clip(tmp_path / "clip", camera=CAMERA | change)
    with pytest.raises(UserError, match=message):
        build_source(config_for("frames", tmp_path))


def test_missing_entries_and_broken_files(tmp_path):
    write_clip(tmp_path / "clip", camera={name: value for name, value in CAMERA.items() if name != "cy"})
    with pytest.raises(UserError, match='lacks "cy"'):
        build_source(config_for("frames", tmp_path))
    for text in ("{", "[]", "[" * 100_000):
        (tmp_path / "clip" / "camera.json").write_text(text)
        with pytest.raises(UserError, match=r"camera\.json"):
            build_source(config_for("frames", tmp_path))
    (tmp_path / "clip" / "camera.json").write_text(json.dumps(CAMERA)[:-1] + ', "fx": 3}')
    with pytest.raises(UserError, match=r'camera\.json: "fx" is given twice'):
        build_source(config_for("frames", tmp_path))
    (tmp_path / "clip" / "camera.json").unlink()
    write_clip(tmp_path / "other")
    for stand_in in (lambda path: path.symlink_to("nowhere.json"), lambda path: (path.unlink(), path.mkdir())):
        stand_in(tmp_path / "clip" / "camera.json")  # the clip is not left out
        with pytest.raises(UserError, match=r"cannot read .*clip/camera\.json"):
            build_source(config_for("frames", tmp_path))
    (tmp_path / "clip" / "camera.json").rmdir()
    shutil.rmtree(tmp_path / "other")
    with pytest.raises(UserError, match=r"no camera\.json in"):
        build_source(config_for("frames", tmp_path))
    with pytest.raises(UserError, match="does not exist"):
        build_source(config_for("frames", tmp_path / "nowhere"))


def test_empty_folder_and_single_image(tmp_path):
    write_clip(tmp_path / "clip", count=0)
    (tmp_path / "clip" / "a.heic").touch()
    with pytest.raises(UserError, match=r"holds 0 images .* \(PNG, .*; there are \.heic\), .* beside the images"):
        build_source(config_for("frames", tmp_path))
    write_image(tmp_path / "clip" / "only.png", picture(0))
    with pytest.raises(UserError, match="holds 1 images, but a clip needs two"):
        build_source(config_for("frames", tmp_path))

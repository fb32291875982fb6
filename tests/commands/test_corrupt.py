"""`prepare corrupt`: the layout, resuming, and what is refused."""

import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from robustdepth import prepare
from robustdepth.commands.corrupt import FOLDERS, MARKER, write_corrupted_copy
from robustdepth.conditions.corruptions.benchmark import BENCHMARK, corrupt, corruption_keys
from robustdepth.data.benchmarks import kitti_c
from robustdepth.errors import UserError
from tests.fixtures.make_corruption_fixtures import make_image

NAMES = ("contrast", "gaussian")


@pytest.fixture
def source(tmp_path):
    """Three images of two sizes in two folders; one is there as PNG and as JPEG."""
    folder = tmp_path / "source"
    for place, image in (("a/1.png", make_image()), ("a/2.png", make_image()[::-1]), ("b/3.png", make_image()[:40])):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / place)
    Image.fromarray(255 - make_image()).save(folder / "a" / "1.jpg")
    (folder / "a" / "notes.txt").write_text("not an image")
    return folder


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_layout_and_content(tmp_path, source):
    said = write_corrupted_copy(source, tmp_path / "out", NAMES, [1, 4], batch_size=2)
    assert "3 images under 4 conditions: 12 written, 0 kept" in said
    places = ("a/1.png", "a/2.png", "b/3.png")
    wanted = [f"{name}/{s}/{place}" for name in ("contrast", "gaussian_noise") for s in (1, 4) for place in places]
    assert files(tmp_path / "out") == sorted([*wanted, MARKER])
    for place, image in (("a/1.png", make_image()), ("b/3.png", make_image()[:40])):
        key = corruption_keys("gaussian", 4, [zlib.crc32(place.encode())])
        copy = np.asarray(Image.open(tmp_path / "out" / "gaussian_noise" / "4" / place))
        np.testing.assert_array_equal(copy, corrupt(image[None], "gaussian", 4, key)[0])


def test_the_folders_are_those_of_kitti_c():
    assert tuple(FOLDERS.get(name, name) for name in BENCHMARK) == kitti_c.CORRUPTIONS


def test_the_same_call_continues_and_another_one_adds(tmp_path, source):
    out = tmp_path / "out"
    write_corrupted_copy(source, out, ["gaussian"], [2])
    whole = {place: (out / place).read_bytes() for place in files(out)}
    lost = out / "gaussian_noise" / "2" / "a" / "2.png"
    lost.unlink()
    kept = out / "gaussian_noise" / "2" / "a" / "1.png"
    kept.write_bytes(b"mine")  # a file that is there is not touched
    assert "1 written, 2 kept" in write_corrupted_copy(source, out, ["gaussian"], [2])
    assert kept.read_bytes() == b"mine"
    assert lost.read_bytes() == whole["gaussian_noise/2/a/2.png"]
    assert "3 written, 3 kept" in write_corrupted_copy(source, out, ["gaussian", "contrast"], [2])
    assert "0 written, 6 kept" in write_corrupted_copy(source, out, ["gaussian", "contrast"], [2])


def test_images_are_shrunk_before_as_kitti_c_was_made(tmp_path, source, monkeypatch, capsys):
    command = f"prepare corrupt --source={source} --output={tmp_path / 'out'} --corruptions=contrast --severities=5"
    monkeypatch.setattr(sys, "argv", [*command.split(), "--height=32", "--width=48"])
    prepare.main()
    assert "3 written" in capsys.readouterr().out
    small = np.asarray(Image.fromarray(make_image()).resize((48, 32), Image.Resampling.LANCZOS))
    copy = np.asarray(Image.open(tmp_path / "out" / "contrast" / "5" / "a" / "1.png"))
    np.testing.assert_array_equal(copy, corrupt(small[None], "contrast", 5, corruption_keys("contrast", 5, [0]))[0])
    with pytest.raises(UserError, match="holds a copy at another size"):
        write_corrupted_copy(source, tmp_path / "out", ["contrast"], [5])


def test_bad_input_is_refused(tmp_path, source, monkeypatch):
    def copy(output="out", names=("contrast",), severities=(1,), folder=source):
        return write_corrupted_copy(folder, tmp_path / output, names, severities)

    with pytest.raises(UserError, match="unknown corruption 'frog': did you mean"):
        copy(names=["frog"])
    with pytest.raises(UserError, match="severity 9 does not exist"):
        copy(severities=[9])
    with pytest.raises(UserError, match=r"no images \(PNG, JPEG, .*\) found under --source=.*nowhere"):
        copy(folder=tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"lies in .*source: copies would be copied again"):
        copy(output="source/out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="full is not empty and holds no corrupted copy"):
        copy(output="full")
    with pytest.raises(UserError, match=r"cannot use .*thesis\.tex for the copy"):
        copy(output="full/thesis.tex")
    assert not (tmp_path / "out").exists()
    Image.new("RGB", (20, 50)).save(source / "tiny.png")
    with pytest.raises(UserError, match=r"tiny\.png is smaller than 32x32 pixels"):
        copy()
    (source / "tiny.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"cannot read image .*tiny\.png"):
        copy()
    for flags, sentence in ((["--height=192"], "give both --height and --width"), (["--batch_size=0"], "must be 1 or")):
        monkeypatch.setattr(sys, "argv", ["prepare", "corrupt", f"--source={source}", "--output=x", *flags])
        with pytest.raises(UserError, match=sentence):
            prepare.main()

"""The pictures of worlds: what is written, and what a wrong command line costs."""

import sys

import numpy as np
import pytest
from PIL import Image

from robustdepth import sample
from robustdepth.errors import UserError
from robustdepth.prediction.inputs import find_inputs
from robustdepth.prediction.run import choose_camera
from robustdepth.world.generate import render_examples
from tests.conftest import takes_minutes

SIZE = ("--height=32", "--width=64")


def run(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["sample", *words])
    sample.main()


def test_worlds_come_with_their_cameras(tmp_path, monkeypatch):
    run(monkeypatch, "world", f"--output={tmp_path / 'worlds'}", "--count=2", "--seed=5", *SIZE)
    batch, _ = render_examples(np.arange(2), seed=5, split="evaluation", size=(32, 64), views=())
    inputs, problems = find_inputs([str(tmp_path / "worlds")], str(tmp_path / "depth"))
    assert not problems
    camera_for, _ = choose_camera(str(tmp_path / "worlds"), None)  # as predict --camera does
    images = [image for found in inputs for image in found.frames()]
    np.testing.assert_array_equal([image.image for image in images], batch.target)
    for i, image in enumerate(images):
        camera = camera_for(image)
        assert camera.size == (32, 64)
        np.testing.assert_array_equal(camera.focal, batch.camera.focal[i])
        np.testing.assert_array_equal(camera.center, batch.camera.center[i])
    assert not np.array_equal(batch.camera.focal[0], batch.camera.focal[1])


@takes_minutes
def test_texture_changes_on_a_sheet(tmp_path, monkeypatch):
    words = ("--scenes=1,4", "--illumination=multi_scale", "--strength=0.5", "--seed=3")
    run(monkeypatch, "textures", f"--output={tmp_path / 'sheet.png'}", *words, *SIZE)
    with Image.open(tmp_path / "sheet.png") as sheet:
        rows = np.asarray(sheet)[:, -2 * 64 :].reshape(7, 32, 2 * 64, 3)
    batch, _ = render_examples(np.array([1, 4]), seed=1, split="evaluation", size=(32, 64), views=())
    np.testing.assert_allclose(rows[0], np.concatenate(list(batch.target), axis=1), atol=1)
    assert all(np.abs(row.astype(int) - rows[0]).mean() > 1 for row in rows[1:])
    with pytest.raises(UserError, match="multi_scal"):
        run(monkeypatch, "textures", f"--output={tmp_path / 'sheet.png'}", "--illumination=multi_scal", *SIZE)


def test_conditions_on_a_sheet(tmp_path, monkeypatch):
    words = ("--scenes=0,3", "--conditions=fog,fog+dusk", "--severities=0,0.5,1")
    run(monkeypatch, "conditions", f"--output={tmp_path / 'sheet.png'}", *words, *SIZE)
    with Image.open(tmp_path / "sheet.png") as sheet:
        rows = np.asarray(sheet)[:, -6 * 64 :].reshape(3, 32, 2, 3, 64, 3)
    np.testing.assert_array_equal(rows[1, :, :, 0], rows[0, :, :, 0])  # severity 0 changes nothing
    change = np.abs(rows[1:].astype(int) - rows[:1]).mean(axis=(1, 2, 4, 5))
    assert (np.diff(change) > 1).all()  # more from column to column
    with pytest.raises(UserError, match="rian"):
        run(monkeypatch, "conditions", f"--output={tmp_path / 'sheet.png'}", "--conditions=rian", *SIZE)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["world"], "the following arguments are required: --output"),
        (["world", "--output=x", "--count=0"], "'0' is no number from 1"),
        (["world", "--output=x", "--height=8"], "'8' is no number from 16"),
        (["textures", "--output=x", "--scenes=a"], "'a' is no list of numbers, such as 0,3,9"),
        (["textures", "--output=x", "--scenes="], "'' is no list of numbers"),
        (["conditions", "--output=x", "--severities=0.5,2"], "'2' is no number from 0.0 to 1.0"),
        (["features", "--output=x"], "the following arguments are required: --checkpoint"),
    ],
)
def test_wrong_command_lines(monkeypatch, capsys, words, sentence):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *words)
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err

"""Networks in other formats: their own runtimes give the network's numbers, and what fails leaves nothing behind."""

import dataclasses
import datetime
import json
import resource
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import export as jax_export

from robustdepth import export as command
from robustdepth.errors import UserError
from robustdepth.prediction import export
from robustdepth.prediction.portable import FORMATS
from robustdepth.runtime.bundle import read_bundle, write_bundle
from robustdepth.runtime.inference import load_model
from tests.checkpoints import save_untrained
from tests.recordings import picture, write_image
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("network") / "run"
    save_untrained(tiny_config(), folder)
    return load_model(folder)


@pytest.fixture
def frames(tmp_path):
    """A folder of pictures, so that no street needs to be rendered."""
    (tmp_path / "frames").mkdir()
    for i in range(2):
        write_image(tmp_path / "frames" / f"{i}.png", picture(i))
    return str(tmp_path / "frames")


def test_the_command_knows_every_format():
    assert set(FORMATS) == set(command.FORMATS) - {"safetensors", "huggingface"}


def some_images(count: int) -> np.ndarray:
    return np.random.default_rng(1).random((count, 32, 64, 3), dtype=np.float32)


def needs(name: str) -> None:
    for package in FORMATS[name].packages:
        pytest.importorskip(package, reason=f"--format={name} needs it: pip install robustdepth[{name}]")


@pytest.mark.parametrize("name", FORMATS)
def test_a_files_own_runtime_gives_the_networks_numbers(name, network, frames, tmp_path):
    needs(name)
    form = FORMATS[name]
    path = tmp_path / f"model{form.suffix}"
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # as users have it; converters do
        about = export.export_model(network, path, name, 0, frames)
    assert 0 <= about["largest_relative_difference"] < 1e-4
    images = some_images(3 if form.any_batch else 1)  # as many as were not tried
    expected = np.asarray(network.inverse_depth(images))
    np.testing.assert_allclose(form.run(path, images), expected, rtol=1e-3)
    assert expected.std() > 1e-3 * expected.mean()
    assert json.loads((tmp_path / f"{path.name}.json").read_text()) == about
    assert {file.name for file in tmp_path.iterdir()} == {path.name, f"{path.name}.json", "frames"}


def test_a_stablehlo_file_is_one_of_jax_export_and_says_until_when_it_can_be_read(network, frames, tmp_path):
    path = tmp_path / "model.stablehlo"
    about = export.export_model(network, path, "stablehlo", 2, frames)
    exported = jax_export.deserialize(bytearray(path.read_bytes()))
    assert exported.in_avals[0].shape == (2, 32, 64, 3)
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    assert about["input"]["shape"] == [2, 32, 64, 3]
    written, until = (datetime.date.fromisoformat(about[key]) for key in ("written", "readable_until"))
    assert (until - written).days == 180
    said = export.describe(path, about)
    assert f"until {until}" in said
    assert f"jax {about['versions']['jax']}" in said


@pytest.mark.parametrize("factor", [1.002, np.nan])
def test_a_file_that_gives_other_numbers_is_not_written(factor, network, frames, tmp_path, monkeypatch):
    form = FORMATS["stablehlo"]
    wrong = dataclasses.replace(form, run=lambda path, images: np.float32(factor) * form.run(path, images))
    monkeypatch.setattr(export, "FORMATS", {"stablehlo": wrong})
    with pytest.raises(UserError, match=r"the exported network differs by .* it is not written"):
        export.export_model(network, tmp_path / "a.stablehlo", "stablehlo", 1, frames)
    assert [file.name for file in tmp_path.iterdir()] == ["frames"]


@pytest.fixture
def little_space():
    """No file may grow over 20 kB: a write stops in the middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing_half_written_and_the_old_file(network, frames, tmp_path, little_space):
    path = tmp_path / "a.stablehlo"
    path.write_bytes(b"old")
    with pytest.raises(UserError, match=r"cannot write .*a\.stablehlo \(File too large\)"):
        export.export_model(network, path, "stablehlo", 1, frames)
    assert path.read_bytes() == b"old"
    assert {file.name for file in tmp_path.iterdir()} == {"frames", "a.stablehlo"}


def test_a_full_disk_leaves_no_half_model_file(tmp_path, little_space):
    with pytest.raises(UserError, match=r"cannot write .*model\.safetensors \(.*File too large"):
        write_bundle(read_bundle("bundled"), tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--format=stablehlo", "--output=a.onnx"], "--output=a.onnx must end with .stablehlo"),
        (["--format=stablehlo", "--output=a.stablehlo", "--batch=-1"], "--batch=-1 must be 0"),
        (
            ["--format=stablehlo", "--output=a.stablehlo", "--frames=nowhere"],
            "--frames=nowhere is no folder with images",
        ),
        (["--format=safetensors", "--output=a.safetensors", "--batch=2"], "do not go with --format=safetensors"),
        (["--format=stablehlo", "--output=a.stablehlo", "--report=x"], "--report goes only with"),
        (["--format=onnx", "--output=a.onnx"], "--format=onnx needs jax2onnx"),
    ],
)
def test_what_is_refused_in_one_sentence(flags, sentence, tmp_path):
    code = (
        "import sys, runpy\nsys.modules['jax2onnx'] = None\nrunpy.run_module('robustdepth.export', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--checkpoint=bundled", *flags], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert f"error: {sentence}" in done.stderr or sentence in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []

"""The README's commands, run as they stand there on tiny recordings; only sizes and step counts are shrunk."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import REPOSITORY, takes_minutes
from tests.recordings import DRIVE, point_at, write_clip, write_kitti_raw, write_scan

SMALL = (
    "--config.image_size=(64, 128)",
    "--config.batch_size=2",
    "--config.model.encoder=resnet_tiny",
    "--config.model.pose_encoder=resnet_tiny",
    "--config.model.pretrained=",
    "--config.model.decoder_width=0.25",
    "--config.model.scales=1",
    "--config.optimizer.warmup_steps=0",
)
SHRINK = {
    "robustdepth.train --config=configs/overfit_clip.py": (  # from the bundled networks, so with their sizes
        "--config.image_size=(32, 64)",
        "--config.data.world_share=0.0",
        "--config.loss.truth=0.0",
        "--config.loss.truth_shape=0.0",
        "--config.loss.truth_gradient=0.0",
        "--config.loss.truth_motion=0.0",
        "--config.optimizer.steps=2",
    ),
    # Two examples, so that two epochs of batches of two are two steps.
    "robustdepth.train --config=configs/kitti_mono_resnet18.py": (*SMALL, "--config.optimizer.epochs=2"),
    "robustdepth.train": (*SMALL, "--config.optimizer.steps=2"),
    "robustdepth.prepare kitti_raw": ("--height=64", "--width=128"),
    "robustdepth.evaluate --workdir=runs/weather": ("--corruptions=brightness", "--severities=1"),
    "robustdepth.evaluate --suite": (),
    "robustdepth.evaluate": ("--batch_size=2",),
}


def commands(heading: str) -> list[list[str]]:
    """The words of every `python -m ...` line in the shell blocks of a section of the README."""
    section = (REPOSITORY / "README.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [shlex.split(line)[2:] for block in blocks for line in block.splitlines() if line.startswith("python -m")]


@pytest.fixture
def site(tmp_path):
    """A working folder with the recordings that the README speaks of."""
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    write_clip(tmp_path / "my_clip")
    write_kitti_raw(tmp_path / "KITTI")
    points = np.array([point_at(u, v, 5 + u / 20) for u in range(10, 150, 10) for v in range(25, 45, 5)])
    write_scan(tmp_path / "KITTI", 1, points)
    (tmp_path / "train_files.txt").write_text(f"{DRIVE} 1 l\n{DRIVE} 2 l\n")
    (tmp_path / "test_files.txt").write_text(f"{DRIVE} 1 l\n")
    return tmp_path


def run(words: list[str], folder: pathlib.Path) -> str:
    extra = next((extra for start, extra in SHRINK.items() if " ".join(words).startswith(start)), ())
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # one device will do
    command = [sys.executable, "-m", *words, *extra]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_own_footage_from_check_to_depth(site):
    check, train, predict = commands("On your own footage")
    assert "field of view" in run(check, site)
    assert "step 2/2" in run(train, site)
    assert "going on" not in run(train, site)  # a finished run is left as it is
    assert "relative scale" in run(predict, site)
    written = {path.name for path in (site / "runs" / "overfit" / "depth").iterdir()}
    assert {"frame_8_depth.png", "frame_8_depth.npz", "frame_11_color.png"} <= written


def test_kitti_from_packing_to_report_and_depth(site):
    pack, train, evaluate, predict, *others = commands("On KITTI")
    assert [words[1] for words in others] == ["--config=configs/world_quickstart.py"]  # `make quickstart` runs that one
    run(pack, site)
    assert any((site / "KITTI_packed").rglob("*.array_record*"))
    assert "step 2/2" in run(train, site)
    run(evaluate, site)
    report = json.loads((site / "runs" / "kitti" / "eval" / "report.json").read_text())
    assert report["protocols"]["kitti_eigen"]["count"] == 1
    run(predict, site)
    assert (site / "runs" / "kitti" / "depth" / "0000000003_depth.png").is_file()


@takes_minutes
def test_structure_from_training_to_a_picture_of_features(site):
    train, _, features = commands("Structure before texture")
    run([*train, "--config.semantics.graph=fixed"], site)  # the learned graph takes longest to compile
    run(features, site)
    assert (site / "runs" / "structure" / "features.jpg").stat().st_size > 5_000


@takes_minutes
def test_weather_from_training_to_a_comparison_of_models(site):
    train, corrupt, compare = commands("In bad weather")
    run(train, site)
    assert "mRR" in run(corrupt, site)
    (site / "runs" / "quickstart").symlink_to(site / "runs" / "weather")
    run(compare, site)
    page = (site / "runs" / "adverse" / "report.html").read_text()
    assert "clear" in page
    assert "weather" in page

"""The training command as a user runs it: killed, stopped, continued, on other devices, and with what cannot work."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from robustdepth.runtime.checkpoint import committed_steps, load_weights
from robustdepth.runtime.config import CONFIG_FILE
from robustdepth.runtime.workdir import MEDIAN_FILE
from tests.conftest import REPOSITORY
from tests.recordings import write_clip

STEPS, EVERY = 12, 3
SMALL = (
    "--config.image_size=(32, 64)",
    "--config.batch_size=4",
    "--config.data.threads=1",
    "--config.model.encoder=resnet_tiny",
    "--config.model.pretrained=",
    "--config.model.freeze_encoder=False",
    "--config.model.scales=1",
    "--config.optimizer.warmup_steps=0",
    f"--config.optimizer.steps={STEPS}",
    f"--config.checkpoint.every={EVERY}",
    "--config.log.every=1",
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("clip") / "clip"
    write_clip(folder, count=6)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(clip, tmp_path_factory) -> pathlib.Path:
    """The workdir of a run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    finish(start(clip, workdir))
    return workdir


def begun(uninterrupted: pathlib.Path, workdir: pathlib.Path) -> pathlib.Path:
    """The workdir as that run left it before its first step, after it had measured the median depth of worlds."""
    workdir.mkdir()
    for name in (CONFIG_FILE, MEDIAN_FILE):  # what has compiled for longest need not be done by every run
        shutil.copy(uninterrupted / name, workdir)
    return workdir


def start(clip: pathlib.Path, workdir: pathlib.Path, *flags: str, devices=1, blocks=0) -> subprocess.Popen:
    """Starts the training command on the clip; no file may outgrow `blocks` of 512 bytes where given."""
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    limit = ["sh", "-c", f'ulimit -f {blocks} && exec "$@"', "sh"] if blocks else []
    command = [sys.executable, "-m", "robustdepth.train", "--config=tests/clip_config.py", f"--workdir={workdir}"]
    return subprocess.Popen(
        [*limit, *command, f"--config.data.root={clip}", *SMALL, *flags],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, status: int = 0) -> tuple[str, str]:
    """What the command printed; its exit status must be `status`."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, f"exit status {process.returncode}\n{out}\n{err}"
    return out, err


def interrupt(process: subprocess.Popen, workdir: pathlib.Path, number: signal.Signals) -> None:
    """Sends a signal as soon as the first checkpoint is whole."""
    while not committed_steps(workdir / "checkpoints"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(number)


def everything(workdir: pathlib.Path) -> list[np.ndarray]:
    """Parameters and batch statistics at the last step."""
    weights = load_weights(workdir, STEPS)
    return jax.tree.leaves((weights.params, weights.stats))


def losses(workdir: pathlib.Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    return {row["step"]: row["loss"] for row in rows}


@pytest.fixture(scope="module")
def killed(clip, uninterrupted, tmp_path_factory) -> pathlib.Path:
    """The workdir of a run that was killed before its end."""
    workdir = begun(uninterrupted, tmp_path_factory.mktemp("killed") / "run")
    process = start(clip, workdir)
    interrupt(process, workdir, signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    assert 0 < committed_steps(workdir / "checkpoints")[-1] < STEPS
    return workdir


def test_a_killed_run_goes_on_and_ends_bitwise_as_the_uninterrupted_one(clip, killed, uninterrupted, tmp_path):
    workdir = shutil.copytree(killed, tmp_path / "run")
    out, _ = finish(start(clip, workdir))
    assert "going on from the checkpoint of step" in out
    for ours, theirs in zip(everything(workdir), everything(uninterrupted), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert losses(workdir) == losses(uninterrupted)


def test_a_killed_run_goes_on_with_another_number_of_devices(clip, killed, uninterrupted, tmp_path):
    workdir = shutil.copytree(killed, tmp_path / "run")
    finish(start(clip, workdir, devices=4))
    ours, theirs = losses(workdir), losses(uninterrupted)
    assert ours.keys() == theirs.keys()
    first = committed_steps(killed / "checkpoints")[-1] + 1
    np.testing.assert_allclose(ours[first], theirs[first], rtol=1e-4)
    np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=0.02)


def test_sigterm_saves_and_ends_cleanly_and_the_run_goes_on_exactly(clip, uninterrupted, tmp_path):
    workdir = begun(uninterrupted, tmp_path / "run")
    process = start(clip, workdir)
    interrupt(process, workdir, signal.SIGTERM)
    out, _ = finish(process)
    assert "stopped by SIGTERM; saved at step" in out
    assert not (workdir / "finished").exists()
    finish(start(clip, workdir))
    for ours, theirs in zip(everything(workdir), everything(uninterrupted), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_finished_run_is_left_as_it_is(clip, uninterrupted):
    out, _ = finish(start(clip, uninterrupted))
    assert "nothing to do" in out


def test_steps_that_are_not_finite_stop_the_run_with_the_cause_and_the_batch(clip, tmp_path):
    _, err = finish(start(clip, tmp_path / "run", "--config.optimizer.learning_rate=1e30"), status=2)
    assert "steps in a row up to step" in err.splitlines()[-1]
    kept = sorted((tmp_path / "run" / "bad_batches").glob("*.npz"))
    assert len(kept) == 5
    command = [sys.executable, "-m", "robustdepth.training.replay", str(kept[0])]
    again = subprocess.run(command, cwd=REPOSITORY, env=os.environ | {"XLA_FLAGS": ""}, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "with the networks of step" in again.stdout
    assert "photometric" in again.stdout.splitlines()[-1]  # among what is not finite


def test_a_full_disk_ends_the_run_with_one_sentence_and_keeps_what_was_saved(clip, killed, tmp_path):
    workdir = shutil.copytree(killed, tmp_path / "run")
    before = committed_steps(workdir / "checkpoints")[-1]
    _, err = finish(start(clip, workdir, blocks=128), status=2)  # writing fails, as on a full disk
    assert "could not be saved" in err.splitlines()[-1]
    assert f"(step {before})" in err.splitlines()[-1]
    assert committed_steps(workdir / "checkpoints")[-1] == before
    out, _ = finish(start(clip, workdir))
    assert f"going on from the checkpoint of step {before}" in out


def test_two_processes_do_not_share_a_workdir(clip, tmp_path):
    first = start(clip, tmp_path / "run", "--config.optimizer.steps=100000")
    while not (tmp_path / "run" / "versions.json").exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.01)
    _, err = finish(start(clip, tmp_path / "run"), status=2)
    first.kill()
    first.communicate()
    assert "another process uses" in err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--config.optimizer.step=5"], "no key step. Did you mean steps instead"),
        (["--config.optimizer.lr=5"], "no key lr. configs/base.py lists all keys"),
        (["--config=configs/world_structure.py:fulll"], "configs/world_structure.py has no row 'fulll'"),
        (["--config=world_structure:"], "world_structure.py has no row ''"),
        (["--config=adapt:both"], "adapt.py has no rows: leave :both out"),
        (["--config.modle.dtype=x"], "no key modle. Did you mean model instead"),
        (["--config.batch_size=many"], "many"),
        (["--config.image_size=64x208"], "must be a tuple of 2 whole numbers"),
        (["--config.data.root=/nowhere"], "/nowhere"),
        (["--config=nowhere.py"], "config file nowhere.py does not exist"),
        (["--config=README.md"], "README.md, line "),
    ],
)
def test_flags_that_cannot_be_right_are_refused(clip, tmp_path, flags, sentence):
    _, err = finish(start(clip, tmp_path / "run", *flags), status=2)
    assert sentence in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("config.loss.photometrc = 1.0", "config.loss.photometrc is unknown: did you mean loss.photometric"),
        ("config.optimizer.ema_decay = 1.5", "config.optimizer.ema_decay=1.5 must be a number"),
        ("config.optimizer.steps = 'many'", "own.py, line 5: TypeError"),
        ("raise ZeroDivisionError('mine')", "own.py, line 5: ZeroDivisionError: mine"),
    ],
)
def test_a_config_file_is_checked_as_the_command_line_is(clip, tmp_path, line, sentence):
    body = ["config = overfit_clip.get_config()", line, "return config"]
    text = "\n    ".join(["from configs import overfit_clip\n\ndef get_config():", *body])
    (tmp_path / "own.py").write_text(text + "\n")
    command = [sys.executable, "-m", "robustdepth.train", f"--config={tmp_path / 'own.py'}"]
    command += [f"--workdir={tmp_path / 'run'}", f"--config.data.root={clip}"]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()

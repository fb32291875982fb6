"""Sweeps: a grid becomes the runs that were asked for, checked before the first and started one after another."""

import pathlib

import pytest

from launch import sweep
from robustdepth.errors import UserError
from tests.conftest import REPOSITORY


def test_values_are_split_outside_brackets():
    assert sweep.split_values("1e-3,2e-3") == ["1e-3", "2e-3"]
    assert sweep.split_values("(64, 208),(96, 320)") == ["(64, 208)", "(96, 320)"]
    assert sweep.split_values("fog|rain,snow(0.5-1.0)+night") == ["fog|rain", "snow(0.5-1.0)+night"]


def test_a_grid_becomes_every_combination_in_a_workdir_of_its_own():
    grid = sweep.parse_grid(["optimizer.learning_rate=1e-3,2e-3", "image_size=(64, 208),(96, 320)", "batch_size=4"])
    runs = sweep.expand("out", grid)
    assert [str(run.workdir) for run in runs] == [
        "out/optimizer.learning_rate=1e-3_image_size=64-208",
        "out/optimizer.learning_rate=1e-3_image_size=96-320",
        "out/optimizer.learning_rate=2e-3_image_size=64-208",
        "out/optimizer.learning_rate=2e-3_image_size=96-320",
    ]
    assert runs[1].overrides == ("optimizer.learning_rate=1e-3", "image_size=(96, 320)", "batch_size=4")
    signs = sweep.expand("out", {"data.frame_step": ["-1", "1"]})
    assert [run.workdir.name for run in signs] == ["data.frame_step=-1", "data.frame_step=1"]
    assert [str(run.workdir) for run in sweep.expand("out", {})] == ["out/run"]


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["optimizer.steps"], "is not KEY=VALUE"),
        (["optimizer.steps="], "is not KEY=VALUE"),
        (["optimizer.steps=1,,2"], "is not KEY=VALUE"),
        (["=3"], "is not KEY=VALUE"),
        (["optimizer.steps=3,4,3"], "names a value twice"),
        (["optimizer.steps=3", "optimizer.steps=4"], "is given twice"),
    ],
)
def test_a_grid_that_cannot_be_right_is_refused(texts, sentence):
    with pytest.raises(UserError, match=sentence):
        sweep.parse_grid(texts)


def test_workdirs_that_would_clash_or_be_too_long_are_refused():
    with pytest.raises(UserError, match="would share the workdir"):
        sweep.expand("out", {"weather.spec": ["fog|rain", "fog/rain"]})
    with pytest.raises(UserError, match="vary fewer keys"):
        sweep.expand("out", {"key": ["a" * 300, "b"]})


@pytest.mark.parametrize(
    ("config", "overrides", "sentence"),
    [
        ("configs/world_quickstart.py", ("optimizer.step=5",), "did you mean optimizer.steps"),
        ("configs/world_quickstart.py", ("batch_size=many",), "batch_size"),
        ("configs/world_quickstart.py", ("image_size=(60, 64)",), "multiples of 16"),
        ("configs/nowhere.py", (), "does not exist"),
        ("robustdepth/errors.py", (), "it needs get_config"),
    ],
)
def test_a_sweep_is_checked_before_its_first_run(monkeypatch, config, overrides, sentence):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(UserError, match=sentence):
        sweep.check(config, [sweep.Run(pathlib.Path("out"), overrides)])


def test_commands_train_here_or_are_submitted_with_options():
    runs = [sweep.Run(pathlib.Path("out/a"), ("image_size=(64, 208)",))]
    flags = ["--config=c.py", "--workdir=out/a", "--config.image_size=(64, 208)"]
    assert sweep.commands("c.py", runs, "local", "") == [["launch/local.sh", *flags]]
    options = ["sbatch", "--gpus=1", "--time=4:00:00", "launch/slurm.sbatch"]
    assert sweep.commands("c.py", runs, "slurm", "--gpus=1 --time=4:00:00") == [[*options, *flags]]


def test_a_failing_run_does_not_keep_the_others_from_starting(tmp_path, capfd):
    runs = [sweep.Run(tmp_path / name, ()) for name in ("done", "bad", "good")]
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "finished").write_text("1\n")
    with pytest.raises(UserError, match=r"1 of 3 runs failed: .*/bad \(status 3\)"):
        sweep.launch(runs, [["false"], ["sh", "-c", "exit 3"], ["echo", "trained", "good"]])
    assert "trained good" in capfd.readouterr().out


def test_without_slurm_a_sweep_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="there is no sbatch-of-nowhere here: use --on=print"):
        sweep.launch([sweep.Run(tmp_path, ())], [["sbatch-of-nowhere"]])

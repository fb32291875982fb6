"""Ablations: the family's rows and overrides, what is done and what is not done twice, and the table's arithmetic."""

import json
import math
import pathlib
import shutil
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from configs import world_structure
from robustdepth.errors import UserError
from robustdepth.evaluation import ablation, run
from robustdepth.evaluation.ablation import plan_evaluations, run_ablation, scores_of, summarise, table
from robustdepth.evaluation.run import Options
from robustdepth.runtime.family import choose_rows, configs_of, load_family
from robustdepth.training.loop import train
from tests.checkpoints import save_untrained
from tests.conftest import REPOSITORY
from tests.evaluation_fakes import FakeSamples
from tests.tiny import random_batch, tiny_config

FAMILY = """
from tests.tiny import tiny_config

ROWS = {"base": {}, "smooth": {"loss.smoothness": 0.01}}


def get_config(row):
    config = tiny_config(steps=2)
    config.name = f"tiny_{row}"
    config.update_from_flattened_dict(ROWS[row])
    return config
"""


@pytest.fixture
def family(tmp_path):
    (tmp_path / "family.py").write_text(FAMILY)
    return load_family(str(tmp_path / "family.py"))


@pytest.fixture(autouse=True)
def no_renderer(monkeypatch):
    """Noise for training, two made-up frames for every protocol: compiling the renderer takes longest of all."""

    def render_examples(indices, *, seed, split, size, views, devices=()):
        depth = np.full((len(indices), 1, *size), 10.0, np.float32)
        return random_batch(tiny_config(), seed), SimpleNamespace(depth=depth, labels=np.zeros(depth.shape, np.int32))

    monkeypatch.setattr("robustdepth.world.generate.render_examples", render_examples)
    monkeypatch.setattr(run, "protocol_samples", lambda protocol, **_: FakeSamples(2, size=(32, 64)))


@pytest.fixture
def as_in_production():
    """Types promote as usual: optax multiplies floats with its integer count."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def plan(weather=("fog",), **options) -> dict[str, Options]:
    options = {"corruptions": ["brightness"], "severities": ["2"], "batch_size": 8} | options
    return plan_evaluations(Options(["world"], **options), weather)


def finished_at_once(config, workdir):
    """Stands for a training: an untrained network, marked as finished."""
    save_untrained(config, pathlib.Path(workdir), step=config.optimizer.steps)
    (workdir / "finished").write_text("2\n")
    return True


def test_rows_are_trained_evaluated_and_compared_and_nothing_is_done_twice(family, tmp_path, as_in_production, capsys):
    out = tmp_path / "out"
    experiments = configs_of(family, ("base", "smooth"), (3,), ["optimizer.learning_rate=0.001"])

    def train_the_first(config, workdir):
        return (train if config.name == "tiny_base" else finished_at_once)(config, workdir)

    run_ablation(str(out), experiments, plan(), ["optimizer.learning_rate=0.001"], train_the_first)
    kept = {row: json.loads((out / row / "seed_3" / "config.json").read_text()) for row in ("base", "smooth")}
    assert [kept[row]["loss"]["smoothness"] for row in kept] == [1e-3, 0.01]
    assert [(kept[row]["seed"], kept[row]["optimizer"]["learning_rate"]) for row in kept] == [(3, 0.001)] * 2
    content = json.loads((out / "ablation.json").read_text())["protocols"]["world"]
    for training in content["trainings"]:
        folder = out / training["row"] / "seed_3" / "evaluation"
        clean = json.loads((folder / "clean" / "report.json").read_text())["protocols"]["world"]
        fog = json.loads((folder / "fog" / "report.json").read_text())["protocols"]["world[fog]"]
        brightness = clean["corruptions"]["by_corruption"]["brightness"]["by_severity"]["2"]["abs_rel"]
        assert training["clean"] == clean["metrics"]["abs_rel"]
        assert training["corrupted"] == pytest.approx(brightness, rel=1e-12)
        assert training["weather"] == fog["metrics"]["abs_rel"]
        assert content["rows"][training["row"]]["clean"]["mean"] == training["clean"]
    text = (out / "ablation.md").read_text()
    assert text in capsys.readouterr().out
    assert "| smooth | 1 | " in text

    reports = sorted(out.rglob("report.json"))
    before = {path: path.stat().st_mtime_ns for path in reports}
    assert len(reports) == 4
    lost, damaged = out / "base/seed_3/evaluation/fog", out / "smooth/seed_3/evaluation/fog/report.json"
    shutil.rmtree(lost)
    damaged.write_text(damaged.read_text()[:-20])  # as a kill leaves it

    def not_again(config, workdir):
        raise AssertionError("a finished training is started again")

    run_ablation(str(out), experiments, plan(), ["optimizer.learning_rate=0.001"], not_again)
    changed = {path for path in reports if path.stat().st_mtime_ns != before[path]}
    assert changed == {lost / "report.json", damaged}
    assert json.loads((out / "ablation.json").read_text())["protocols"]["world"] == content


def test_sigterm_in_a_trainings_last_step_ends_the_ablation(family, tmp_path, capsys):
    def asked_to_stop(config, workdir):
        finished_at_once(config, workdir)
        return False

    out = tmp_path / "out"
    run_ablation(str(out), configs_of(family, ("base", "smooth"), (0,), []), plan(weather=()), [], asked_to_stop)
    assert "goes on there when the same command is given again" in capsys.readouterr().out
    assert [path.parent.parent.name for path in out.rglob("finished")] == ["base"]
    assert not list(out.rglob("report.json"))


def test_other_options_or_another_experiment_in_a_folder_are_refused(family, tmp_path):
    out = str(tmp_path / "out")
    run_ablation(out, configs_of(family, ("base",), (0,), []), plan(weather=()), [], finished_at_once)
    run_ablation(out, configs_of(family, ("base",), (0, 1), []), plan(weather=()), [], finished_at_once)
    rows = configs_of(family, ("base",), (0,), [])
    for evaluations, overrides, sentence in (
        (plan(weather=(), severities=[2, 3]), [], "with --severities=2, this is with 2,3: choose another --output"),
        (plan(weather=("snow",)), [], "with --weather=, this is with snow"),
        (plan(weather=()), ["optimizer.steps=9"], "with --set=, this is with optimizer.steps=9"),
    ):
        with pytest.raises(UserError, match=sentence):
            run_ablation(out, rows, evaluations, overrides, finished_at_once)
    with pytest.raises(UserError, match=r"belongs to another experiment: .*optimizer.steps \(2 there, 9 now\)"):
        run_ablation(
            out, configs_of(family, ("base",), (0,), ["optimizer.steps=9"]), plan(weather=()), [], finished_at_once
        )


def test_a_training_that_sigterm_stopped_is_not_evaluated(family, tmp_path, capsys):
    experiments = configs_of(family, ("base", "smooth"), (0,), [])
    run_ablation(str(tmp_path / "out"), experiments, plan(), [], lambda config, workdir: workdir.mkdir(parents=True))
    assert "goes on there when the same command is given again" in capsys.readouterr().out
    assert not list(tmp_path.rglob("report.json"))
    assert not (tmp_path / "out" / "smooth").exists()


def report_of(name, abs_rel, corruptions=None):
    """What evaluation writes, as far as an ablation reads it."""
    entry = {"metrics": {"abs_rel": abs_rel}, "baselines": {"a": {"abs_rel": 0.5}, "b": {"abs_rel": 0.4}}}
    if corruptions:
        entry["corruptions"] = {"by_corruption": {key: {"abs_rel": value} for key, value in corruptions.items()}}
    return {"protocols": {name: entry}}


def test_scores_and_table_with_known_numbers():
    results = {}
    for row, seed, clean, noise, blur, fog, rain in (
        ("base", 0, 0.20, 0.30, 0.50, 0.24, 0.32),
        ("base", 1, 0.22, 0.34, 0.50, 0.28, 0.32),
        ("base", 2, 0.24, 0.38, 0.50, 0.32, 0.32),
        ("full", 0, 0.11, 0.21, 0.21, 0.20, 0.25),
    ):
        reports = {
            "clean": report_of("world", clean, {"noise": noise, "blur": blur}),
            "fog": report_of("world[fog]", fog),
            "rain": report_of("world[rain]", rain),
        }
        results[row, seed] = scores_of(reports)
    scores = results["base", 0]["world"]
    assert (scores["corrupted"], scores["weather"]) == (pytest.approx(0.40), pytest.approx(0.28))
    assert scores["by_weather"] == {"fog": 0.24, "rain": 0.32}
    assert scores["baseline"] == 0.4
    rows = summarise(results, "world")
    assert list(rows) == ["base", "full"]
    assert rows["base"]["clean"] == pytest.approx({"mean": 0.22, "std": 0.02, "n": 3, "ratio": 1.0})
    assert rows["base"]["corrupted"] == pytest.approx({"mean": 0.42, "std": 0.02, "n": 3, "ratio": 1.0})
    std = math.sqrt(((0.28 - 0.30) ** 2 + 0.0 + (0.32 - 0.30) ** 2) / 2)
    assert rows["base"]["weather"] == pytest.approx({"mean": 0.30, "std": std, "n": 3, "ratio": 1.0})
    assert rows["full"]["clean"] == {"mean": 0.11, "std": None, "n": 1, "ratio": pytest.approx(0.5)}
    assert rows["full"]["weather"]["ratio"] == pytest.approx(0.75)
    assert table(rows).splitlines() == [
        "|      | n | clean AbsRel    | ratio | corrupted AbsRel | ratio | weather AbsRel  | ratio |",
        "|------|---|-----------------|-------|------------------|-------|-----------------|-------|",
        "| base | 3 | 0.2200 ± 0.0200 | 1.000 | 0.4200 ± 0.0200  | 1.000 | 0.3000 ± 0.0200 | 1.000 |",
        "| full | 1 | 0.1100          | 0.500 | 0.2100           | 0.500 | 0.2250          | 0.750 |",
    ]


def test_what_was_not_measured_has_no_column():
    results = {("base", 0): scores_of({"clean": report_of("world", 0.2)})}
    assert list(summarise(results, "world")["base"]) == ["clean"]
    assert table(summarise(results, "world")).splitlines()[0] == "|      | n | clean AbsRel | ratio |"


def test_overrides_are_typed_as_flags_are(family):
    texts = ["optimizer.steps=600", "data.flip=False", "optimizer.drops=(0.5, 0.9)", "name=a b", "model.pose_scale=1"]
    config = configs_of(family, ("smooth",), (4,), texts)["smooth", 4]
    assert (config.optimizer.steps, config.data.flip, config.optimizer.drops) == (600, False, (0.5, 0.9))
    assert (config.name, config.model.pose_scale, config.seed, config.loss.smoothness) == ("a b", 1.0, 4, 0.01)
    assert isinstance(config.model.pose_scale, float)


@pytest.mark.parametrize(
    ("rows", "overrides", "sentence"),
    [
        (("base", "smoth"), [], "unknown row 'smoth': did you mean smooth"),
        (("base",), ["optimizer.step=6"], "has no key optimizer.step; did you mean optimizer.steps"),
        (("base",), ["optimizer.steps=many"], r"--set=optimizer.steps=many cannot be applied: .*'many'"),
        (("base",), ["optimizer.steps"], "is not KEY=VALUE"),
        (("base",), ["seed=3"], "seeds are given with --seeds"),
        (("base",), ["image_size=(30, 64)"], "must be multiples of 16"),
        (("base", "smooth"), ["loss.smoothness=0.1"], "would undo what the rows base,smooth differ in"),
    ],
)
def test_rows_and_overrides_that_cannot_be_are_refused(family, rows, overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        configs_of(family, choose_rows(family, rows), (0,), overrides)


def test_files_that_are_no_families(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_family(str(tmp_path / "none.py"))
    with pytest.raises(UserError, match=r"needs ROWS and get_config\(row\)"):
        load_family("configs/base.py")
    with pytest.raises(UserError, match=r"real_streets\.py:both is one row: .* rows with --rows"):
        load_family("real_streets:both")
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(UserError, match=r"ends\.py, line 2: SystemExit: 0"):
        load_family(str(tmp_path / "ends.py"))
    with pytest.raises(UserError, match="leave --protocols=odometry out"):
        plan_evaluations(Options(["odometry"]), [])


def test_all_rows_of_the_structure_family_can_be_run():
    family = load_family("configs/world_structure.py")
    assert choose_rows(family, []) == family.rows == tuple(world_structure.ROWS)
    names = [config.name for config in configs_of(family, family.rows, (0,), []).values()]
    assert len(set(names)) == len(family.rows)


def test_the_command_refuses_with_one_sentence(tmp_path):
    command = [
        sys.executable,
        "-m",
        "robustdepth.ablate",
        "--family=configs/world_structure.py",
        f"--output={tmp_path}",
    ]
    done = subprocess.run([*command, "--seeds=0,x"], capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (2, "error: --seeds has 'x': seeds are whole numbers, such as 0,1,2.\n")
    done = subprocess.run([*command, "--rows=bases"], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown row 'bases': did you mean base")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_or_read(family, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write in .*file .*: choose another --output"):
        run_ablation(str(tmp_path / "file"), configs_of(family, ("base",), (0,), []), plan(), [], finished_at_once)
    (tmp_path / ablation.OPTIONS_FILE).write_text("{")
    with pytest.raises(UserError, match=r"options.json is damaged"):
        run_ablation(str(tmp_path), configs_of(family, ("base",), (0,), []), plan(), [], finished_at_once)

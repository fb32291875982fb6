"""The best networks by a protocol while training: with the numbers of `evaluate`, and lost to no worse step or kill."""

import dataclasses
import json
import resource

import jax
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.evaluation.protocols import PROTOCOLS
from robustdepth.evaluation.run import Options, run_evaluation
from robustdepth.evaluation.validation import Some, open_validation
from robustdepth.geometry.camera import make_camera
from robustdepth.runtime import config as configs
from robustdepth.runtime.best import Validation, best_file, read_best
from robustdepth.runtime.bundle import read_model
from robustdepth.runtime.checkpoint import load_weights
from robustdepth.runtime.init_from import init_from
from robustdepth.runtime.workdir import Workdir
from robustdepth.training import loop
from robustdepth.training.validation import Validator
from robustdepth.types import EvalSample
from tests.checkpoints import save_untrained, small_state
from tests.tiny import tiny_config
from tests.toy_training import toy_config, use_toy

SCORES = {1: 0.5, 2: 0.3, 3: 0.4, 4: 0.3, 5: 0.2, 6: 0.6}


@pytest.fixture(autouse=True)
def optax_promotes_types():
    """Optax multiplies Python floats with its integer step count, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def scripted(config, workdir, higher: bool = False) -> Validation:
    """Judges a step as SCORES says."""
    return Validation(lambda weights: {"abs_rel": SCORES[weights.step], "delta1": SCORES[weights.step]}, higher)


def validated(config, every: int = 1):
    config.validate.update(protocol="world", every=every)
    return config


def run_steps(config, workdir, steps, open_with=scripted, ema=False) -> list[dict[str, float]]:
    validator = Validator(config, workdir, open_with)
    return [validator.run(small_state(float(step), step, ema), step) for step in steps]


def kernel(path) -> np.ndarray:
    return read_model(path).params["depth"]["kernel"]


def test_what_is_logged_is_what_evaluate_says_of_the_checkpoint_and_of_the_best(tmp_path, monkeypatch):
    """With a real network on the real protocol, shortened."""
    monkeypatch.setitem(PROTOCOLS, "world", dataclasses.replace(PROTOCOLS["world"], count=4))
    config, run = validated(tiny_config()), tmp_path / "run"
    config.validate.count = 0
    state = save_untrained(config, run, step=5)
    save_blank_median(run)
    found = Validator(config, run, open_validation).run(state, 5)
    logged = {name.removeprefix("validation/"): value for name, value in found.items()}
    (result,) = run_evaluation(str(run / "checkpoints" / "5"), str(tmp_path / "out"), Options(["world"]))
    assert result.metrics == logged
    assert len(result.per_image) == 4
    assert 0 < logged["abs_rel"] == read_best(run).value
    best, newest = read_model(run / "best"), load_weights(run)
    jax.tree.map(np.testing.assert_array_equal, (best.params, best.stats), (newest.params, newest.stats))

    config.validate.count = 3  # the first worlds
    few = open_validation(config, run).judge(best)
    assert few["abs_rel"] == pytest.approx(np.mean([frame["abs_rel"] for frame in result.per_image[:3]]), rel=1e-12)

    blank = {"params": jax.tree.map(np.zeros_like, best.params["depth"]), "batch_stats": {}}
    filled, lines = init_from(str(run / "best"), {"depth": blank})
    assert "100.0% of its numbers" in lines[0]
    jax.tree.map(np.testing.assert_array_equal, filled["depth"]["params"], best.params["depth"])


def test_the_best_are_kept_and_never_given_up_for_worse_or_equal_ones(tmp_path, capsys):
    config = validated(tiny_config(steps=6), every=2)
    run_steps(config, tmp_path, [1, 2])
    assert (read_best(tmp_path).value, read_best(tmp_path).step) == (0.3, 2)
    run_steps(config, tmp_path, [3, 4])  # a process that goes on knows it again
    assert read_best(tmp_path).step == 2
    np.testing.assert_array_equal(kernel(tmp_path / "best"), np.full((4, 3), 2.0))
    assert run_steps(config, tmp_path, [5]) == [{"validation/abs_rel": 0.2, "validation/delta1": 0.2}]
    np.testing.assert_array_equal(kernel(tmp_path / "best"), np.full((4, 3), 5.0))
    out = capsys.readouterr().out.splitlines()
    assert out[2] == "validation at step 3: abs_rel 0.4000 on world; the best is 0.3000 at step 2"
    assert out[4].endswith(f"abs_rel 0.2000 on world; the best so far, kept in {tmp_path / 'best'}")
    validator = Validator(config, tmp_path, scripted)
    assert [step for step in range(1, 8) if validator.due(step)] == [2, 4, 6]
    config.validate.every = 4
    assert [step for step in range(1, 8) if validator.due(step)] == [4, 6]  # the last step of the run, too
    config.validate.protocol = "none"
    assert not Validator(config, tmp_path, None).due(4)


def test_a_metric_of_which_more_is_better_and_averaged_networks(tmp_path):
    config = validated(tiny_config(steps=6))
    config.validate.metric = "delta1"
    run_steps(config, tmp_path, [1, 2, 3], lambda *given: scripted(*given, higher=True), ema=True)
    assert (read_best(tmp_path).value, read_best(tmp_path).step) == (0.5, 1)
    np.testing.assert_array_equal(kernel(tmp_path / "best"), np.full((4, 3), 101.0))  # small_state's averages
    assert open_validation_metric("world", "delta1", tmp_path).higher_is_better


def test_any_number_is_better_than_none(tmp_path, monkeypatch):
    monkeypatch.setitem(SCORES, 1, float("nan"))
    run_steps(validated(tiny_config()), tmp_path, (1,))
    run_steps(validated(tiny_config()), tmp_path, (6,))  # a new process, which reads what is known
    assert (read_best(tmp_path).step, read_best(tmp_path).value) == (6, 0.6)


def save_blank_median(workdir) -> None:
    np.savez(workdir / "train_median.npz", depth=np.full((4, 8), 20.0, np.float32))


def open_validation_metric(protocol: str, metric: str, workdir) -> Validation:
    config = validated(tiny_config())
    config.validate.update(protocol=protocol, metric=metric, count=4)
    save_blank_median(workdir)
    return open_validation(config, workdir)


def test_what_cannot_be_validated_is_said_at_the_start(tmp_path):
    with pytest.raises(UserError, match=r'validate.metric="abs_rell": world has no such; did you mean abs_rel'):
        open_validation_metric("world", "abs_rell", tmp_path)
    with pytest.raises(UserError, match="kitti_eigen_improved has no such"):
        open_validation_metric("kitti_eigen_improved", "boundary_f1", tmp_path)
    with pytest.raises(UserError, match="protocol kitti_sparse_frames needs --data_root"):
        open_validation_metric("kitti_sparse_frames", "rmse", tmp_path)
    config = validated(tiny_config())
    with pytest.raises(UserError, match=r"give train\(\.\.\., open_validation=\.\.\.\)"):
        Validator(config, tmp_path, None)
    config.task, config.data.views = "stereo", ("stereo",)
    with pytest.raises(UserError, match=r'validate.protocol="world" judges depth, and config.task="stereo"'):
        configs.check(config)


def test_the_best_by_something_else_are_not_compared_with(tmp_path):
    config = validated(tiny_config(steps=6))
    run_steps(config, tmp_path, [1])
    config.validate.count = 7
    with pytest.raises(
        UserError, match=r"chosen by abs_rel on config\.validate\.count=32 frames of world, .*abs_rel, 7"
    ):
        Validator(config, tmp_path, scripted)
    best_file(tmp_path).write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged"):
        Validator(config, tmp_path, scripted)


def test_frames_that_cannot_be_read_cost_a_validation_and_not_the_training(tmp_path, caplog):
    def broken(weights):
        raise UserError("the disk is away.")

    config = validated(tiny_config(steps=6))
    assert run_steps(config, tmp_path, [1], lambda *_: Validation(broken, False)) == [{}]
    assert read_best(tmp_path) is None
    assert "step 1 is not validated: the disk is away." in caplog.text


def test_a_full_disk_leaves_the_best_from_before_and_nothing_half_written(tmp_path):
    config = validated(tiny_config(steps=6))
    run_steps(config, tmp_path, [1])
    before = best_file(tmp_path).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))  # writing fails, as on a full disk
    try:
        with pytest.raises(UserError, match=r"best networks so far, of step 2, cannot be written in .*best \(File too"):
            run_steps(config, tmp_path, [2])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in best_file(tmp_path).parent.iterdir()] == ["model.safetensors"]
    assert best_file(tmp_path).read_bytes() == before
    run_steps(config, tmp_path, [2])
    assert read_best(tmp_path).step == 2


def test_a_run_without_a_checkpoint_that_takes_another_config_forgets_its_best(tmp_path):
    config, workdir = validated(tiny_config(steps=6)), tmp_path / "run"
    with Workdir(workdir, config):
        run_steps(config, workdir, [1])
    with Workdir(workdir, config):
        assert read_best(workdir) is not None
    config.image_size = (64, 64)
    with Workdir(workdir, config):
        assert read_best(workdir) is None


def test_recordings_are_taken_at_even_distances():
    camera = make_camera(40.0, 40.0, 3.5, 1.5, (4, 8))
    frames = [EvalSample(np.zeros((4, 8, 3), np.uint8), np.ones((4, 8)), camera, str(number)) for number in range(10)]
    assert [sample.name for sample in Some(frames, 4)] == ["0", "2", "5", "7"]


def test_a_stopped_training_ends_with_the_same_best_and_logs(tmp_path, monkeypatch):
    use_toy(monkeypatch)
    config = validated(toy_config(tmp_path, steps=6))
    config.log.every = 4
    for name, stop in (("whole", None), ("stopped", 3)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop._Loop, "_stops", lambda self, now, stop=stop: now == stop)
            loop.train(config, tmp_path / name, open_validation=scripted)
        loop.train(config, tmp_path / name, open_validation=scripted)
    assert read_best(tmp_path / "whole").step == 5
    assert read_best(tmp_path / "stopped") == read_best(tmp_path / "whole")
    np.testing.assert_array_equal(kernel(tmp_path / "stopped" / "best"), kernel(tmp_path / "whole" / "best"))
    rows = {
        name: [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "stopped")
    }
    for found in rows.values():
        assert {row["step"]: row["validation/abs_rel"] for row in found} == SCORES
    assert [row["loss"] for row in rows["stopped"]] == [row["loss"] for row in rows["whole"]]
    board = b"".join(path.read_bytes() for path in (tmp_path / "whole" / "tensorboard").iterdir())
    assert b"validation/abs_rel" in board

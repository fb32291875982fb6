"""Jobs of several processes on one machine: real ones, Gloo over loopback; what differs must be the speed alone."""

import pathlib
import shutil
import signal
import time

import numpy as np
import pytest

from robustdepth.runtime.best import read_best
from robustdepth.runtime.bundle import read_model
from robustdepth.runtime.checkpoint import committed_steps, load_weights
from tests.conftest import takes_minutes
from tests.jobs import FOREVER, STEPS, await_checkpoint, finish, kernel, losses, start, succeed
from tests.recordings import write_clip

pytestmark = pytest.mark.usefixtures("compiled_for_real")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("clip") / "clip"
    write_clip(folder, count=20)
    return folder


@pytest.fixture(scope="module")
def alone(clip, tmp_path_factory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("alone") / "run"
    succeed(start(clip, workdir))
    return workdir


@pytest.fixture(scope="module")
def pair(clip, tmp_path_factory) -> pathlib.Path:
    """The workdir of a job of two processes."""
    workdir = tmp_path_factory.mktemp("pair") / "run"
    first, second = succeed(start(clip, workdir, processes=2))
    assert "trained to step 8" in first.out
    assert "step" not in second.out  # process 0 speaks for all
    return workdir


def test_losses_are_the_same_with_two_processes(alone, pair):
    np.testing.assert_allclose(losses(pair), losses(alone), rtol=1e-6)  # sums of four numbers in another order
    np.testing.assert_allclose(kernel(pair), kernel(alone), rtol=1e-5)


def test_losses_are_the_same_with_four_processes(clip, alone, tmp_path):
    succeed(start(clip, tmp_path / "run", processes=4))
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(alone), rtol=1e-6)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_another_number_of_processes_goes_on(clip, alone, pair, tmp_path, before, after):
    workdir = shutil.copytree(pair if before == 2 else alone, tmp_path / "run")
    (workdir / "finished").unlink()
    for step in committed_steps(workdir / "checkpoints")[1:]:
        shutil.rmtree(workdir / "checkpoints" / str(step))
    step = committed_steps(workdir / "checkpoints")[-1]
    assert step < STEPS
    ended = succeed(start(clip, workdir, processes=after))
    assert f"going on from the checkpoint of step {step}" in ended[0].out
    np.testing.assert_allclose(losses(workdir), losses(alone), rtol=1e-6)


def test_a_damaged_checkpoint_is_passed_over_by_all_and_training_goes_on_exactly(clip, pair, tmp_path):
    workdir = shutil.copytree(pair, tmp_path / "run")
    (workdir / "finished").unlink()
    newest = committed_steps(workdir / "checkpoints")[-1]
    for file in (workdir / "checkpoints" / str(newest)).rglob("*"):
        if file.is_file() and "d" in file.parent.name:
            file.write_bytes(b"damaged")
    ended = succeed(start(clip, workdir, processes=2))
    assert all(f"checkpoint of step {newest} is damaged" in process.err for process in ended)
    assert losses(workdir) == losses(pair)  # with as many processes, bitwise
    np.testing.assert_array_equal(kernel(workdir), kernel(pair))


@pytest.mark.parametrize("failures", [2, 1000])
def test_a_read_error_of_one_process_passes_or_ends_all_with_nothing_moved(clip, pair, tmp_path, failures):
    workdir = shutil.copytree(pair, tmp_path / "run")
    (workdir / "finished").unlink()
    steps = committed_steps(workdir / "checkpoints")
    shutil.rmtree(workdir / "checkpoints" / str(steps.pop()))
    ended = finish(start(clip, workdir, processes=2, own={1: (f"--failing_reads={failures}",)}))
    assert "cannot be read now (Input/output error); trying again" in ended[1].err.replace("[Errno 5] ", "")
    if failures == 2:
        assert [process.status for process in ended] == [0, 0], ended
        assert f"going on from the checkpoint of step {steps[-1]}" in ended[0].out
        assert losses(workdir) == losses(pair)
    else:
        for process in ended:
            assert process.status == 2, ended
            assert f"the checkpoint of step {steps[-1]}" in process.err.splitlines()[-1]
            assert "nothing was moved" in process.err.splitlines()[-1]
        assert committed_steps(workdir / "checkpoints") == steps
    assert not (workdir / "checkpoints_damaged").exists()


def test_a_lost_process_ends_the_others_and_the_job_goes_on(clip, tmp_path):
    job = start(clip, tmp_path / "run", "--lost_seconds=20", *FOREVER, processes=2)
    await_checkpoint(job, tmp_path / "run")
    job[1].kill()
    left, _ = finish(job)
    assert left.status not in (0, None)
    assert "lost another process" in left.err or "another task died" in left.err
    step = committed_steps(tmp_path / "run" / "checkpoints")[-1]
    stop = (*FOREVER, "--config.log.every=1")
    job = start(clip, tmp_path / "run", *stop, processes=2)
    while not any(step < saved for saved in committed_steps(tmp_path / "run" / "checkpoints")):
        assert all(process.poll() is None for process in job), finish(job)
        time.sleep(0.01)
    job[0].send_signal(signal.SIGTERM)
    first, _ = succeed(job)
    assert f"going on from the checkpoint of step {step}" in first.out


def test_sigterm_at_one_process_stops_all_at_one_step(clip, tmp_path):
    """While it waits for the other one's validation, which is not lost."""
    held, flags = tmp_path / "held", ("--config.validate.protocol=world", "--config.validate.every=3")
    job = start(clip, tmp_path / "run", *FOREVER, *flags, f"--holds={held}", processes=2)
    while not held.exists():
        assert all(process.poll() is None for process in job), finish(job)
        time.sleep(0.01)
    job[1].send_signal(signal.SIGTERM)
    held.unlink()
    first, _ = succeed(job)
    saved = committed_steps(tmp_path / "run" / "checkpoints")[-1]
    assert f"stopped by SIGTERM; saved at step {saved}" in first.out
    assert first.out.count("validation at step 3:") == 1
    assert read_best(tmp_path / "run").step == (3 if saved < 6 else 6)
    assert not (tmp_path / "run" / "finished").exists()


def test_different_configs_are_refused_on_every_process(clip, tmp_path):
    ended = finish(start(clip, tmp_path / "run", processes=2, own={1: ("--config.optimizer.learning_rate=0.5",)}))
    for process in ended:
        assert process.status == 2, ended
        assert "config.optimizer.learning_rate is 0.0003 on process 0 and 0.5 on process 1" in process.err
        assert "Traceback" not in process.err
    assert not (tmp_path / "run").exists()


def test_workdirs_that_are_not_shared_are_refused_on_every_process(clip, pair, tmp_path):
    """Half of the job would resume from another step."""
    workdirs = [shutil.copytree(pair, tmp_path / name) for name in "ab"]
    for workdir in workdirs:
        (workdir / "finished").unlink()
    steps = committed_steps(workdirs[1] / "checkpoints")
    shutil.rmtree(workdirs[1] / "checkpoints" / str(steps[-1]))
    ended = finish(start(clip, workdirs[0], processes=2, own={1: (f"--workdir={workdirs[1]}",)}))
    for process in ended:
        assert process.status == 2, ended
        assert f"({steps[-1]} on process 0, {steps[-2]} on process 1)" in process.err


def test_steps_that_are_not_finite_stop_every_process_with_the_cause(clip, tmp_path):
    ended = finish(start(clip, tmp_path / "run", "--broken_after=2", processes=2))
    for process in ended:
        assert process.status == 2, ended
        assert "5 steps in a row up to step 7 were not finite" in process.err
    with np.load(tmp_path / "run" / "bad_batches" / "7.npz") as kept:
        assert kept["target"].shape == (8, 32, 64, 3)  # the rows of both


def test_a_collapsed_training_begins_again_on_every_process(clip, tmp_path):
    """As in a single process, whose losses after the restart are the same."""
    flags = ("--collapses", "--config.health.restarts=1")
    jobs = {count: start(clip, tmp_path / str(count), *flags, processes=count) for count in (1, 2)}
    for count, job in jobs.items():
        ended = succeed(job)
        assert ended[0].out.count("depth has collapsed at step 4") == 1
        assert "(restart 1 of 1)" in ended[0].out
        assert committed_steps(tmp_path / str(count) / "checkpoints")[-1] == STEPS
    assert len(losses(tmp_path / "2")) == STEPS  # of the trial that counts
    np.testing.assert_allclose(losses(tmp_path / "2"), losses(tmp_path / "1"), rtol=1e-6)
    np.testing.assert_allclose(kernel(tmp_path / "2"), kernel(tmp_path / "1"), rtol=1e-5)


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--teacher=missing", "the weights are missing."),
        ("--weights=missing", "the weights are missing."),
        pytest.param("--teacher=another", "SHA-256 of the teachers' weights is", marks=takes_minutes),
        pytest.param("--weights=another", "SHA-256 of the weights to start from is", marks=takes_minutes),
    ],
)
def test_weights_that_one_process_lacks_or_has_others_of_end_all(clip, tmp_path, flag, sentence):
    for process in finish(start(clip, tmp_path / "run", processes=2, own={1: (flag,)})):
        assert process.status == 2, process
        assert sentence in process.err.splitlines()[-1]


def test_what_one_process_refuses_all_do(clip, pair):
    flags = ("--config.optimizer.learning_rate=0.5", "--config.optimizer.steps=9")
    for process in finish(start(clip, pair, *flags, processes=2)):
        assert process.status == 2
        assert "belongs to another experiment" in process.err


def test_one_process_keeps_the_best_networks_of_all(clip, pair, tmp_path):
    flags = ("--config.validate.protocol=world", "--config.validate.every=3")
    first, _ = succeed(start(clip, tmp_path / "run", *flags, processes=2))
    assert first.out.count("validation at step") == 3  # 3, whose number is none, 6 and the last
    assert read_best(tmp_path / "run").step == 6
    best = read_model(tmp_path / "run" / "best").params["depth"]["kernel"]
    np.testing.assert_array_equal(best, load_weights(pair, 6).params["depth"]["kernel"])
    assert losses(tmp_path / "run") == losses(pair)


def test_a_finished_run_is_extended_by_all_processes_or_by_none(clip, pair, tmp_path):
    workdir, longer = shutil.copytree(pair, tmp_path / "run"), ("--config.optimizer.steps=10",)
    for process in finish(start(clip, workdir, *longer, processes=2)):
        assert process.status == 2
        assert "let this run change with --change=optimizer.steps" in process.err
    first, _ = succeed(start(clip, workdir, *longer, "--change=optimizer.steps", processes=2))
    assert "from step 8 on this run has 10 steps, not 8" in first.out
    assert len(losses(workdir)) == 10
    assert losses(workdir)[:STEPS] == losses(pair)


@pytest.mark.parametrize(("process", "sentence"), [(1, "does not reach process 0"), (0, "process 0 waits for 1 more")])
def test_a_job_that_does_not_meet_ends_with_a_sentence(clip, tmp_path, process, sentence):
    (ended,) = finish(start(clip, tmp_path / "run", "--join_seconds=3", processes=2, only=process))
    assert ended.status == 75
    assert sentence in ended.err.splitlines()[-1]
    assert "within --join_seconds=3" in ended.err


@takes_minutes
def test_the_real_networks_learn_the_same_in_two_processes(clip, tmp_path):
    steps = ("--config.optimizer.steps=2", "--config.batch_size=4")
    for processes in (1, 2):
        succeed(start(clip, tmp_path / str(processes), *steps, processes=processes, module="robustdepth.train"))
    np.testing.assert_allclose(losses(tmp_path / "2"), losses(tmp_path / "1"), rtol=1e-6)

"""The SLURM jobs under a real SLURM on this machine: two tasks train, are preempted, and train to the end."""

import json
import pathlib
import re
import sys

import pytest

from robustdepth.runtime.checkpoint import committed_steps
from tests.conftest import REPOSITORY, takes_minutes
from tests.slurm_cluster import CPUS, Cluster, missing_programs, running_cluster, wait_for

if missing := missing_programs():
    pytest.skip(
        f"no SLURM here, {', '.join(missing)} missing: apt-get install slurmctld slurmd slurm-client munge",
        allow_module_level=True,
    )

TASKS, STEPS = 2, 24
SMALL = (
    "--config.data.world_share=1.0",
    "--config.data.views=('stereo',)",
    "--config.image_size=(32, 64)",
    f"--config.batch_size={TASKS}",
    "--config.data.threads=1",
    "--config.model.encoder=resnet_tiny",
    "--config.model.decoder_width=0.25",
    "--config.model.scales=1",
    f"--config.optimizer.steps={STEPS}",
    "--config.checkpoint.every=2",
    "--config.log.every=1",
    "--config.health.min_spread=0.0",
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running_cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def submit(cluster: Cluster, log: pathlib.Path, *words: str, **environment: str) -> str:
    """Submits from the repository's root; returns the job's number."""
    variables = {
        "PYTHON": sys.executable,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",  # a job's second start compiles nothing
    }
    return cluster.run("sbatch", "--parsable", f"--output={log}", *words, cwd=REPOSITORY, **variables | environment)


class Job:
    """A job of launch/slurm.sbatch with some tasks, seen from outside."""

    def __init__(self, cluster: Cluster, folder: pathlib.Path, tasks: int, *flags: str, **environment: str):
        self.cluster, self.workdir, self._log = cluster, folder / "run", folder / "log"
        words = (f"--ntasks={tasks}", "launch/slurm.sbatch", f"--workdir={self.workdir}", *flags)
        self.number = submit(cluster, self._log, *words, **environment)

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def wait_for_line(self, text: str, seconds: float = 60) -> None:
        wait_for(lambda: text in self.log, self.tell, seconds)

    def wait_for_end(self, seconds: float = 60) -> dict[str, str]:
        """What SLURM knows of the job once it has ended for good."""
        ends = ("COMPLETED", "FAILED", "CANCELLED")
        wait_for(lambda: self.cluster.job(self.number)["JobState"] in ends, self.tell, seconds)
        return self.cluster.job(self.number)

    def tell(self) -> str:
        return f"{self.cluster.job(self.number)}\n{self.log[-4000:]}\n{self.cluster.logs()}"


@takes_minutes
def test_a_training_of_two_tasks_is_preempted_and_goes_on_to_its_end(cluster, tmp_path):
    job = Job(cluster, tmp_path, TASKS, "--config=configs/base.py", *SMALL)
    checkpoints = job.workdir / "checkpoints"
    wait_for(lambda: committed_steps(checkpoints), job.tell, 300)
    words = ("--partition=high", f"--ntasks={CPUS}", "--output=/dev/null", "--wrap=:")
    urgent = cluster.run("sbatch", "--parsable", *words)
    job.wait_for_line("DUE TO PREEMPTION")
    job.wait_for_line(f"start 1 of job {job.number}: {TASKS} tasks", 120)
    assert cluster.job(urgent)["JobState"] == "COMPLETED"
    ended = job.wait_for_end(300)

    saved = [int(step) for step in re.findall(r"stopped by SIGTERM; saved at step (\d+)", job.log)]
    went_on = [int(step) for step in re.findall(r"going on from the checkpoint of step (\d+)", job.log)]
    assert len(saved) == 1
    assert saved == went_on
    assert 0 < saved[0] < STEPS
    assert f"trained to step {STEPS}" in job.log
    assert (job.workdir / "finished").read_text() == f"{STEPS}\n"
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1")
    assert json.loads((job.workdir / "versions.json").read_text())["devices"].startswith(f"{TASKS} x")
    rows = [json.loads(line) for line in (job.workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))


@pytest.fixture
def stand_in(tmp_path) -> str:
    """Takes the interpreter's place in tests of the script alone: in every start it does what $DO says."""
    path = tmp_path / "python"
    path.write_text('#!/bin/bash\nstart=${SLURM_RESTART_COUNT:-0}\nmkdir -p "$RUN/checkpoints"\neval "$DO"\n')
    path.chmod(0o755)
    return str(path)


def test_before_its_time_limit_a_job_saves_and_queues_itself_again(cluster, tmp_path, stand_in):
    action = """
      ((start == 0)) || exec touch "$RUN/finished"
      trap 'echo saved; exit 0' TERM
      echo ready
      while :; do sleep 0.1; done"""
    job = Job(cluster, tmp_path, TASKS, PYTHON=stand_in, RUN=str(tmp_path / "run"), DO=action)
    wait_for(lambda: job.log.count("ready") == TASKS, job.tell, 60)
    cluster.run("scancel", "--batch", "--signal=USR1", job.number)  # what --signal sends before the time limit
    job.wait_for_line(f"the job's time ends before the training's; queued again as job {job.number}")
    assert job.log.count("saved") == TASKS
    ended = job.wait_for_end()
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1")


@pytest.mark.parametrize("death", ["kill -KILL $$", "exit 75"])
def test_a_job_whose_task_dies_is_queued_again_as_long_as_it_gets_on(cluster, tmp_path, stand_in, death):
    action = f'((start > 0)) || mkdir "$RUN/checkpoints/5"; {death}'
    job = Job(cluster, tmp_path, 1, PYTHON=stand_in, RUN=str(tmp_path / "run"), DO=action)
    ended = job.wait_for_end()
    assert (ended["JobState"], ended["Restarts"]) == ("FAILED", "1")
    assert job.log.count("a task was killed or lost") == 1


def test_a_cancelled_job_saves_and_does_not_come_back(cluster, tmp_path, stand_in):
    action = 'trap "echo saved; exit 0" TERM; mkdir "$RUN/checkpoints/5"; echo ready; while :; do sleep 0.1; done'
    job = Job(cluster, tmp_path, 1, PYTHON=stand_in, RUN=str(tmp_path / "run"), DO=action)
    job.wait_for_line("ready")
    cluster.run("scancel", job.number)
    job.wait_for_line("saved")
    ended = job.wait_for_end()
    assert (ended["JobState"], ended["Restarts"]) == ("CANCELLED", "0")


def test_wrong_flags_end_the_job_at_once_and_are_not_tried_again(cluster, tmp_path):
    job = Job(cluster, tmp_path, 1, "--config=configs/base.py", "--config.optimizer.step=5")
    ended = job.wait_for_end(120)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "2:0", "0")
    assert "error: the config has no key step" in job.log


@pytest.mark.parametrize("script", ["slurm.sbatch", "slurm_evaluate.sbatch"])
def test_a_job_without_a_workdir_says_so(cluster, tmp_path, script):
    log = tmp_path / "log"
    number = submit(cluster, log, f"launch/{script}")
    wait_for(lambda: cluster.job(number)["JobState"] == "FAILED", log.read_text, 60)
    assert "error: no --workdir=DIR after the script's name" in log.read_text()


def test_an_evaluation_ends_when_the_job_it_follows_is_gone_unfinished(cluster, tmp_path):
    trained = cluster.run("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 100")
    cluster.run("scancel", trained)
    log = tmp_path / "log"
    flags = (f"--workdir={tmp_path}/run", "--protocols=world", f"--output={tmp_path}/eval")
    number = submit(cluster, log, "launch/slurm_evaluate.sbatch", *flags, FOLLOW=trained, POLL_SECONDS="1")
    wait_for(lambda: cluster.job(number)["JobState"] in ("COMPLETED", "FAILED"), log.read_text, 120)
    assert f"job {trained} is gone and its training unfinished" in log.read_text()
    assert cluster.job(number)["Restarts"] == "0"

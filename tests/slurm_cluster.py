"""A SLURM of one node on this machine, in a folder of its own and as the current user; for tests."""

import contextlib
import getpass
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue", "sinfo")
SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # Debian keeps the daemons in /usr/sbin
CPUS = 4  # claimed, whatever the machine has: nothing is bound to them
# The credential of a step outlives the step by `cred_expire`, and a job waits so long before it starts again.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=bf_interval=1,bf_resolution=1,sched_interval=1
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=60
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=low Nodes={host} Default=YES PriorityTier=1 State=UP
PartitionName=high Nodes={host} PriorityTier=10 PreemptMode=OFF State=UP
"""


def missing_programs() -> list[str]:
    """What SLURM needs and this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCH_PATH) is None]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(happened: Callable[[], object], what: Callable[[], str], seconds: float) -> None:
    """Waits until `happened()` is true; an assertion error with `what()` after `seconds`."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain: {what()}"
        time.sleep(0.1)


class Cluster:
    """Commands of a running SLURM; partition `high` preempts `low`."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.environment = os.environ | {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": SEARCH_PATH}

    def run(self, *words: str, cwd: pathlib.Path | None = None, **environment: str) -> str:
        """The standard output of a SLURM command, which must succeed."""
        variables = self.environment | environment
        done = subprocess.run(words, cwd=cwd, env=variables, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What SLURM knows of a job: JobState, Restarts, ExitCode, ..."""
        words = self.run("scontrol", "show", "job", "--oneliner", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def logs(self) -> str:
        """The last lines of the daemons' logs."""
        return "".join(path.read_text()[-2000:] for path in sorted(self.folder.glob("*.log")))


@contextlib.contextmanager
def running_cluster(folder: pathlib.Path) -> Iterator[Cluster]:
    """Starts munged, slurmctld and slurmd below `folder`, and ends them and their jobs."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    (folder / "slurm.conf").write_text(
        CONFIG.format(
            folder=folder,
            host=socket.gethostname().split(".")[0],
            user=getpass.getuser(),
            controller_port=free_port(),
            node_port=free_port(),
            cpus=CPUS,
        )
    )
    cluster = Cluster(folder)
    munge = [f"--{name}-file={folder}/munged.{name}" for name in ("pid", "log", "seed")]
    daemons = (
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket", *munge],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D"],
    )
    processes: list[subprocess.Popen] = []
    try:
        for words in daemons:
            with (folder / f"{words[0]}.out").open("w") as out:
                processes.append(subprocess.Popen(words, env=cluster.environment, stdout=out, stderr=out))
            if words[0] == "munged":
                wait_for((folder / "munge.socket").exists, cluster.logs, 20)
        wait_for(lambda: _idle(cluster), cluster.logs, 60)
        yield cluster
    finally:
        _cancel_jobs(cluster)
        for process in reversed(processes):
            process.terminate()
        for process in reversed(processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _idle(cluster: Cluster) -> bool:
    words = ["sinfo", "--noheader", "--format=%T"]
    done = subprocess.run(words, env=cluster.environment, capture_output=True, text=True, check=False)
    return done.returncode == 0 and set(done.stdout.split()) == {"idle"}


def _cancel_jobs(cluster: Cluster) -> None:
    """Kills what still runs; a controller that never came up has no jobs."""
    for words in (
        ["scancel", "--user", getpass.getuser(), "--full", "--signal=KILL"],
        ["scancel", "--user", getpass.getuser()],
    ):
        subprocess.run(words, env=cluster.environment, capture_output=True, timeout=60, check=False)
    end = time.monotonic() + 20
    while time.monotonic() < end and not _idle(cluster):
        time.sleep(0.2)

"""Which process of which job this is, from what SLURM, Kubernetes, a TPU pod or the command line say."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from robustdepth.errors import UserError

MODES = ("auto", "off", "slurm", "kubernetes", "tpu", "explicit")
PORT = "55527"  # of process 0, where nothing names another
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
KUBERNETES = ("JOBSET_NAME", "REPLICATED_JOB_NAME", "JOB_COMPLETION_INDEX", "JAX_NUM_PROCESSES")


class Job(NamedTuple):
    """Which process of how many this is, as far as it is known before JAX looks."""

    mode: str  # one of MODES but "auto"
    coordinator: str = ""  # HOST:PORT of process 0; "" where JAX finds it
    processes: int = 1
    process: int = 0
    local_devices: tuple[int, ...] = ()  # of those visible, the ones for this process; empty: all


def find_job(mode: str, explicit: Job, environment: Mapping[str, str]) -> Job:
    """The job that a process belongs to.

    Args:
      mode: one of MODES; "auto" looks at `explicit.coordinator` and at the environment.
      explicit: what the flags say.

    Raises:
      UserError: flags that contradict each other, or an environment that lacks what the mode needs.
    """
    mode = _detect(explicit, environment) if mode == "auto" else mode
    if mode != "explicit" and explicit != Job("explicit", processes=0, process=-1):
        raise UserError(f"--coordinator, --processes and --process go with --distributed=explicit, not with {mode}.")
    if mode == "slurm":
        return _slurm_job(environment)
    if mode == "kubernetes":
        return _kubernetes_job(environment)
    return _checked(explicit) if mode == "explicit" else Job(mode)


def _detect(explicit: Job, environment: Mapping[str, str]) -> str:
    if explicit.coordinator:
        return "explicit"
    # A batch script has no step; an interactive shell in an allocation is a step of one task.
    tasks = environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", "1"))
    if "SLURM_STEP_NODELIST" in environment and tasks != "1":
        return "slurm"
    if all(name in environment for name in KUBERNETES):
        return "kubernetes"
    if "," in environment.get("TPU_WORKER_HOSTNAMES", "") or "MEGASCALE_COORDINATOR_ADDRESS" in environment:
        return "tpu"
    return "off"


def _slurm_job(environment: Mapping[str, str]) -> Job:
    _need(SLURM, "slurm", environment, "start it with srun")
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", environment["SLURM_NTASKS"]))
    local = int(environment["SLURM_LOCALID"])
    # Tasks of one host that all see the same GPUs, as many as tasks, take one each; SLURM may have dealt them out.
    on_host = re.match(r"\d+", environment.get("SLURM_STEP_TASKS_PER_NODE", "1"))
    visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    shared = on_host is not None and 1 < int(on_host.group()) == len(visible)
    return Job("slurm", "", tasks, int(environment["SLURM_PROCID"]), (local,) if shared else ())


def _kubernetes_job(environment: Mapping[str, str]) -> Job:
    _need(KUBERNETES, "kubernetes", environment, "take them over from the JobSet's annotations (docs/distributed.md)")
    jobset, job = environment["JOBSET_NAME"], environment["REPLICATED_JOB_NAME"]
    port = environment.get("JAX_COORDINATOR_PORT", PORT)
    address = environment.get("JAX_COORDINATOR_ADDRESS", f"{jobset}-{job}-0-0.{jobset}:{port}")
    processes, process = int(environment["JAX_NUM_PROCESSES"]), int(environment["JOB_COMPLETION_INDEX"])
    return _checked(Job("kubernetes", address, processes, process))


def _need(names: tuple[str, ...], mode: str, environment: Mapping[str, str], advice: str) -> None:
    if missing := [name for name in names if name not in environment]:
        raise UserError(f"--distributed={mode}, but this process has no {', '.join(missing)}: {advice}.")


def _checked(job: Job) -> Job:
    if not re.fullmatch(r".+:\d+", job.coordinator):
        raise UserError(f"--coordinator={job.coordinator!r} is no HOST:PORT, for example 10.0.0.1:{PORT}.")
    if not 0 <= job.process < job.processes:
        raise UserError(
            f"--processes={job.processes} --process={job.process}: give their number, and which one this is, "
            "counted from 0."
        )
    return job

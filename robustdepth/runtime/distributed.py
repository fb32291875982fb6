"""Several processes as one job: joining, agreeing, and ending together when one is lost.

Every process runs the same program on its part of every batch. `gather` and what is built on it must be called by all
processes in the same order. In a job of one process they do nothing.
"""

import hashlib
import importlib.metadata
import itertools
import json
import os
import pathlib
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime.job import Job
from robustdepth.types import PyTree

USER_ERROR, CRASH, TRY_AGAIN = 2, 1, 75  # exit statuses; the last is EX_TEMPFAIL of sysexits.h
GRACE = 3.0  # seconds that process 0, whose end ends the others, leaves them for their last words
# What the messages of collectives and of the coordination service have in common when a partner is gone.
LOST = ("Gloo", "NCCL", "oordination", "UNAVAILABLE", "DEADLINE_EXCEEDED", "Connection closed", "heartbeat", "Barrier")
PACKAGES = ("robustdepth", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
OF_ONE_HOST = ("data.root", "data.threads", "validate.data_root")  # may differ between hosts: folders and cores do
SOURCE = pathlib.Path(__file__).resolve().parent.parent

DAY = 24 * 60 * 60 * 1000  # milliseconds

_MEETINGS = itertools.count()  # a barrier's name is used once
Result = TypeVar("Result")


def start(job: Job, join_seconds: int, lost_seconds: int) -> None:
    """Joins this process to its job; from here on JAX sees the devices of all processes, and only process 0 prints.

    Where they do not all meet within `join_seconds`, the process ends with a sentence (JAX itself would abort). A
    process that gives no sign for `lost_seconds` ends the others.

    Raises:
      UserError: JAX finds no such job here.
    """
    timer = threading.Timer(join_seconds, _nobody_came, (job, join_seconds))
    timer.daemon = True
    timer.start()
    known: dict[str, Any] = {"cluster_detection_method": "slurm"} if job.mode == "slurm" else {}
    if job.coordinator:
        known = {"coordinator_address": job.coordinator, "cluster_detection_method": "deactivate"}
    if job.mode != "tpu":
        known |= {"num_processes": job.processes, "process_id": job.process, "local_device_ids": job.local_devices}
    try:
        jax.distributed.initialize(
            **known,
            initialization_timeout=join_seconds + 60,  # never reached, the timer is first
            heartbeat_timeout_seconds=lost_seconds,
            shutdown_timeout_seconds=lost_seconds,
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise UserError(f"--distributed={job.mode}: the processes cannot join ({_line(error)}).") from error
    finally:
        timer.cancel()
    if jax.process_index():
        sys.stdout = open(os.devnull, "w", errors="backslashreplace")  # noqa: SIM115 - for as long as the process lives


def _nobody_came(job: Job, seconds: int) -> None:
    if job.mode == "tpu":
        text, advice = "the hosts of the TPU pod have not all met", "was the command started on all of them?"
    elif job.process:
        where = job.coordinator or "the first of its hosts"
        text = f"process {job.process} of {job.processes} does not reach process 0 at {where}"
        advice = "is it running, is the address right, may it be reached from here?"
    else:
        text = f"process 0 waits for {job.processes - 1} more at {job.coordinator or 'this host'}, and not all came"
        advice = "were all started, with this address?"
    _end(f"error: {text}, within --join_seconds={seconds}: {advice}", TRY_AGAIN, joined=False)


def run(main: Callable[[], None]) -> None:
    """Runs the work of a process that has joined; where it fails, its sentence is printed and the process ends at once.

    The usual way out would wait for the other processes, which may be lost, or wait for this one.
    """
    try:
        main()
    except UserError as error:
        _end(f"error: {error}", USER_ERROR)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except Exception as error:
        if not is_lost(error):
            _end(traceback.format_exc(), CRASH)
        _end(
            f"error: process {jax.process_index()} of {jax.process_count()} has lost another process of the job, whose "
            f"own messages say why ({_line(error)}); start all of them again: training goes on from its newest whole "
            "checkpoint, an evaluation begins anew.",
            TRY_AGAIN,
        )


def is_lost(error: Exception) -> bool:
    """Whether an error tells that another process of the job is gone."""
    return jax.process_count() > 1 and any(word in str(error) for word in LOST)


def _end(text: str, status: int, joined: bool = True) -> None:
    print(text, file=sys.stderr, flush=True)
    sys.stdout.flush()
    if joined and is_first():
        time.sleep(GRACE)
    os._exit(status)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def is_first() -> bool:
    """Whether this process writes what the job writes once: logs, config, pictures."""
    return jax.process_index() == 0


def gather(value: Any) -> list[Any]:
    """What each process gives (anything JSON can hold), in the order of the processes, on every process."""
    if jax.process_count() == 1:
        return [value]
    meet()
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([len(text)])).ravel()
    padded = np.zeros(max(64, 1 << int(lengths.max() - 1).bit_length()), np.uint8)  # few lengths, few programs
    padded[: len(text)] = text
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(bytes(row[:length]).decode()) for row, length in zip(rows, lengths, strict=True)]


def meet() -> None:
    """Waits until all processes are here, as long as that takes; Gloo's collectives on CPUs give up after 30 seconds.

    A process that is lost meanwhile ends the others, see `start`.
    """
    if jax.process_count() > 1:
        everyone = set(range(jax.process_count()))
        wait = ocp.multihost.get_barrier_sync_fn(processes=everyone)
        wait(key=f"robustdepth meeting {next(_MEETINGS)}", timeout_ms=DAY)


def together(action: Callable[[], Result]) -> Result:
    """What `action` returns, once it has succeeded on all processes.

    Raises:
      UserError: here or elsewhere; every process raises it.
    """
    try:
        result = action()
    except UserError as error:
        gather(str(error))
        raise
    for process, failed in enumerate(gather(None)):
        if failed is not None:
            raise UserError(f"process {process}: {failed}")
    return result


def on_first(action: Callable[[], Result]) -> Result | None:
    """What `action` returns on process 0, which alone runs it, once it has succeeded; None on the others.

    Raises:
      UserError: on every process.
    """
    return together(lambda: action() if is_first() else None)


def from_first(action: Callable[[], Any]) -> Any:
    """What `action` returns on process 0, which alone runs it, on every process; it must fit into JSON.

    Raises:
      UserError: on every process.
    """
    return gather(on_first(action))[0]


def share(count: int) -> range:
    """This process's part of `count` things in a row, all parts nearly as long; the first ones are process 0's."""
    process, processes = jax.process_index(), jax.process_count()
    return range(-(-count * process // processes), -(-count * (process + 1) // processes))


def shared(count: int, work: Callable[[range], list[Any]], items: int | None = None) -> list[Any]:
    """What `work` gives for `count` things in a row, in their order and on every process; each does its `share`.

    Args:
      work: what it gives must fit into JSON, from which tuples come back as lists; numbers are the same to the bit. It
        runs without meeting other processes.
      items: how many there are of what the `count` things are blocks of; None: `count`.

    Raises:
      UserError: `work` raised it here or elsewhere; every process raises it, once all have done their share. The
        processes have found different numbers of items, as they do in folders that differ.
    """
    seen = gather([count, items])
    if different := [process for process, other in enumerate(seen) if other != seen[0]]:
        first, other = ((items or count) for count, items in (seen[0], seen[different[0]]))
        raise UserError(
            f"the processes see different data: process 0 has found {first} items, process {different[0]} {other}. "
            "Give all the same recordings."
        )
    done = together(lambda: work(share(count)))
    return [item for part in gather(done) for item in part]


def collect(tree: PyTree) -> PyTree:
    """Arrays that live on devices of several processes, whole and on the host of each; a single process keeps them."""
    return tree if jax.process_count() == 1 else multihost_utils.process_allgather(tree, tiled=True)


def stop_agreed(step: int) -> bool:
    """Whether some process got SIGTERM and this is the step at which all of them stop; to be asked after every step."""
    return multihost_utils.reached_preemption_sync_point(step)


def code_digest() -> str:
    """SHA-256 of the package's source and of the versions it runs with."""
    digest = hashlib.sha256()
    for name in PACKAGES:
        digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    for path in sorted(SOURCE.rglob("*.py")):
        digest.update(path.relative_to(SOURCE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def check_same_everywhere(config: ConfigDict) -> None:
    """Refuses a job whose processes run other code, have other configs, or see numbers of devices that differ.

    Raises:
      UserError: on every process, naming what differs and where.
    """
    check_same({f"config.{key}": value for key, value in configs.flatten(config).items() if key not in OF_ONE_HOST})


def check_same(settings: dict[str, Any]) -> None:
    """`check_same_everywhere` for any settings by their names, whose values JSON can hold."""
    if jax.process_count() == 1:
        return
    codes = gather(code_digest())
    _refuse_unless_same(codes, "run other code (the package's source, or the version of JAX, Flax, Orbax, Grain)")
    _refuse_unless_same(gather(jax.local_device_count()), "have another number of devices")
    everywhere = gather(settings)
    here = json.loads(json.dumps(settings))
    differ = [
        f"{key} is {everywhere[0].get(key)!r} on process 0 and {other.get(key)!r} on process {process}"
        for process, other in enumerate(everywhere)
        for key in sorted(everywhere[0].keys() | other.keys() | here.keys())
        if other.get(key) != everywhere[0].get(key)
    ]
    if differ:
        more = f", and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise UserError(
            f"the processes have different settings: {'; '.join(differ[:3])}{more}. Start all with the same."
        )


def check_same_step(step: int | None) -> None:
    """Refuses to go on where processes have found different newest checkpoints.

    Raises:
      UserError: on every process.
    """
    steps = gather(step)
    if len(set(steps)) > 1:
        found = ", ".join(f"{'none' if step is None else step} on process {i}" for i, step in enumerate(steps))
        raise UserError(
            f"the processes see different newest checkpoints in --workdir ({found}): it must be one folder that all "
            "hosts share."
        )


def _refuse_unless_same(values: list, what: str) -> None:
    others = [str(process) for process, value in enumerate(values) if value != values[0]]
    if others:
        raise UserError(f"process {', '.join(others)} of {len(values)} {what} than process 0: make all hosts alike.")

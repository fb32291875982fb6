"""Command-line flags of a job of several processes, and how they find each other; without them, a job is one process.

JAX is not imported before the flags are known to be right.
"""

import os
from collections.abc import Callable, Sequence

from absl import flags

from robustdepth.errors import run_main
from robustdepth.runtime.compilation_cache import keep_compiled
from robustdepth.runtime.job import MODES, Job, find_job

_MODE = flags.DEFINE_enum(
    "distributed",
    "auto",
    MODES,
    "How the processes of a job find each other (docs/distributed.md); auto: by what SLURM, Kubernetes or a TPU pod "
    "has set, else one process alone.",
)
_COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0, with --distributed=explicit.")
_PROCESSES = flags.DEFINE_integer("processes", 0, "How many processes the job has, with --distributed=explicit.")
_PROCESS = flags.DEFINE_integer("process", -1, "Which of them this is, from 0, with --distributed=explicit.")
_JOIN_SECONDS = flags.DEFINE_integer("join_seconds", 300, "How long the processes of a job wait for each other.", 1)
_LOST_SECONDS = flags.DEFINE_integer("lost_seconds", 100, "After this long without a sign, a process is lost.", 1)


def job_of_flags() -> Job:
    """The job that the command line and the environment name. Raises UserError as `find_job` does."""
    explicit = Job("explicit", _COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    return find_job(_MODE.value, explicit, os.environ)


def run_in_job(main: Callable[[], None], words: Sequence[str] = ()) -> None:
    """Runs a binary's main function as one process of its job; errors end it with a sentence, see `distributed`.

    `words` are those of the command line that belong to no flag; they are refused.
    """

    def run() -> None:
        job = job_of_flags()
        keep_compiled()
        if job.mode == "off":
            main()
            return
        from robustdepth.runtime import distributed

        distributed.start(job, _JOIN_SECONDS.value, _LOST_SECONDS.value)
        distributed.run(main)

    run_main(run, words)

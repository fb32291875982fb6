"""Which job a process belongs to, and where the rows of its share come to stand."""

import jax
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.runtime import distributed, sharding
from robustdepth.runtime.job import Job, find_job
from tests.tiny import random_batch, tiny_config

NO_FLAGS = Job("explicit", processes=0, process=-1)
STEP = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
JOBSET = {
    "JOBSET_NAME": "robustdepth",
    "REPLICATED_JOB_NAME": "hosts",
    "JOB_COMPLETION_INDEX": "1",
    "JAX_NUM_PROCESSES": "2",
}


@pytest.mark.parametrize(
    ("mode", "environment", "job"),
    [
        ("auto", {}, Job("off")),
        ("auto", {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, Job("off")),  # the batch script
        ("auto", STEP | {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"}, Job("off")),  # an interactive shell
        ("auto", STEP, Job("slurm", "", 4, 3)),
        ("auto", STEP | {"CUDA_VISIBLE_DEVICES": "0,1"}, Job("slurm", "", 4, 3, (1,))),
        ("auto", STEP | {"CUDA_VISIBLE_DEVICES": "1"}, Job("slurm", "", 4, 3)),  # SLURM has dealt them out
        ("auto", JOBSET, Job("kubernetes", "robustdepth-hosts-0-0.robustdepth:55527", 2, 1)),
        ("auto", {"TPU_WORKER_HOSTNAMES": "a,b"}, Job("tpu")),
        ("auto", {"TPU_WORKER_HOSTNAMES": "a"}, Job("off")),
        ("off", STEP, Job("off")),
    ],
)
def test_a_job_is_found_in_the_environment(mode, environment, job):
    assert find_job(mode, NO_FLAGS, environment) == job


@pytest.mark.parametrize(
    ("mode", "flags", "sentence"),
    [
        ("slurm", NO_FLAGS, "has no SLURM_JOB_ID, SLURM_STEP_NODELIST"),
        ("kubernetes", NO_FLAGS, "has no JOBSET_NAME"),
        ("explicit", NO_FLAGS, "is no HOST:PORT"),
        ("explicit", Job("explicit", "host:1", 2, 2), "counted from 0"),
        ("off", Job("explicit", "host:1", 2, 1), "go with --distributed=explicit"),
    ],
)
def test_flags_that_cannot_be_right_are_refused(mode, flags, sentence):
    with pytest.raises(UserError, match=sentence):
        find_job(mode, flags, {})


@pytest.mark.parametrize(("processes", "rendered"), [(2, 8), (4, 4), (4, 12)])
def test_shares_of_recorded_and_rendered_rows_come_to_stand_as_in_one_process(processes, rendered):
    config = tiny_config()
    config.batch_size = 16
    whole = random_batch(config)
    rows = np.arange(16)
    shares = zip(np.split(rows[: 16 - rendered], processes), np.split(rows[16 - rendered :], processes), strict=True)
    given = np.concatenate([np.concatenate(share) for share in shares])  # as the processes hold them
    mesh = sharding.make_mesh("data")
    split = jax.device_put(jax.tree.map(lambda leaf: leaf[given], whole), sharding.batch_sharding(mesh))
    ordered = sharding._parts_in_order(split, mesh, processes, rendered)
    assert ordered.target.sharding == sharding.batch_sharding(mesh)
    jax.tree.map(np.testing.assert_array_equal, ordered, whole)


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 5, 8, 17])
def test_shares_are_all_there_is_in_order_and_nearly_alike(monkeypatch, processes, count):
    shares = []
    for process in range(processes):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        monkeypatch.setattr(jax, "process_count", lambda: processes)
        shares.append(distributed.share(count))
    assert [number for share in shares for number in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert len(shares[0]) == max(map(len, shares))

"""The training command on a disk whose first reads of a checkpoint fail: python -m benchmarks.flaky_reads FLAGS."""

import errno
import runpy
from typing import Any

import orbax.checkpoint as ocp

FAILURES = 2  # then it reads


def restore(manager: ocp.CheckpointManager, *arguments: Any, **options: Any) -> Any:
    """Orbax's restore, once it has failed often enough."""
    _failed.append(len(_failed))
    if len(_failed) <= FAILURES:
        raise OSError(errno.EIO, "Input/output error")
    return _restore(manager, *arguments, **options)


_restore, _failed = ocp.CheckpointManager.restore, list[int]()

if __name__ == "__main__":
    ocp.CheckpointManager.restore = restore
    runpy.run_module("robustdepth.train", run_name="__main__", alter_sys=True)

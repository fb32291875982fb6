"""Devices by name, to compile for: those of this machine, fake CPU devices, or TPUs that are elsewhere."""

import importlib.util
import os
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from robustdepth.compiling.gpus import GPUS, absent_gpus, gpu_of
from robustdepth.errors import UserError
from robustdepth.runtime.sharding import make_mesh

HERE = "here"
KNOWN = (
    f'"{HERE}" (this machine\'s devices), "cpu:N", GPUs as in "h200:8" ({", ".join(GPUS)}), or a TPU topology such as '
    '"v5e:2x4", "v5p:2x2x1" or "v6e:2x4"'
)
# Memory of one device, as cloud.google.com/tpu/docs/system-architecture-tpu-vm has it; a topology does not tell.
TPU_GIGABYTES = {"TPU v5 lite": 16, "TPU v5": 95, "TPU v6 lite": 32}
# Without these, libtpu asks the network which TPU it is on, complains where it is on none, and lets one process in.
_COMPILER_ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def make_topology_mesh(name: str, axis: str) -> Mesh:
    """The mesh that `sharding.make_mesh` would make on the named devices.

    Those of GPUs and TPUs that are elsewhere hold no arrays and run nothing: programs can be compiled for them. It must
    be the first thing of a process that uses JAX's devices, unless the name is "here".

    Args:
      name: see `KNOWN`.
      axis: name of the mesh's axis.

    Raises:
      UserError: no such topology, or it cannot be compiled for here.
    """
    if name == HERE:
        return make_mesh(axis)
    if match := re.fullmatch(r"cpu:([1-9]\d*)", name):
        return make_mesh(axis, _fake_cpus(int(match.group(1))))
    if (match := re.fullmatch(r"(\w+):([1-9]\d*)", name)) and match.group(1) in GPUS:
        return make_mesh(axis, absent_gpus(match.group(1), int(match.group(2))))
    if re.fullmatch(r"v\d\w*:\d+(x\d+)*", name):
        return make_mesh(axis, _tpus(name))
    raise UserError(f'--dry_run="{name}" is no topology: give {KNOWN}.')


def device_memory(device: jax.Device) -> int:
    """Bytes of a device's memory; 0 where that is not known (a CPU shares the host's)."""
    if device.device_kind in TPU_GIGABYTES:
        return TPU_GIGABYTES[device.device_kind] * 2**30
    if (gpu := gpu_of(device)) is not None:
        return gpu.memory
    stats = device.memory_stats() if device in jax.devices() else None
    return (stats or {}).get("bytes_limit", 0)


def _fake_cpus(count: int) -> Sequence[jax.Device]:
    try:
        jax.config.update("jax_num_cpu_devices", count)
        jax.config.update("jax_platforms", "cpu")
    except RuntimeError:
        pass  # JAX has started, perhaps with enough of them
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise UserError(f"--dry_run=cpu:{count}: JAX has started with {len(devices)} CPU devices: start anew.")
    return devices[:count]


def _tpus(name: str) -> Sequence[jax.Device]:
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(f"--dry_run={name} needs the TPU compiler, but no TPU: pip install libtpu.")
    for key, value in _COMPILER_ALONE.items():
        os.environ.setdefault(key, value)
    jax.config.update("jax_platforms", "cpu")  # whatever this machine has, only the compiler is needed
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--dry_run={name} is refused by the TPU compiler ({reason}): give {KNOWN}.") from None

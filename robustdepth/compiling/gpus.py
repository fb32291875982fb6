"""GPUs that need not be there, to compile for: what their data sheets say, in the form that XLA's compiler reads.

Figures are those of NVIDIA's data sheets and of the CUDA programming guide's table of compute capabilities. They steer
the compiler (shared memory, registers, number of cores) and bound a step's time (bandwidth, peak rates).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax.experimental import topologies

from robustdepth.errors import UserError

HOST = 8  # GPUs of one host


class Gpu(NamedTuple):
    """One kind of GPU."""

    title: str
    capability: tuple[int, int]
    cores: int  # streaming multiprocessors
    lanes: int  # float32 units of a core
    threads: int  # largest number of threads of a core
    gigahertz: float
    memory: int  # bytes
    bandwidth: float  # bytes/s
    cache: int  # bytes, level 2
    shared: int  # bytes of shared memory of a core
    peak: dict[str, float]  # FLOP/s of matrix products, dense, by compute type; float32 as TensorFloat-32


GPUS = {
    "h200": Gpu(
        *("NVIDIA H200", (9, 0), 132, 128, 2048, 1.98, 151_397_597_184, 4.8e12, 50 << 20, 228 << 10),
        {"bfloat16": 989e12, "float32": 494e12},
    ),
    "h100": Gpu(
        *("NVIDIA H100 SXM", (9, 0), 132, 128, 2048, 1.98, 85_520_809_984, 3.35e12, 50 << 20, 228 << 10),
        {"bfloat16": 989e12, "float32": 494e12},
    ),
    "a100": Gpu(
        *("NVIDIA A100 SXM 80GB", (8, 0), 108, 64, 2048, 1.41, 85_520_809_984, 2.039e12, 40 << 20, 164 << 10),
        {"bfloat16": 312e12, "float32": 156e12},
    ),
    "b200": Gpu(
        *("NVIDIA B200", (10, 0), 148, 128, 2048, 1.965, 191_000_000_000, 8e12, 126 << 20, 228 << 10),
        {"bfloat16": 2250e12, "float32": 1100e12},
    ),
    "l4": Gpu(
        *("NVIDIA L4", (8, 9), 58, 128, 1536, 2.04, 24_000_000_000, 3e11, 48 << 20, 100 << 10),
        {"bfloat16": 121e12, "float32": 60e12},
    ),
}
_RESERVED = 1 << 10  # bytes of shared memory that a block cannot have


def absent_gpus(kind: str, count: int) -> Sequence[jax.Device]:
    """`count` GPUs of a kind of GPUS, on as many hosts as they need, for which programs can be compiled.

    Raises:
      UserError: the compiler is not installed, or does not take such devices.
    """
    if importlib.util.find_spec("jax_cuda12_plugin") is None and importlib.util.find_spec("jax_cuda13_plugin") is None:
        raise UserError(
            f'--dry_run={kind}:{count} needs the GPU compiler, but no GPU: pip install "robustdepth[cuda]".'
        )
    hosts, here = (count // HOST, HOST) if count % HOST == 0 else (1, count)
    jax.config.update("jax_platforms", "cpu")  # whatever this machine has, only the compiler is needed
    try:
        return topologies.get_topology_desc(
            platform="cuda", target_config=target_config(GPUS[kind]), topology=f"1x{hosts}x{here}"
        ).devices
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--dry_run={kind}:{count} is refused by the GPU compiler ({reason}).") from None


def gpu_of(device: jax.Device) -> Gpu | None:
    """The facts of a device that is one of GPUS; None for others."""
    return next((gpu for gpu in GPUS.values() if gpu.title == device.device_kind), None)


def target_config(gpu: Gpu) -> str:
    """A GpuTargetConfigProto of XLA as text."""
    major, minor = gpu.capability
    info = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 48 << 10,
        "shared_memory_per_core": gpu.shared,
        "shared_memory_per_block_optin": gpu.shared - _RESERVED,
        "threads_per_core_limit": gpu.threads,
        "core_count": gpu.cores,
        "fpus_per_core": gpu.lanes,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 2**16 - 1,
        "block_dim_limit_z": 2**16 - 1,
        "thread_dim_limit_x": 1024,
        "thread_dim_limit_y": 1024,
        "thread_dim_limit_z": 64,
        "registers_per_core_limit": 2**16,
        "registers_per_block_limit": 2**16,
        "memory_bandwidth": round(gpu.bandwidth),
        "l2_cache_size": gpu.cache,
        "clock_rate_ghz": gpu.gigahertz,
        "device_memory_size": gpu.memory,
        "device_vendor": '"NVIDIA Corporation"',
        "name": f'"{gpu.title}"',
        "runtime_version": '"12.8.0"',
        "driver_version": '"12.8.0"',
        "dnn_version": '"9.10.0"',
    }
    lines = [f"  {key}: {value}" for key, value in info.items()]
    lines.append(f"  cuda_compute_capability {{ major: {major} minor: {minor} }}")
    body = "\n".join(lines)
    return (
        f'gpu_device_info {{\n{body}\n}}\nplatform_name: "CUDA"\n'
        f'dnn_version_info {{ major: 9 minor: 10 }}\ndevice_description_str: "{gpu.title}"\n'
    )

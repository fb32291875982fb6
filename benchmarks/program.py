"""The compiled training step of a config for a device that need not be there, counted: nothing is run.

    python -m benchmarks.program --config=configs/kitti_mono_resnet18.py --device=h200:1 [--set=batch_size=96]

Kernels and bytes by part of the step, library calls, FLOPs, memory, exchange between devices, and the bound
max(bytes / bandwidth, FLOPs / peak). No step can be faster than its bound; how near it comes only a run tells.
"""

import argparse
import json
import pathlib

import jax
from ml_collections import ConfigDict

from benchmarks.results import markdown
from robustdepth.compiling.collectives import by_kind, collectives
from robustdepth.compiling.dry_run import planned
from robustdepth.compiling.gpus import gpu_of
from robustdepth.compiling.kernels import by_part, custom_calls, kernels
from robustdepth.compiling.topology import make_topology_mesh
from robustdepth.data.stream import batch_shapes
from robustdepth.errors import run_main
from robustdepth.runtime import config as configs
from robustdepth.runtime.family import load_config, override
from robustdepth.runtime.sharding import make_mesh
from robustdepth.training.setup import build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="an experiment's file, or FILE:ROW")
    parser.add_argument("--device", default="h200:1", help="as in --dry_run of robustdepth.train")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an override of the config")
    parser.add_argument("--output", help="JSON file")
    options = parser.parse_args()
    counted = count(options.config, options.device, options.set)
    print(markdown([{"part": part} | row for part, row in counted["parts"].items()]))
    print("\n".join(f"{key}: {value}" for key, value in counted.items() if key != "parts"))
    if options.output:
        pathlib.Path(options.output).write_text(json.dumps(counted, indent=1) + "\n")


def count(path: str, device: str, overrides: list[str]) -> dict:
    """The counts of one config on one kind of device; sizes in GB (1e9 bytes)."""
    config = planned(override(load_config(path), overrides))
    configs.check(config)
    mesh = make_topology_mesh(device, config.sharding.axis)
    experiment = build(config, mesh)
    compiled = experiment.step.lower(experiment.template, batch_shapes(config)).compile()  # type: ignore[attr-defined]
    text, memory = compiled.as_text() or "", compiled.memory_analysis()
    found = kernels(text)
    parts = {part: {"kernels": s.kernels, "GB": round(s.bytes / 1e9, 2)} for part, s in by_part(found).items()}
    moved, flops = sum(kernel.bytes for kernel in found), flops_of(config) / mesh.devices.size
    parts["whole step"] = {"kernels": len(found), "GB": round(moved / 1e9, 2)}
    fresh = memory.output_size_in_bytes - memory.alias_size_in_bytes
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes + fresh
    exchanged = {
        name: {"times": kind.times, "MB": round(kind.bytes / 1e6, 1)}
        for name, kind in by_kind(collectives(text)).items()
    }
    return {
        "config": config.name,
        "device": device,
        "jax": jax.__version__,
        "parts": parts,
        "library calls": custom_calls(found),
        "GFLOPs": round(flops / 1e9, 1),
        "GB of memory": round(used / 1e9, 2),
        "collectives": exchanged,
        "bound": bound(mesh.devices.flat[0], config.model.dtype, moved, flops),
    }


def flops_of(config: ConfigDict) -> float:
    """FLOPs of the whole batch's step before any compiler has changed it, as XLA counts them."""
    experiment = build(config, make_mesh(config.sharding.axis, jax.devices("cpu")[:1]))
    lowered = experiment.step.lower(experiment.template, batch_shapes(config))  # type: ignore[attr-defined]
    return lowered.cost_analysis()["flops"]


def bound(device: jax.Device, dtype: str, moved: float, flops: float) -> str:
    """The shortest time that a step could take, in words."""
    gpu = gpu_of(device)
    if gpu is None:
        return "not known for this device"
    memory, compute = 1e3 * moved / gpu.bandwidth, 1e3 * flops / gpu.peak[dtype]
    return f"{max(memory, compute):.2f} ms: {memory:.2f} for the bytes, {compute:.2f} for the FLOPs (in {dtype})"


if __name__ == "__main__":
    run_main(main)

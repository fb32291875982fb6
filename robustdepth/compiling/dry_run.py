"""What a config's training step needs, found by compiling it for devices that need not be there. Nothing is trained."""

import copy
import math
import time
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from robustdepth.compiling.collectives import Collective, by_kind, collectives
from robustdepth.compiling.topology import device_memory, make_topology_mesh
from robustdepth.data.stream import batch_shapes
from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime import sharding
from robustdepth.training.setup import TaughtStep, build

MEGABYTE, GIGABYTE = 10**6, 10**9
UNKNOWN = "not told for these devices: python -m benchmarks.program counts them"


class Needs(NamedTuple):
    """What one step of a config needs on each device; sizes in bytes."""

    experiment: str
    devices: str  # how many of which kind
    batch_size: int  # global
    image_size: tuple[int, int]
    dtype: str  # of the networks' computations
    parameters: int  # numbers that training learns, before they are split
    state: int  # this device's part of parameters, statistics, optimiser and averages, without padding
    batch: int  # this device's part of the batch, as its teachers complete it, without padding
    arguments: int  # both, as the program holds them
    outputs: int  # without those that take the place of arguments
    temporaries: int
    program: int
    memory: int  # what the device has; 0: unknown
    flops: float  # one round of loops alone, see `rounds`; 0: unknown, as for bytes
    accessed: float  # bytes read and written, as XLA counts them
    rounds: int  # parts that `config.optimizer.accumulate` makes of a batch
    collectives: list[Collective]
    taught: bool  # teachers' programs come on top
    compile_seconds: float

    @property
    def total(self) -> int:
        """Bytes that a device must have free; XLA allots all temporaries at once, each place used many times."""
        return self.arguments + self.outputs + self.temporaries + self.program


def dry_run(config: ConfigDict, topology: str) -> None:
    """Prints what a config's training step needs on the named devices (`compiling.topology`).

    Raises:
      UserError: the config cannot be run, not there, or not compiled for these devices here.
    """
    print(describe(find_needs(config, topology)))


def find_needs(config: ConfigDict, topology: str) -> Needs:
    """Compiles a config's step for the named devices; arguments and errors as in `dry_run`."""
    config = planned(config)
    configs.check(config)
    mesh = make_topology_mesh(topology, config.sharding.axis)
    device, count = mesh.devices.flat[0], mesh.devices.size
    sharding.check_divides(config.batch_size, count, config.optimizer.accumulate)
    if config.task == "stereo" and (device.platform == "cpu") != (jax.default_backend() == "cpu"):
        raise UserError(
            'config.task="stereo" chooses how it convolves by the devices it runs on: use --dry_run=here on a machine '
            f"that has {device.device_kind} devices."
        )
    experiment = build(config, mesh)
    step: Any = experiment.step
    began = time.monotonic()
    lowered = step.lower(experiment.template, batch_shapes(config))
    compiled = _compile(lowered, config, f"{count} x {device.device_kind}")
    seconds = time.monotonic() - began
    memory: Any = compiled.memory_analysis()
    cost: Any = compiled.cost_analysis() or {}  # GPUs that are elsewhere tell none
    (_, batch), _ = lowered.args_info
    split = sharding.batch_sharding(mesh)
    fresh = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Needs(
        experiment=config.name,
        devices=f"{count} x {device.device_kind}",
        batch_size=config.batch_size,
        image_size=tuple(config.image_size),
        dtype=config.model.dtype,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(experiment.template.params)),
        state=sum(_part(leaf, leaf.sharding) for leaf in jax.tree.leaves(experiment.template)),
        batch=sum(_part(leaf, split) for leaf in jax.tree.leaves(batch)),
        arguments=memory.argument_size_in_bytes,
        outputs=fresh,
        temporaries=memory.temp_size_in_bytes,
        program=memory.generated_code_size_in_bytes,
        memory=device_memory(device),
        flops=cost.get("flops", 0.0),
        accessed=cost.get("bytes accessed", 0.0),
        rounds=config.optimizer.accumulate,
        collectives=collectives(compiled.as_text() or ""),
        taught=isinstance(step, TaughtStep),
        compile_seconds=seconds,
    )


def planned(config: ConfigDict) -> ConfigDict:
    """The config without what a step does not depend on: where recordings lie, how many, and what is kept of them."""
    config = copy.deepcopy(config)
    config.data.root = config.data.root or "not needed"
    config.semantics.cache = ""  # would be filled
    if not config.optimizer.steps:  # as many as the recordings have, which may be elsewhere
        config.optimizer.update(steps=1_000, epochs=0.0)
    return config


def _compile(lowered: jax.stages.Lowered, config: ConfigDict, devices: str) -> jax.stages.Compiled:
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        height, width = config.image_size
        raise UserError(
            f"a batch of {config.batch_size} images of {height}x{width} does not fit into {devices} "
            f"({_first_line(error)}): lower config.batch_size or config.image_size, raise config.optimizer.accumulate, "
            "or name more devices."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].removeprefix("RESOURCE_EXHAUSTED: ").rstrip(". ")


def _part(leaf: Any, place: jax.sharding.Sharding) -> int:
    """Bytes of what one device holds of an array."""
    size = math.prod(place.shard_shape(leaf.shape))
    return size * leaf.dtype.itemsize if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended) else 0


def describe(needs: Needs) -> str:
    """The needs as a table for people."""
    height, width = needs.image_size
    known = f" of {needs.memory / GIGABYTE:.1f} GB ({needs.total / needs.memory:.0%})" if needs.memory else ""
    once = f" (one of {needs.rounds} parts of the batch)" if needs.rounds > 1 else ""
    rows = [
        ("devices", needs.devices),
        ("batch", f"{needs.batch_size} images of {height}x{width} over all devices, networks in {needs.dtype}"),
        ("parameters", f"{needs.parameters / 1e6:.2f} million"),
        ("compiled in", f"{needs.compile_seconds:.0f} s"),
        ("", ""),
        ("per device", ""),
        ("memory", f"{needs.total / GIGABYTE:.2f} GB{known}"),
        ("  arguments", _megabytes(needs.arguments)),
        ("    state", f"{_megabytes(needs.state)} without padding"),
        ("    batch", f"{_megabytes(needs.batch)} without padding"),
        ("  new outputs", _megabytes(needs.outputs)),
        ("  temporaries", _megabytes(needs.temporaries)),
        ("  program", _megabytes(needs.program)),
        ("FLOPs a step", f"{needs.flops / 1e9:.1f} billion{once}" if needs.flops else UNKNOWN),
        ("memory traffic", f"{needs.accessed / GIGABYTE:.2f} GB a step{once}" if needs.accessed else UNKNOWN),
        *_collective_rows(needs.collectives),
    ]
    notes = [f"{needs.experiment}: its training step, compiled and not run; sizes count in 1000s."]
    if needs.taught:
        notes.append("The teachers look at each batch in programs of their own, which need memory beside this.")
    return "\n".join([*notes, "", *(f"{name:<16}{value}".rstrip() for name, value in rows)])


def _collective_rows(found: list[Collective]) -> list[tuple[str, str]]:
    kinds = by_kind(found)
    if not kinds:
        return [("collectives", "none")]
    return [("collectives", "a step, by the size of their results")] + [
        (f"  {name}", f"{'' if kind.counted else 'at least '}{kind.times}, {_megabytes(kind.bytes)}")
        for name, kind in kinds.items()
    ]


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:.1f} MB"

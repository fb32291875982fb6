"""Where arrays live: batches split over the devices, parameters placed by (regex, spec) rules from the config."""

import functools
import math
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from robustdepth.errors import UserError
from robustdepth.types import Batch, PyTree

Rules = Sequence[tuple[str, Sequence[str | None] | str]]
LONGEST = "longest"
SMALLEST = 2**14  # elements: to gather a smaller array would take longer than it is worth


def make_mesh(axis: str, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """One axis over all devices of all processes; Auto, so that Linen modules need no sharding annotations.

    Those of one process are neighbours, so that the rows of its part of a batch follow each other.

    Args:
      axis: its name.
      devices: others than the job's.
    """
    devices = jax.devices() if devices is None else devices
    if len({device.process_index for device in devices}) == 1:
        return jax.make_mesh((len(devices),), (axis,), axis_types=(AxisType.Auto,), devices=devices)
    devices = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), (axis,), axis_types=(AxisType.Auto,))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Splits the leading axis over the mesh."""
    return NamedSharding(mesh, P(mesh.axis_names[0]))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, P())


def put_replicated(tree: PyTree, mesh: Mesh) -> PyTree:
    """Every array whole on every device of the mesh; as it is where these hold none (`compiling.topology`).

    Processes that share the mesh must give the same, and do not wait for each other to find out, as `device_put` would:
    one of them may have failed to read what it should put.
    """
    if not set(mesh.devices.flat) <= set(jax.devices()):
        return tree
    whole = replicated(mesh)
    if whole.is_fully_addressable:
        return jax.device_put(tree, whole)
    put = lambda leaf: jax.make_array_from_callback(leaf.shape, whole, np.asarray(leaf).__getitem__)  # noqa: E731
    return jax.tree.map(put, tree)


def round_up(count: int, devices: int) -> int:
    """The next number of images, or whatever, that so many devices share evenly."""
    return -(-count // devices) * devices


def check_divides(size: int, devices: int, parts: int = 1) -> None:
    """Raises UserError where a global batch of `size` cannot be split over the devices, in `parts` on each of them."""
    unit = devices * parts
    if size % unit:
        accumulated = f" in {parts} parts each (config.optimizer.accumulate)" if parts > 1 else ""
        below = f"{size // unit * unit} or " if size > unit else ""
        raise UserError(
            f"config.batch_size={size} does not divide by {devices} devices{accumulated}; use {below}"
            f"{(size // unit + 1) * unit}."
        )


def put_batch(batch: Batch, mesh: Mesh, rendered: int = 0) -> Batch:
    """A global batch onto the devices, split along its first axis.

    Args:
      batch: this process's share of the batch; with one process, all of it.
      mesh: of `make_mesh`.
      rendered: how many rows of the global batch, its last ones, are rendered; each process holds an equal share of
        these and of the others. In the global batch all rows have the order that a single process would give them.

    Raises:
      UserError: the batch size does not divide by the number of devices.
    """
    processes = jax.process_count()
    size = batch.target.shape[0] * processes
    check_divides(size, mesh.devices.size)
    if processes == 1:
        return jax.device_put(batch, batch_sharding(mesh))
    local = jax.tree.map(np.asarray, batch)
    whole = jax.make_array_from_process_local_data(batch_sharding(mesh), local)
    return _parts_in_order(whole, mesh, processes, rendered) if 0 < rendered < size else whole


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _parts_in_order(batch: Batch, mesh: Mesh, processes: int, rendered: int) -> Batch:
    """Rows (process, part, row) to (part, process, row), the first part being the recorded one."""

    def order(leaf):
        shares = leaf.reshape(processes, -1, *leaf.shape[1:])
        recorded = shares.shape[1] - rendered // processes
        parts = (shares[:, :recorded], shares[:, recorded:])
        rows = jnp.concatenate([part.reshape(-1, *leaf.shape[1:]) for part in parts])
        return jax.lax.with_sharding_constraint(rows, batch_sharding(mesh))

    return jax.tree.map(order, batch)


def path_name(path: tuple) -> str:
    """A pytree path as "params/depth/encoder/conv1/kernel", what the rules match."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


def shardings_by_rules(tree: PyTree, rules: Rules, mesh: Mesh) -> PyTree:
    """The sharding of every leaf: the first rule whose regex is found in the leaf's path; scalars are replicated.

    Optimiser state and averages have their parameter's path within their own, so that one rule places all three.

    Args:
      rules: (regex, spec); a spec names for each axis of the array the mesh axis that splits it, or None, or it is
        "longest": the longest axis that the devices divide, of arrays of `SMALLEST` elements and more.

    Raises:
      UserError: no rule matches a leaf, a rule matches none, or a spec does not fit.
    """
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    for pattern, _ in rules:
        if not any(re.search(pattern, name) for name in names):
            raise UserError(f'the rule "{pattern}" of config.sharding.rules matches no parameter: mend or remove it.')

    def place(path: tuple, leaf) -> NamedSharding:
        name = path_name(path)
        if leaf.ndim == 0:
            return replicated(mesh)
        for pattern, spec in rules:
            if re.search(pattern, name):
                return NamedSharding(mesh, _fitted(spec, leaf.shape, f'"{pattern}" to {name}', mesh))
        raise UserError(f'no sharding rule of config.sharding.rules matches "{name}"; end the rules with (".*", ()).')

    return jax.tree_util.tree_map_with_path(place, tree)


def _fitted(spec: Sequence[str | None] | str, shape: tuple[int, ...], what: str, mesh: Mesh) -> P:
    """The partition of an array of this shape."""
    if spec == LONGEST:
        axes = [axis for axis, length in enumerate(shape) if length % mesh.size == 0]
        if math.prod(shape) < SMALLEST or not axes:
            return P()
        longest = max(axes, key=lambda axis: (shape[axis], axis))
        return P(*[mesh.axis_names[0] if axis == longest else None for axis in range(longest + 1)])
    if isinstance(spec, str):
        raise UserError(f'config.sharding.rules gives "{spec}" for {what}: give axes in a tuple, or "{LONGEST}".')
    for axis, name in enumerate(spec):
        if axis >= len(shape) or (name is not None and name not in mesh.axis_names):
            raise UserError(
                f"config.sharding.rules applies {what}, whose {len(shape)} axes {tuple(spec)} does not fit; the mesh "
                f"has {', '.join(mesh.axis_names)}."
            )
        if name is not None and shape[axis] % mesh.shape[name]:
            raise UserError(
                f"config.sharding.rules applies {what}: its axis {axis} of {shape[axis]} does not divide by the "
                f'{mesh.shape[name]} devices; use "{LONGEST}", or another axis.'
            )
    return P(*spec)

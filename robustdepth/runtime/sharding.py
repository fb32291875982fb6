"""Where arrays live: batches split over the devices, parameters placed by (regex, spec) rules from the config."""

import re
from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from robustdepth.errors import UserError
from robustdepth.types import Batch, PyTree

Rules = Sequence[tuple[str, Sequence[str | None]]]


def make_mesh(axis: str) -> Mesh:
    """One axis over all devices of all processes; Auto, so that Linen modules need no sharding annotations."""
    return jax.make_mesh((jax.device_count(),), (axis,), axis_types=(AxisType.Auto,))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Splits the leading axis over the mesh."""
    return NamedSharding(mesh, P(mesh.axis_names[0]))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, P())


def put_batch(batch: Batch, mesh: Mesh) -> Batch:
    """A global batch onto the devices, split along its first axis.

    Raises:
      UserError: the batch size does not divide by the number of devices.
    """
    size, devices = batch.target.shape[0], mesh.devices.size
    if size % devices:
        raise UserError(
            f"config.batch_size={size} does not divide by {devices} devices; "
            f"use {max(1, size // devices) * devices} or {(size // devices + 1) * devices}."
        )
    return jax.device_put(batch, batch_sharding(mesh))


def path_name(path: tuple) -> str:
    """A pytree path as "params/depth/encoder/conv1/kernel", what the rules match."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


def shardings_by_rules(tree: PyTree, rules: Rules, mesh: Mesh) -> PyTree:
    """The sharding of every leaf: the first rule whose regex is found in the leaf's path; scalars are replicated.

    Raises:
      UserError: no rule matches a leaf.
    """

    def place(path: tuple, leaf) -> NamedSharding:
        name = path_name(path)
        if leaf.ndim == 0:
            return replicated(mesh)
        for pattern, spec in rules:
            if re.search(pattern, name):
                return NamedSharding(mesh, P(*spec))
        raise UserError(f'no sharding rule of config.sharding.rules matches "{name}"; end the rules with (".*", ()).')

    return jax.tree_util.tree_map_with_path(place, tree)

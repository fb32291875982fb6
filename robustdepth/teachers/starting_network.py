"""The depth network that training starts from, frozen, as a teacher of what it already knows."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from robustdepth.geometry.depth import DepthRange
from robustdepth.methods.augment import to_float
from robustdepth.runtime import sharding
from robustdepth.runtime.init_from import init_from
from robustdepth.types import Array, Batch, PyTree


@dataclasses.dataclass(frozen=True)
class StartingNetwork:
    """A depth network that looks at clean images."""

    network: nn.Module
    depths: DepthRange
    variables: PyTree

    def teach(self, batch: Batch) -> Batch:
        """The batch with the network's depth of its targets, in the network's own unit."""
        return dataclasses.replace(batch, start=_depth(self.network, self.depths, self.variables, batch))


def load_starting_network(config: ConfigDict, network: nn.Module, variables: PyTree, mesh: Mesh) -> StartingNetwork:
    """The depth network of config.init_from on every device of the mesh.

    Args:
      network: the depth network of this training, which the starting one must resemble.
      variables: any variables of it; what config.init_from lacks stays so.

    Raises:
      UserError: config.init_from cannot be read, or fits too little of the network.
    """
    filled, _ = init_from(config.init_from, {"depth": variables})
    return StartingNetwork(network, DepthRange.of(config), sharding.put_replicated(filled["depth"], mesh))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _depth(network: nn.Module, depths: DepthRange, variables: PyTree, batch: Batch) -> Array:
    output: Any = network.apply(variables, to_float(batch).target, train=False)
    return depths.full_depth(output.disparities[0], batch.camera.size)

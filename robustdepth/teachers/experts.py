"""The semantic expert of a config, with its weights on the devices, ready to look at batches."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float
from ml_collections import ConfigDict

from robustdepth.data.expert_cache import ExpertCache, describe_cache, open_cache, write_cache
from robustdepth.data.source import build_source
from robustdepth.errors import UserError
from robustdepth.interop.torch_file import read_weights
from robustdepth.models.build import build_segmentation_net
from robustdepth.models.experts import EXPERTS, WORLD, WorldExpert, nearest_stride
from robustdepth.runtime import sharding
from robustdepth.runtime.bundle import BUNDLED_EXPERT, read_bundle
from robustdepth.types import Array, Batch, PyTree


@dataclasses.dataclass(frozen=True)
class Expert:
    """A frozen network that looks at clean images."""

    name: str
    module: nn.Module
    variables: PyTree
    stride: int  # of the features that are used

    def teach(self, batch: Batch) -> Batch:
        """The batch with the expert's features of its targets, unless it has them already (from a cache)."""
        if batch.expert is not None:
            return batch
        return dataclasses.replace(batch, expert=self.look(batch.target))

    def look(self, images: Array) -> Float[Array, "batch rows columns channels"]:
        """Its features, in float32, of uint8 images or float ones in [0, 1]."""
        return _features(self.module, self.stride, self.variables, images)

    def shape(self, images: jax.ShapeDtypeStruct) -> tuple[int, ...]:
        """The shape of its features of images of this shape."""
        found: Any = jax.eval_shape(self.module.apply, self.variables, images)
        return found[self.stride].shape


@functools.partial(jax.jit, static_argnums=(0, 1))
def _features(module: nn.Module, stride: int, variables: PyTree, images: Array) -> Float[Array, "batch h w c"]:
    images = images.astype(jnp.float32) / 255.0 if images.dtype == jnp.uint8 else images
    features: Any = module.apply(variables, images)
    return features[stride].astype(jnp.float32)


def load_expert(semantics: ConfigDict, image_size: tuple[int, int], mesh: Mesh) -> Expert:
    """The expert that `config.semantics` names, for images of `image_size`, on every device of the mesh.

    Raises:
      UserError: an unknown expert, weights that are missing, damaged or of another network, or a stride that does not
        fit.
    """
    name = semantics.expert
    image = jax.ShapeDtypeStruct((1, *image_size, 3), jnp.float32)
    module: nn.Module
    if name == WORLD:
        module, variables = _world_expert(semantics.weights)
        report = f"{name}: loaded {semantics.weights or 'the network that comes with the package'}."
    else:
        kind = EXPERTS.find(name)
        module = kind.build()
        if not semantics.weights or not pathlib.Path(semantics.weights).is_file():
            raise UserError(
                f"the expert {name} has no weights at config.semantics.weights={semantics.weights!r}: download "
                f"{kind.weights} and give its path there."
            )
        shapes = jax.eval_shape(module.init, jax.random.key(0), image)
        filled, filled_report = kind.load(shapes, read_weights(semantics.weights), name)
        variables, report = filled, str(filled_report)
    print(report)
    features: Any = jax.eval_shape(module.apply, variables, image)
    stride = nearest_stride(tuple(features), semantics.stride, name)
    return Expert(name, module, sharding.put_replicated(variables, mesh), stride)


def open_expert_cache(config: ConfigDict, expert: Expert) -> ExpertCache:
    """The expert's features of the config's recordings from config.semantics.cache; what is missing is computed first.

    Raises:
      UserError: the folder holds features of other images or of another expert, or cannot be written.
    """
    source, size = build_source(config), tuple(config.image_size)
    channels = expert.shape(jax.ShapeDtypeStruct((1, *size, 3), jnp.float32))[-1]
    weights = config.semantics.weights or BUNDLED_EXPERT
    meta = describe_cache(expert.name, weights, source, size, expert.stride, channels)
    if jax.process_count() == 1:  # several would write the same files
        print(
            write_cache(config.semantics.cache, source, lambda x: np.asarray(expert.look(x)), meta, config.batch_size)
        )
    return open_cache(config.semantics.cache, meta)


def _world_expert(path: str) -> tuple[nn.Module, PyTree]:
    weights = read_bundle(path or BUNDLED_EXPERT)
    if "segmentation" not in weights.params:
        raise UserError(
            f"config.semantics.weights={path!r} holds no segmentation network, only {sorted(weights.params)}: train "
            "one with configs/world_expert.py and export it."
        )
    module = WorldExpert(build_segmentation_net(weights.config.model))
    params, stats = weights.params["segmentation"], weights.stats.get("segmentation", {})
    return module, {"params": {"net": params}, "batch_stats": {"net": stats}}

"""Training under adverse conditions rendered on the fly (METHOD.md section 4).

**[ours]**, after Robust-Depth (Saunders et al., ICCV 2023): beside the clear target the network sees one under weather
drawn per sample, and `second_view` says what its depth must obey. Poses come from the clear views.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float
from ml_collections import ConfigDict

from robustdepth.conditions.spec import Spec, render_condition
from robustdepth.data.source import learns_metres
from robustdepth.geometry.depth import disparity_to_depth
from robustdepth.imaging.color import to_grey
from robustdepth.imaging.resize import resize_map
from robustdepth.methods.augment import Views
from robustdepth.types import Array

TYPICAL = 15.0  # metres: geometric mean of the depth of a street image


def weather_view(
    spec: Spec, views: Views, disparity: Float[Array, "batch rows columns"], config: ConfigDict, key: Array
) -> Float[Array, "batch height width 3"]:
    """The target as the network sees it, colour jitter included, under the weather that `spec` draws for each sample.

    Weather is rendered with the network's own depth, which gets no gradient from it. Early in the training that depth
    is rough, and so is the weather. Networks that see grey images get grey weather.
    """
    depth = resize_map(disparity_to_depth(disparity, config.model.min_depth, config.model.max_depth), config.image_size)
    depth = in_metres(lax.stop_gradient(depth), is_metric=learns_metres(config))
    image, _ = render_condition(spec, views.seen_target, depth, views.clean.camera, key)
    return to_grey(image) if config.data.grey >= 1.0 else image


def in_metres(depth: Float[Array, "batch height width"], is_metric: bool) -> Float[Array, "batch height width"]:
    """Depth in metres, as conditions want it; depth of no known scale is scaled to a typical street, per sample."""
    if is_metric:
        return depth
    return depth * (TYPICAL / jnp.exp(jnp.mean(jnp.log(depth), axis=(1, 2), keepdims=True)))

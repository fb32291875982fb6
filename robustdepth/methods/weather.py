"""Training under adverse conditions rendered on the fly (METHOD.md section 4).

**[ours]**, after Robust-Depth (Saunders et al., ICCV 2023): beside the clear target the network sees one under weather
drawn per sample, and `second_view` says what its depth must obey. Poses come from the clear views.
"""

import dataclasses

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from robustdepth.conditions.spec import Spec, parse, render_condition
from robustdepth.geometry.depth import DepthRange
from robustdepth.imaging.color import to_grey
from robustdepth.imaging.resize import resize_map
from robustdepth.methods.augment import Views
from robustdepth.switches import learns_metres
from robustdepth.types import Array

TYPICAL = 15.0  # metres: geometric mean of the depth of a street image


@dataclasses.dataclass(frozen=True)
class Settings:
    """config.weather, and what of the other sections counts here."""

    spec: Spec  # what may be drawn
    depths: DepthRange
    is_metric: bool  # whether the network's depth is in metres
    grey: bool  # whether the network sees no colour

    @classmethod
    def of(cls, config: ConfigDict) -> "Settings":
        return cls(parse(config.weather.spec), DepthRange.of(config), learns_metres(config), config.data.grey >= 1.0)


def view(
    settings: Settings, views: Views, disparity: Float[Array, "batch rows columns"], key: Array, step: Int[Array, ""]
) -> Float[Array, "batch height width 3"]:
    """The target as the network sees it, colour jitter included, under the weather that is drawn for each sample.

    Weather is rendered with the network's own depth, which gets no gradient from it. Early in the training that depth
    is rough, and so is the weather. Networks that see grey images get grey weather. The step of the training changes
    nothing.
    """
    depth = resize_map(settings.depths.depth(disparity), views.clean.camera.size)
    depth = in_metres(lax.stop_gradient(depth), settings.is_metric)
    image, _ = render_condition(settings.spec, views.seen_target, depth, views.clean.camera, key)
    return to_grey(image) if settings.grey else image


def in_metres(depth: Float[Array, "batch height width"], is_metric: bool) -> Float[Array, "batch height width"]:
    """Depth in metres, as conditions want it; depth of no known scale is scaled to a typical street, per sample."""
    if is_metric:
        return depth
    return depth * (TYPICAL / jnp.exp(jnp.mean(jnp.log(depth), axis=(1, 2), keepdims=True)))

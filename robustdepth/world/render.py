"""From worlds and cameras to images, depth, labels and moving masks."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Int, UInt8

from robustdepth.types import Array
from robustdepth.world import lighting, raycast, shading
from robustdepth.world.raycast import STRIPS, View
from robustdepth.world.scene import World


def render_views(
    worlds: World, views: View, size: tuple[int, int]
) -> tuple[
    UInt8[Array, "batch view height width 3"],
    Float[Array, "batch view height width"],
    Int[Array, "batch view height width"],
    Bool[Array, "batch view height width"],
]:
    """Images, depth in metres, labels and moving masks. `worlds` has axis [batch], `views` [batch, view]."""
    ray = raycast.rays(views, jnp.arange(STRIPS), size=size)
    seen, casters = raycast.cull(worlds, views, jnp.arange(STRIPS), size=size)
    hit = raycast.cast(worlds, views, ray, seen, size=size)
    looks = shading.look_up(shading.tabulate(worlds, seen, size=size), hit)
    surface = shading.locate(worlds, views, ray, hit, looks, size=size)
    tone = shading.grain(views, ray, hit, looks, surface, size=size)
    albedo = shading.paint(worlds, views, ray, hit, looks, surface, tone, size=size)
    sunlight = lighting.illuminate(worlds, views, ray, hit, casters, surface, size=size)
    openness = lighting.enclose(views, ray, hit, casters, size=size)
    colors = lighting.develop(worlds, ray, hit, surface, albedo, sunlight, openness, size=size)
    return assemble(colors, hit, looks.kind, size=size)


@functools.partial(jax.jit, static_argnames="size")
def assemble(colors: Array, hit: Array, kind: Array, size: tuple[int, int]) -> tuple[Array, Array, Array, Array]:
    """Joins the strips and unpacks what they hold."""
    kind = join_strips(kind, size)
    image = lax.bitcast_convert_type(join_strips(colors, size), jnp.uint8)[..., :3]
    return image, raycast.named(join_strips(hit, size))[0], (kind >> 4) & 15, kind >> 8 > 0


def join_strips(plane: Array, size: tuple[int, int]) -> Array:
    """[batch, view, strip, pixel] -> [batch, view, height, width]."""
    batch, view, strips, _ = plane.shape
    height, width = size
    columns = raycast.strip_width(width)
    image = jnp.moveaxis(plane.reshape(batch, view, strips, height, columns), 2, 3)
    return image.reshape(batch, view, height, strips * columns)[..., :width]

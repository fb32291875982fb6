"""How surfaces are lit, and what the camera makes of it: from albedo to colours."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from robustdepth.world import textures
from robustdepth.world.distance import paint_distance
from robustdepth.world.raycast import SKY, ZONES, View, named, stage
from robustdepth.world.scene import World
from robustdepth.world.shading import Names, Surface, normals, unpack
from robustdepth.world.shapes import Plane, Vector, hit_box, hit_column, hit_screen, offset, shade_crown

NEAR_SPOTS = 6.0  # metres; spots of light below leaves fade from there on


@stage("world", "view", "pixels", "pixels", "pixels", "pixels")
def illuminate(
    world: World, view: View, ray: Vector, hit: Names, casters: tuple, surface: Surface, size: tuple[int, int]
) -> Plane:
    """Sunlight that reaches every point, in [0, 1]."""
    sun, depth = tuple(world.light.sun[i] for i in range(3)), named(hit)[0]
    normal = normals(surface)
    point = [view.position[i] + depth * ray[i] + 0.03 * normal[i] for i in range(3)]
    facing = jnp.clip(sum(n * s for n, s in zip(normal, sun, strict=True)), 0.0, 1.0)
    clear = jnp.float32(1.0)
    blur = jnp.clip(0.05 * (depth - NEAR_SPOTS), 0.0, 1.0)
    shapes: tuple[tuple[Callable, float], ...] = (
        (hit_box, 1.0),
        (hit_screen, 1.0),
        (hit_column, 1.0),
        (functools.partial(shade_crown, blur=blur), 0.85),
    )
    for solids, (hit_solid, weight) in zip(casters, shapes, strict=True):
        for k in range(solids.cos.shape[0]):
            enter, leave = hit_solid(solids, k, point, sun)
            blocked = (enter < leave) & (leave > 0) & ((enter > 0) | (weight == 1.0))
            clear = jnp.where(blocked, jnp.minimum(clear, 1.0 - weight), clear)
    return facing * clear


@stage("view", "pixels", "pixels", "pixels")
def enclose(view: View, ray: Vector, hit: Names, casters: tuple, size: tuple[int, int]) -> Plane:
    """Openness of the ground to the sky, in [0, 1]: it is dark close to the foot of a box."""
    depth, name = named(hit)
    point = [view.position[i] + depth * ray[i] for i in range(3)]
    boxes, closed = casters[0], jnp.float32(0.0)
    for k in range(boxes.cos.shape[0]):
        x, y, z = offset(boxes, k, point)
        gap = jnp.maximum(jnp.maximum(jnp.abs(x) - boxes.half[k, 0], jnp.abs(z) - boxes.half[k, 2]), 0.0)
        closed = jnp.maximum(closed, 1.0 - 1.8 * gap - 2.0 * jnp.maximum(y - boxes.half[k, 1], 0.0))
    return jnp.where(name >= ZONES, 1.0 - 0.75 * jnp.clip(closed, 0.0, 1.0), 1.0)


@stage("world", *["pixels"] * 6)
def develop(
    world: World,
    ray: Vector,
    hit: Names,
    surface: Surface,
    albedo: Names,
    sunlight: Plane,
    openness: Plane,
    size: tuple[int, int],
) -> Names:
    """Light, sky, haze and the camera's response: eight-bit red, green and blue in one integer."""
    light, (dx, dy, dz), (depth, name) = world.light, ray, named(hit)
    norm = lax.rsqrt(dx * dx + dy * dy + dz * dz)
    up = jnp.clip(-dy * norm, 0.0, 1.0)
    cloud = textures.clouds(dx * norm, up, dz * norm, light.seed)
    cover = jnp.clip((cloud - 1.0 + light.clouds) * 2.5, 0.0, 1.0)
    hemisphere = openness * (0.75 - 0.25 * normals(surface)[1])
    veil = 1.0 - jnp.exp(-light.haze * depth)
    gradient = jnp.sqrt(up)
    is_land, land = paint_distance(world, ray, surface.local[1])
    channels = []
    for i, own in enumerate(unpack(albedo)):
        sky = light.horizon[i] + (light.zenith[i] - light.horizon[i]) * gradient
        sky = sky + (light.horizon[i] * (0.7 + 0.6 * cloud) - sky) * cover
        lit = own * (light.ambient[i] * hemisphere + light.sun_color[i] * sunlight)
        sky = jnp.where(is_land, land[i], sky)
        channels.append(jnp.where(name == SKY, sky, lit + (light.horizon[i] - lit) * veil))
    grey = 0.3 * channels[0] + 0.59 * channels[1] + 0.11 * channels[2]
    packed = jnp.int32(0)
    for i, channel in enumerate(channels):
        value = jnp.clip(grey + (channel - grey) * light.saturation, 1e-6, 1.0)
        packed |= (255.0 * jnp.exp(light.gamma * jnp.log(value)) + 0.5).astype(jnp.int32) << 8 * i
    return packed

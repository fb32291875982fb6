"""What lies beyond the farthest surface: ground that goes on to the horizon, and a skyline of woods, hills and roofs.

It is painted on the sky and has the sky's depth. If ground ended there, at a visible edge below the horizon, a network
would learn to look for the horizon above every such edge, and see what is far in real streets too near.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Bool

from robustdepth.types import Array
from robustdepth.world import textures
from robustdepth.world.ground import level
from robustdepth.world.raycast import FAR
from robustdepth.world.scene import World
from robustdepth.world.shapes import Plane, Vector

FARTHEST = 2000.0  # metres
SUNLIT = 0.6  # of the skyline, where the sun stands behind the camera


def paint_distance(world: World, ray: Vector, beyond: Plane) -> tuple[Bool[Array, "pixel"], Vector]:
    """Where rays that hit no surface meet distant land, and its colours under the light and haze of the scene.

    Args:
      ray: world directions, as `raycast.rays` gives them.
      beyond: metres from the kerb at FAR, negative on the road.
    """
    (dx, dy, dz), light, ground = ray, world.light, world.ground
    scale = jnp.reciprocal(jnp.sqrt(dx * dx + dy * dy + dz * dz))
    right, up = dx * scale, -dy * scale
    outline = textures.noise(9.0 * right, 0.0 * up, light.seed) + 0.5 * textures.noise(31.0 * right, up, light.seed + 1)
    tone = textures.noise(110.0 * right, 150.0 * up, light.seed + 2)
    outline = outline + 0.2 * textures.noise(120.0 * right, 0.0 * up, light.seed + 3)
    below = dy > 0
    drop = level(ground, FAR) - world.ego.position[1, 1]
    distance = jnp.where(below, jnp.clip(drop * (1.0 / jnp.maximum(dy, 1e-6)), FAR, FARTHEST), light.skyline[2])
    veil = 1.0 - jnp.exp(-light.haze * distance)
    sunlit = jnp.where(below, -light.sun[1], SUNLIT * 0.5 * (1.0 - light.sun[2]))
    colors = []
    for i in range(3):
        land = jnp.where(beyond < 0, ground.color[0, i], ground.color[3, i])
        own = jnp.where(below, land, light.skyline_color[i] * (1.0 + 0.6 * tone))
        lit = own * (light.ambient[i] + light.sun_color[i] * sunlit)
        colors.append(lit + (light.horizon[i] - lit) * veil)
    return below | (up < light.skyline[0] + light.skyline[1] * outline), tuple(colors)

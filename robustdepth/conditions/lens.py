"""What happens on and in the lens: drops of water on the glass, and light that goes astray in it."""

import jax
import jax.numpy as jnp

from robustdepth.conditions.condition import Draw, Map, Radiance, condition
from robustdepth.conditions.fields import cells, seeds, uniform
from robustdepth.conditions.scene import directions, sky
from robustdepth.geometry.warp import bilinear_sample
from robustdepth.imaging.planes import from_planes, to_planes
from robustdepth.imaging.resize import resize_map
from robustdepth.numerics import unstack
from robustdepth.types import Array, Camera

DROP_CELLS = (0.1, 0.18, 0.36)  # sizes of drops' cells, in heights of the image, small to large
REACH = 2.5  # a drop shows a wide view of the scene, small and upside down
COARSE = 4  # drops are out of focus: what they show comes from an image smaller by this factor


@condition
def lens_drops(radiance: Radiance, depth: Map, camera: Camera, key: Array, strength: Draw) -> Radiance:
    """Drops on the glass: ellipses that show a wide part of the scene upside down, blurred, with dark rims.

    After the photometric model of Halimeh & Roser, IV 2009: a drop refracts like a fisheye lens and is out of focus.
    The severity is how many cells hold a drop.
    """
    batch, _, height, width = radiance.shape
    x = jnp.arange(width, dtype=jnp.float32).reshape(1, 1, 1, width)
    y = jnp.arange(height, dtype=jnp.float32).reshape(1, 1, height, 1)
    x, y = (jnp.broadcast_to(v, (batch, 1, height, width)) for v in (x, y))
    opacity, shade = jnp.zeros_like(depth), jnp.ones_like(depth)
    from_x, from_y = x, y
    for part, cell_key in zip(DROP_CELLS, jax.random.split(key, len(DROP_CELLS)), strict=True):
        size = part * height
        cell = cells(x / size, y / size, seeds(cell_key, batch))
        radius = 0.14 + 0.2 * cell.draws[1]  # in cells; the tallest drop, centred within 0.45 to 0.55, stays inside
        tall = 0.8 + 0.5 * cell.draws[2]
        dx, dy = cell.across - 0.45 - 0.1 * cell.draws[2], cell.along - 0.45 - 0.1 * cell.draws[1]
        squared = jnp.square(dx * tall / radius) + jnp.square(dy / (tall * radius))
        here = jnp.where(cell.draws[0] < 0.75 * strength, jnp.clip(4.0 * (1.0 - squared), 0.0, 1.0), 0.0)
        covers = here > 0
        from_x = jnp.where(covers, x - (1.0 + REACH) * dx * size, from_x)
        from_y = jnp.where(covers, y - (1.0 + REACH) * dy * size, from_y)
        shade = jnp.where(covers, 1.05 - 0.5 * squared * squared, shade)
        opacity = jnp.maximum(opacity, here)
    coarse = resize_map(radiance, (max(2, height // COARSE), max(2, width // COARSE)))
    scale_y, scale_x = coarse.shape[2] / height, coarse.shape[3] / width
    places = jnp.stack([(from_x[:, 0] + 0.5) * scale_x - 0.5, (from_y[:, 0] + 0.5) * scale_y - 0.5], axis=-1)
    seen = to_planes(bilinear_sample(from_planes(coarse), places)) * shade
    return radiance + opacity * (seen - radiance)


@condition
def glare(radiance: Radiance, depth: Map, camera: Camera, key: Array, strength: Draw) -> Radiance:
    """A low sun in the picture: veiling light, its disc where nothing hides it, and ghosts between the lens's surfaces.

    The veil follows Stiles & Holladay (CIE 146, 2002): 10 E / angle^2, angles in degrees. The exposure gives way to the
    light. Ghosts lie on the line through the sun and the optical axis, on the far side (Hullin et al., SIGGRAPH 2011).
    """
    keys = jax.random.split(key)
    batch = radiance.shape[0]
    right, down = directions(camera)
    sun_x, sun_y = far_direction(depth, camera, keys[0])
    squared = jnp.square(right - sun_x) + jnp.square(down - sun_y)
    veil = veiling(squared * DEGREE**-2, 1.2)
    disc = jnp.exp(-squared / 0.03**2) * sky(depth, camera)
    warm = jnp.array([1.0, 0.9, 0.72], jnp.float32).reshape(1, 3, 1, 1)
    light = (veil + 2.0 * disc) * warm
    for i, (place, radius, color) in enumerate(GHOSTS):
        distance = jnp.square(right + place * sun_x) + jnp.square(down + place * sun_y)
        bright = uniform(jax.random.fold_in(keys[1], i), batch, 0.02, 0.1)
        disc = jnp.clip(6.0 * (1.0 - distance / radius**2), 0.0, 1.0)
        light = light + bright * disc * jnp.array(color, jnp.float32).reshape(1, 3, 1, 1)
    return radiance * (1.0 - 0.35 * strength) + strength * light


DEGREE = jnp.pi / 180.0
# Ghosts: place along the line through the axis (1: as far beyond it as the sun is on this side), radius, colour.
GHOSTS = (
    (0.35, 0.05, (0.5, 1.0, 0.6)),
    (0.75, 0.09, (1.0, 0.7, 0.4)),
    (1.25, 0.035, (0.5, 0.7, 1.0)),
)


def far_direction(depth: Map, camera: Camera, key: Array) -> tuple[Draw, Draw]:
    """Where the sun may stand: of four directions drawn in the upper half of the image, the one that sees farthest."""
    batch, _, height, width = depth.shape
    row_key, column_key = jax.random.split(key)
    rows = jax.random.randint(row_key, (batch, 4), 0, max(1, height // 2))
    columns = jax.random.randint(column_key, (batch, 4), 0, width)

    def farthest(depth: Array, rows: Array, columns: Array) -> tuple[Array, Array]:
        best = jnp.argmax(depth[rows, columns])
        return rows[best].astype(jnp.float32), columns[best].astype(jnp.float32)

    row, column = jax.vmap(farthest)(depth[:, 0], rows, columns)
    pixel = jnp.stack([column, row], axis=-1)
    right, down = unstack((pixel - camera.center) / camera.focal)
    return right[:, None, None, None], down[:, None, None, None]


def veiling(squared_degrees: Map, illuminance: float) -> Map:
    """Veiling light 10 E / angle^2 of a source, even within 1.5 degrees of it."""
    return 10.0 * illuminance / (squared_degrees + 1.5**2)

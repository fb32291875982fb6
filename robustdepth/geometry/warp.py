"""View synthesis: the source seen from the target camera, I_{s->t} = I_s<proj(D_t, T_{t->s}, K)> (METHOD.md 1.1)."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Int

from robustdepth.geometry.camera import back_project, project
from robustdepth.geometry.se3 import transform
from robustdepth.imaging.planes import from_planes, sum_planes
from robustdepth.numerics import computed_once, unstack
from robustdepth.types import Array, Camera


def bilinear_sample(
    image: Float[Array, "batch height width channel"], coordinates: Float[Array, "batch rows cols 2"]
) -> Float[Array, "batch rows cols channel"]:
    """Bilinear values of `image` at pixel `coordinates` (x, y); outside the image its border pixels are repeated.

    The gradient flows to the coordinates only: the image is data. The forward pass keeps dI/dx and dI/dy, so nothing is
    gathered or scattered backwards. Outside the image that gradient is zero, as border padding makes it.
    """
    return from_planes(_sample(image, *unstack(coordinates)))


@jax.custom_vjp
def _sample(image: Array, x: Array, y: Array) -> Array:
    return _forward(image, x, y)[0]


def _forward(image: Array, x: Array, y: Array):
    x, y = computed_once((x, y))  # computed once, not again in each of the reads that follow
    height, width = image.shape[1:3]
    inside_x, inside_y = jnp.clip(x, 0.0, width - 1.0), jnp.clip(y, 0.0, height - 1.0)
    column = jnp.clip(jnp.floor(inside_x), 0.0, width - 2.0)
    row = jnp.clip(jnp.floor(inside_y), 0.0, height - 2.0)
    wx, wy = (inside_x - column)[:, None], (inside_y - row)[:, None]
    (top_left, top_right), (low_left, low_right) = _neighbours(image, row.astype(jnp.int32), column.astype(jnp.int32))
    top = top_left + wx * (top_right - top_left)
    low = low_left + wx * (low_right - low_left)
    slope_x = (1.0 - wy) * (top_right - top_left) + wy * (low_right - low_left)
    slope_y = low - top
    moves_x, moves_y = (x == inside_x)[:, None], (y == inside_y)[:, None]
    slopes = jnp.where(moves_x, slope_x, 0.0), jnp.where(moves_y, slope_y, 0.0)
    return computed_once(top + wy * slope_y), computed_once(slopes)


def _neighbours(
    image: Float[Array, "batch height width channel"],
    row: Int[Array, "batch rows cols"],
    column: Int[Array, "batch rows cols"],
) -> Float[Array, "2 2 batch channel rows cols"]:
    """The 2x2 pixels whose upper left one is at (row, column), as planes; one gather of whole patches.

    The batch is a batching dimension of the gather, so that devices which share it need not see each other's images.
    """
    patches = lax.gather(
        image,
        jnp.stack([row, column], axis=-1),
        lax.GatherDimensionNumbers(
            offset_dims=(3, 4, 5),
            collapsed_slice_dims=(),
            start_index_map=(1, 2),
            operand_batching_dims=(0,),
            start_indices_batching_dims=(0,),
        ),
        slice_sizes=(1, 2, 2, image.shape[-1]),
        mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )
    return patches.transpose(3, 4, 0, 5, 1, 2)


def _backward(slopes, cotangent: Array):
    slope_x, slope_y = slopes
    return None, sum_planes(cotangent * slope_x), sum_planes(cotangent * slope_y)


_sample.defvjp(_forward, _backward)


def reproject(
    depth: Float[Array, "batch height width"], camera: Camera, motion: Float[Array, "batch 4 4"]
) -> tuple[Float[Array, "batch height width 2"], Float[Array, "batch height width"]]:
    """Where every target pixel lands in the source view: pixel coordinates (x, y), and depth there (D_{t->s})."""
    return project(transform(motion, back_project(depth, camera)), camera)


def inside(
    coordinates: Float[Array, "batch height width 2"],
    depth: Float[Array, "batch height width"],
    size: tuple[int, int],
) -> Bool[Array, "batch height width"]:
    """True where a projected point lies in front of the camera and within the image of `size` (height, width)."""
    x, y = unstack(coordinates)
    return (depth > 1e-3) & (x >= 0) & (x <= size[1] - 1) & (y >= 0) & (y <= size[0] - 1)


def synthesise(
    source: Float[Array, "batch height width channel"],
    depth: Float[Array, "batch height width"],
    camera: Camera,
    motion: Float[Array, "batch 4 4"],
) -> tuple[Float[Array, "batch height width channel"], Bool[Array, "batch height width"]]:
    """The target view rebuilt from `source`, and where the source really saw it.

    Args:
      source: the source image; border pixels are repeated outside it.
      depth: of the target, in the unit of `motion`'s translation.
      camera: of both views, batched.
      motion: T_{target -> source}.
    """
    coordinates, depth_in_source = reproject(depth, camera, motion)
    return bilinear_sample(source, coordinates), inside(coordinates, depth_in_source, camera.size)

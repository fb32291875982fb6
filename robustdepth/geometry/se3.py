"""Rigid motions as 4x4 matrices T that act on column points: p' = R p + t."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from robustdepth.numerics import safe_sqrt, unstack
from robustdepth.types import Array


def rotation_from_axis_angle(vector: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3 3"]:
    """Rodrigues' formula R = I + a [v]x + b [v]x^2 with a = sin|v|/|v|, b = (1 - cos|v|)/|v|^2.

    Value and gradient are finite at v = 0, where untrained pose networks start.
    """
    squared = jnp.sum(jnp.square(vector), axis=-1)[..., None, None]
    small = squared < 1e-6
    angle = safe_sqrt(jnp.where(small, 1.0, squared))
    a = jnp.where(small, 1.0 - squared / 6.0, jnp.sin(angle) / angle)
    # 1 - cos x = 2 sin^2(x/2) keeps full precision where x is small
    b = jnp.where(small, 0.5 - squared / 24.0, 2.0 * jnp.square(jnp.sin(0.5 * angle) / angle))
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    zero = jnp.zeros_like(x)
    rows = [jnp.stack(row, axis=-1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    cross = jnp.stack(rows, axis=-2)
    outer = vector[..., :, None] * vector[..., None, :]
    eye = jnp.broadcast_to(jnp.eye(3, dtype=vector.dtype), cross.shape)
    # [v]x^2 = v v^T - |v|^2 I needs no matrix product, hence no reduced precision on accelerators
    return eye + a * cross + b * (outer - squared * eye)


def matrix(rotation: Float[Array, "*batch 3 3"], translation: Float[Array, "*batch 3"]) -> Float[Array, "*batch 4 4"]:
    """The 4x4 matrix of p' = R p + t."""
    top = jnp.concatenate([rotation, translation[..., None]], axis=-1)
    last = jnp.broadcast_to(jnp.array([0.0, 0.0, 0.0, 1.0], top.dtype), (*top.shape[:-2], 1, 4))
    return jnp.concatenate([top, last], axis=-2)


def matrix_from_vector(
    axis_angle: Float[Array, "*batch 3"], translation: Float[Array, "*batch 3"]
) -> Float[Array, "*batch 4 4"]:
    """The motion given by an axis-angle rotation (radians) and a translation."""
    return matrix(rotation_from_axis_angle(axis_angle), translation)


def inverse(motion: Float[Array, "*batch 4 4"]) -> Float[Array, "*batch 4 4"]:
    """T^-1 = [R^T, -R^T t]."""
    rotation = jnp.swapaxes(motion[..., :3, :3], -1, -2)
    return matrix(rotation, -rotate(rotation, motion[..., :3, 3]))


def rotate(rotation: Float[Array, "*batch 3 3"], vector: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """R v by multiply and add: never a reduced-precision matrix unit."""
    return jnp.sum(rotation * vector[..., None, :], axis=-1)


def transform(
    motion: Float[Array, "batch 4 4"], points: Float[Array, "batch height width 3"]
) -> Float[Array, "batch height width 3"]:
    """R p + t for every point of an image, by multiply and add in full precision."""
    return lax.platform_dependent(motion[:, None, :3], points, cpu=_transform, default=_transform_by_rows)


def _transform(motion: Array, points: Array) -> Array:
    x, y, z = unstack(points)
    rows = (unstack(motion[:, :, None, i]) for i in range(3))
    return jnp.stack([a * x + b * y + c * z + d for a, b, c, d in rows], axis=-1)


def _transform_by_rows(motion: Array, points: Array) -> Array:
    """A motion for every row of pixels: its gradient is one sum over rows of all its numbers, not a sum for each."""
    return _transform(jnp.broadcast_to(motion, (motion.shape[0], points.shape[1], 3, 4)), points)


def stereo_motion(baseline: Float[Array, "batch"]) -> Float[Array, "batch 4 4"]:
    """T_{target -> stereo camera} of a rectified rig whose other camera stands at x = `baseline` (metres, signed)."""
    zero = jnp.zeros_like(baseline)
    eye = jnp.broadcast_to(jnp.eye(3, dtype=baseline.dtype), (baseline.shape[0], 3, 3))
    return matrix(eye, jnp.stack([-baseline, zero, zero], axis=-1))

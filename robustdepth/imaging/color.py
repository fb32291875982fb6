"""Colour jitter and grey images, batched with one draw per sample."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from robustdepth.types import Array

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
YIQ = np.array([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])


def luminance(images: Float[Array, "*batch 3"]) -> Float[Array, "*batch 1"]:
    """BT.601 luma of RGB."""
    weights = jnp.array(LUMA, images.dtype).reshape((1,) * (images.ndim - 1) + (3,))
    return jnp.sum(images * weights, axis=-1, keepdims=True)


def to_grey(images: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """Three equal channels."""
    return jnp.broadcast_to(luminance(images), images.shape)


def rotate_hue(images: Float[Array, "batch view height width 3"], turns: Float[Array, "batch"]) -> Array:
    """Hue shifted by a fraction of a full turn: a rotation of the chroma plane of YIQ, linear and without branches."""
    to_yiq, to_rgb = jnp.asarray(YIQ, images.dtype), jnp.asarray(np.linalg.inv(YIQ), images.dtype)
    angle = 2.0 * jnp.pi * turns
    cos, sin, zero, one = jnp.cos(angle), jnp.sin(angle), jnp.zeros_like(angle), jnp.ones_like(angle)
    rows = [jnp.stack(r, axis=-1) for r in ((one, zero, zero), (zero, cos, -sin), (zero, sin, cos))]
    rotation = jnp.stack(rows, axis=-2)
    whole = jnp.einsum("ij,bjk,kl->bil", to_rgb, rotation, to_yiq, precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(images[..., None, :] * whole[:, None, None, None], axis=-1)


def jitter(
    images: Float[Array, "batch view height width 3"],
    key: Array,
    strength: tuple[float, float, float, float],
    probability: float = 0.5,
) -> Float[Array, "batch view height width 3"]:
    """Brightness, contrast, saturation and hue jitter: one draw per sample, the same for all its views.

    Args:
      images: in [0, 1].
      strength: half-ranges (brightness, contrast, saturation as factors round 1; hue in turns), as commonly given.
      probability: that a sample is jittered at all.
    """
    batch = images.shape[0]
    keys = jax.random.split(key, 5)

    def factor(k: Array, half: float) -> Array:
        return jax.random.uniform(k, (batch, 1, 1, 1, 1), minval=1.0 - half, maxval=1.0 + half)

    out = jnp.clip(images * factor(keys[0], strength[0]), 0.0, 1.0)
    grey_level = jnp.mean(luminance(out), axis=(2, 3), keepdims=True)
    out = jnp.clip(grey_level + (out - grey_level) * factor(keys[1], strength[1]), 0.0, 1.0)
    grey = luminance(out)
    out = jnp.clip(grey + (out - grey) * factor(keys[2], strength[2]), 0.0, 1.0)
    turns = jax.random.uniform(keys[3], (batch,), minval=-strength[3], maxval=strength[3])
    out = jnp.clip(rotate_hue(out, turns), 0.0, 1.0)
    chosen = jax.random.bernoulli(keys[4], probability, (batch, 1, 1, 1, 1))
    return jnp.where(chosen, out, images)

"""Photometric error between a target and its synthesised views (METHOD.md 1.2 and 1.3)."""

from collections.abc import Sequence
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float

from robustdepth.imaging.planes import sum_planes, to_planes
from robustdepth.imaging.ssim import Moments, box_mean, box_mean_transpose, ssim
from robustdepth.numerics import computed_once
from robustdepth.types import Array

# An error no pair of images in [0, 1] can reach: it marks a source view that a sample does not have.
MISSING = 10.0


def photometric_error(
    target: Moments, view: Float[Array, "batch height width channel"], ssim_share: float = 0.85
) -> Float[Array, "batch height width"]:
    """pe(a, b) = 0.85 clip((1 - SSIM)/2, 0, 1) + 0.15 |a - b|, mean over channels, in [0, 1].

    Source: Zhao et al. 2017 and Godard et al., CVPR 2017; METHOD.md 1.2. The target's moments are passed in because one
    target is compared with many views. The gradient flows to the view only: the target is data.
    """
    return _photometric_error(target, to_planes(view), ssim_share)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _photometric_error(target: Moments, view: Array, ssim_share: float) -> Array:
    return _forward(target, view, ssim_share)[0]


def _forward(target: Moments, view: Array, ssim_share: float):
    means = computed_once(_means(target, view))
    dissimilarity = jnp.clip(0.5 - 0.5 * ssim(target, *means).value, 0.0, 1.0)
    error = ssim_share * dissimilarity + (1.0 - ssim_share) * jnp.abs(target.image - view)
    return sum_planes(error) / view.shape[1], (target, view, means)


def _means(target: Moments, view: Array) -> tuple[Array, Array, Array]:
    return box_mean(view), box_mean(jnp.square(view)), box_mean(target.image * view)


def _backward(ssim_share: float, residuals, cotangent: Array):
    """Through SSIM in closed form: three box filters instead of the dozen that differentiating each step would run."""
    target, view, means = residuals
    # What costs accelerators is to keep the means.
    means = lax.platform_dependent(
        target, view, means, cpu=lambda t, v, kept: kept, default=lambda t, v, kept: _means(t, v)
    )
    similarity = ssim(target, *means)
    cotangent = cotangent[:, None] / view.shape[1]
    moves = jnp.abs(similarity.value) < 1.0  # where the clip passes gradient
    by_ssim = jnp.where(moves, -0.5 * ssim_share * cotangent, 0.0)
    by_mean = box_mean_transpose(by_ssim * similarity.by_mean)
    by_square = box_mean_transpose(by_ssim * similarity.by_square)
    by_product = box_mean_transpose(by_ssim * similarity.by_product)
    by_absolute = (1.0 - ssim_share) * cotangent * jnp.sign(view - target.image)
    return None, by_mean + 2.0 * view * by_square + target.image * by_product + by_absolute


_photometric_error.defvjp(_forward, _backward)


class Selection(NamedTuple):
    """Per pixel the smallest error over the sources, and what it was compared with."""

    error: Float[Array, "batch height width"]  # 0 where the pixel does not count
    counts: Bool[Array, "batch height width"]  # pixels of samples that have at least one source view
    automasked: Bool[Array, "batch height width"]  # pixels that no motion explains better than standing still


def combine(
    errors: Sequence[Float[Array, "batch height width"]], valid: Bool[Array, "batch source"], minimum: bool
) -> Float[Array, "batch height width"]:
    """The minimum (or mean) over the source views that each sample has; `MISSING` where it has none."""
    there = [valid[:, s, None, None] for s in range(len(errors))]
    if minimum:
        return reduce(jnp.minimum, (jnp.where(t, error, MISSING) for t, error in zip(there, errors, strict=True)))
    total = sum(jnp.where(t, error, 0.0) for t, error in zip(there, errors, strict=True))
    number = jnp.sum(valid, axis=1, dtype=jnp.float32)[:, None, None]
    return jnp.where(number > 0, total / jnp.maximum(number, 1.0), MISSING)


def identity_error(
    errors: Sequence[Float[Array, "batch height width"]],
    valid: Bool[Array, "batch source"],
    key: Array,
    *,
    minimum: bool = True,
) -> Float[Array, "batch height width"]:
    """What standing still explains: the combined errors of the unwarped sources, for the auto-mask.

    Noise of 1e-5 drawn from `key` breaks ties, so that a static scene does not pass as perfectly explained.
    """
    still = combine(errors, valid, minimum)
    return still + 1e-5 * jax.random.normal(key, still.shape)


def select(
    errors: Sequence[Float[Array, "batch height width"]],
    still: Float[Array, "batch height width"] | None,
    valid: Bool[Array, "batch source"],
    *,
    minimum: bool = True,
) -> Selection:
    """Minimum reprojection with auto-masking (Godard et al., ICCV 2019; METHOD.md 1.3).

    Args:
      errors: of the synthesised view of each source.
      still: `identity_error` of the unwarped sources; None switches auto-masking off.
      valid: which sources each sample has.
      minimum: per-pixel minimum over sources (occlusions); False: their mean.
    """
    best = combine(errors, valid, minimum)
    counts = jnp.broadcast_to(jnp.any(valid, axis=1)[:, None, None], best.shape)
    if still is None:
        return Selection(jnp.where(counts, best, 0.0), counts, jnp.zeros_like(counts))
    error = jnp.minimum(best, jnp.maximum(still, 0.0))  # the noise on equal images may be negative
    return Selection(jnp.where(counts, error, 0.0), counts, (still < best) & counts)

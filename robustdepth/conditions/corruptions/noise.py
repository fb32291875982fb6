"""Noise of the robustness benchmark: gaussian, shot, impulse, ISO, and the noisy dark image.

Every function takes one image in [0, 1] that holds multiples of 1/255, severity - 1, and a key.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Key

from robustdepth.conditions.corruptions.corruption import CORRUPTIONS
from robustdepth.conditions.corruptions.grid import pick
from robustdepth.numerics import safe_div
from robustdepth.types import Array

GAUSSIAN = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation
PHOTONS = (60.0, 25.0, 12.0, 5.0, 3.0)  # at full white
IMPULSE = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of values
ISO_PHOTONS = 25.0
DARKEST = (0.6, 0.5, 0.4, 0.3, 0.2)  # what white becomes


@CORRUPTIONS.listed("gaussian")
def gaussian(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """Independent normal noise on every value (ImageNet-C)."""
    return _add_normal(image, pick(GAUSSIAN, level), key)


@CORRUPTIONS.listed("impulse")
def impulse(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """Salt and pepper: a share of all values, each channel for itself, becomes 0 or 1 (ImageNet-C)."""
    share, draw = pick(IMPULSE, level), jax.random.uniform(key, image.shape)
    return jnp.where(draw < share, (draw < 0.5 * share).astype(image.dtype), image)


@CORRUPTIONS.listed("shot")
def shot(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """Poisson noise of few photons: Poisson(c x) / c (ImageNet-C)."""
    photons = pick(PHOTONS, level)
    return _count_photons(image, _LEVELS * photons, key, top=64) / photons


@CORRUPTIONS.listed("iso")
def iso(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """Poisson noise of 25 photons at white, clipped, then normal noise of 0.7 times GAUSSIAN (RoboDepth)."""
    poisson, normal = jax.random.split(key)
    counted = _count_photons(image, _LEVELS * ISO_PHOTONS, poisson, top=32) / ISO_PHOTONS
    return _add_normal(jnp.clip(counted, 0.0, 1.0), 0.7 * pick(GAUSSIAN, level), normal)


@CORRUPTIONS.listed("dark")
def dark(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """Low light: c ((x - min) / (max - min))^2 with Poisson noise of 10 times PHOTONS and normal noise of a tenth of
    GAUSSIAN (RoboDepth). Minimum and maximum are over the whole image."""
    low, high = jnp.min(image), jnp.max(image)
    photons, poisson, normal = 10.0 * pick(PHOTONS, level), *jax.random.split(key)
    dimmed = pick(DARKEST, level) * jnp.square(jnp.clip(safe_div(jnp.asarray(_LEVELS) - low, high - low), 0.0, 1.0))
    counted = _count_photons(image, dimmed * photons, poisson, top=512) / photons  # rates up to 360
    return _add_normal(jnp.clip(counted, 0.0, 1.0), 0.1 * pick(GAUSSIAN, level), normal)


_LEVELS = np.arange(256, dtype=np.float32) / np.float32(255)


def _add_normal(image: Array, deviation: Array, key: Array) -> Array:
    return image + deviation * jax.random.normal(key, image.shape)


def _count_photons(
    image: Float[Array, "height width 3"], rates: Float[Array, "256"], key: Key[Array, ""], top: int
) -> Float[Array, "height width 3"]:
    """Poisson counts, at most `top` - 1 (a power of two less one), whose mean depends on a value's 8-bit level.

    An image has only 256 levels, so the distribution functions fit a table, and a binary search in it inverts them: a
    fixed number of steps, where general samplers reject until the last pixel of the batch is content.
    """
    counts = jnp.arange(top, dtype=jnp.float32)[None]
    rates = jnp.maximum(rates, 1e-12)[:, None]
    cumulative = jnp.cumsum(jnp.exp(counts * jnp.log(rates) - rates - jax.lax.lgamma(counts + 1.0)), axis=1).ravel()
    draw = jax.random.uniform(key, image.shape)
    row = jnp.round(image * 255.0).astype(jnp.int32) * top
    found = jnp.zeros_like(row)
    for step in (2**power for power in reversed(range(top.bit_length() - 1))):
        found += jnp.where(cumulative[row + found + step - 1] <= draw, step, 0)
    return found.astype(jnp.float32)

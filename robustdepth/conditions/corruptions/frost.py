"""Frost of the robustness benchmark: ImageNet-C lays photographs of frost over the image.

Those photographs are not in this package. A procedural texture takes their place, made to their statistics: the mean
and spread of each channel, the fall of the spectrum, the way they are enlarged to cover the image. It has no
recognisable ferns, so numbers under `frost` are near those of the benchmark, not equal to them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Key

from robustdepth.conditions.corruptions.corruption import CORRUPTIONS
from robustdepth.conditions.corruptions.grid import pick
from robustdepth.numerics import safe_div
from robustdepth.types import Array

BLEND = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # share of the image, of the frost
# Measured on the five photographs in use: height and width, mean and deviation of each channel in 8-bit levels.
PHOTOGRAPHS = (
    ((600, 900), (78, 149, 166), (27, 16, 15)),
    ((315, 560), (201, 205, 214), (21, 22, 23)),
    ((315, 560), (201, 205, 214), (21, 22, 23)),
    ((350, 527), (138, 153, 165), (28, 28, 30)),
    ((495, 660), (112, 123, 135), (44, 43, 42)),
)
FALL = 1.0  # their amplitudes fall with frequency to this power
LOWEST = 1 / 256  # cycles per pixel below which they do not rise further


@CORRUPTIONS.listed("frost")
def frost(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """One of five kinds of frost, added to the darkened image."""
    kind, texture = jax.random.split(key)
    layer = frost_texture(image.shape[:2], jax.random.randint(kind, (), 0, len(PHOTOGRAPHS)), texture)
    kept, laid = pick(BLEND, level)
    return kept * image + laid * layer


def frost_texture(size: tuple[int, int], kind: Int[Array, ""], key: Key[Array, ""]) -> Float[Array, "height width 3"]:
    """A texture of (height, width) in [0, 1] with the statistics of photograph `kind`: clouds and crest lines."""
    height, width = size
    enlarged = [1.1 * max(1.0, height / rows, width / columns) for (rows, columns), _, _ in PHOTOGRAPHS]
    clouds, crests = (_fractal(size, pick(enlarged, kind), one) for one in jax.random.split(key))
    field = _standardise(clouds - _standardise(jnp.abs(crests)))[..., None]
    mean, deviation = (pick([row[i] for row in PHOTOGRAPHS], kind)[None, None] for i in (1, 2))
    return jnp.clip((mean + deviation * field) / 255.0, 0.0, 1.0)


def _fractal(size: tuple[int, int], enlarged: Float[Array, ""], key: Key[Array, ""]) -> Float[Array, "height width"]:
    """Standardised noise with a falling spectrum, and nothing finer than an enlarged photograph would show."""
    height, width = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]).astype(np.float32)
    amplitude = np.maximum(frequency, np.float32(LOWEST)) ** -FALL
    shown = jnp.exp(-((2.0 * frequency * enlarged) ** 4))
    spectrum = jnp.fft.rfft2(jax.random.normal(key, size))
    return _standardise(jnp.fft.irfft2(spectrum * (amplitude * shown).astype(spectrum.dtype), s=size))


def _standardise(field: Float[Array, "height width"]) -> Float[Array, "height width"]:
    centred = field - jnp.mean(field)
    return safe_div(centred, jnp.std(field))

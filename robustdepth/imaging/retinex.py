"""Retinex: an image as reflectance (texture) times illumination (structure), see METHOD.md 2.1.

**[paper]** the separation by Retinex theory; **[ours]** how illumination is found. No gradient passes through here.
Lengths are given for images of 192 rows and grow with the height of the image, so that the same scene falls into the
same two parts at every size.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from robustdepth.errors import UserError, nearest
from robustdepth.imaging.filters import gaussian_filter, guided_filter, total_variation_filter
from robustdepth.imaging.planes import sum_planes, to_planes
from robustdepth.types import Array

ROWS = 192  # that the lengths below belong to
DARKEST = 0.02  # illumination that every pixel has
FLOOR = 0.01  # added to illumination where it divides
RADIUS, EPSILON = 12, 1e-2  # pixels, squared intensity
SIGMAS = (15.0, 80.0, 250.0)  # pixels
WEIGHT, ITERATIONS = 1.0, 40  # pixels times intensity


class Retinex(NamedTuple):
    """The two factors of an image: I = reflectance (illumination + 0.01)."""

    reflectance: Float[Array, "batch height width 3"]  # not negative, around 1 in the brightest channel
    illumination: Float[Array, "batch height width 1"]  # in [0.02, 1]


def illumination(image: Float[Array, "batch height width 3"], method: str) -> Float[Array, "batch height width 1"]:
    """The light that falls on what each pixel shows, grey, in [0.02, 1]: a smoothed V = max_c I.

    Args:
      image: in [0, 1].
      method: "guided", the guided filter of V with the guide mean_c I, radius 12 px and epsilon 0.01: keeps steps;
        "multi_scale", the geometric mean of three Gaussian blurs of V (15, 80 and 250 px), by which the multi-scale
        Retinex divides (Jobson, Rahman & Woodell, TIP 1997): keeps none; or "total_variation", the piecewise smooth
        map of Rudin, Osher & Fatemi (1992) with weight 1 px, 40 iterations: keeps those of large things. Pixels are
        those of an image of 192 rows; filters average only what lies inside the image.

    Raises:
      UserError: an unknown method.
    """
    if method not in ESTIMATES:
        raise UserError(f'unknown illumination estimate "{method}": {nearest(method, ESTIMATES)}')
    planes = to_planes(lax.stop_gradient(image))
    brightest = jnp.maximum(jnp.maximum(planes[:, 0], planes[:, 1]), planes[:, 2])
    light = ESTIMATES[method](planes, brightest, image.shape[1] / ROWS)
    return jnp.clip(light, DARKEST, 1.0)[..., None]


def _guided(planes: Array, brightest: Array, scale: float) -> Array:
    return guided_filter(sum_planes(planes) / 3.0, brightest, max(1, round(RADIUS * scale)), EPSILON)


def _multi_scale(_: Array, brightest: Array, scale: float) -> Array:
    blurs = (jnp.maximum(gaussian_filter(brightest, sigma * scale), DARKEST) for sigma in SIGMAS)
    return jnp.exp(sum(jnp.log(blur) for blur in blurs) / len(SIGMAS))


def _total_variation(_: Array, brightest: Array, scale: float) -> Array:
    return total_variation_filter(brightest, WEIGHT * scale, ITERATIONS)


ESTIMATES: dict[str, Callable[[Array, Array, float], Array]] = {
    "guided": _guided,
    "multi_scale": _multi_scale,
    "total_variation": _total_variation,
}


def decompose(image: Float[Array, "batch height width 3"], method: str) -> Retinex:
    """Splits images in [0, 1] into reflectance R = I / (L + 0.01) and the `illumination` L of this method."""
    light = illumination(image, method)
    return Retinex(lax.stop_gradient(image) / (light + FLOOR), light)


def recompose(
    reflectance: Float[Array, "batch height width 3"], light: Float[Array, "batch height width 1"]
) -> Float[Array, "batch height width 3"]:
    """The image of two factors, clip(R (L + 0.01), 0, 1)."""
    return jnp.clip(reflectance * (light + FLOOR), 0.0, 1.0)

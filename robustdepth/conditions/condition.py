"""What a condition is: a model of light, lifted to images.

Models work in planes of linear radiance, [batch, 3, height, width], with maps of [batch, 1, height, width] and draws of
[batch, 1, 1, 1]: light adds up in radiance, and loops over rows are fast. `condition` turns a model into the function
that everybody calls.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.imaging.planes import from_planes, to_planes
from robustdepth.types import Array, Camera

Radiance = Float[Array, "batch 3 height width"]  # linear light; 1 is what the brightest display value stands for
Map = Float[Array, "batch 1 height width"]
Draw = Float[Array, "batch 1 1 1"]  # one number a sample
Color = Float[Array, "batch 3 1 1"]  # one colour a sample

Model = Callable[[Array, Array, Camera, Array, Array], Array]  # (radiance, depth, camera, key, severity) -> radiance
Condition = Callable[[Array, Array, Camera, Array, Array], Array]  # (image, depth, camera, key, severity) -> image


def condition(model: Model) -> Condition:
    """The condition of a model of light: a pure, batched function of images.

    It takes the image (Float [batch, height, width, 3] in [0, 1]), its depth in metres (Float [batch, height, width]),
    the batched camera, a random key and the severity (Float [batch] in [0, 1]), and returns an image of the same shape
    in [0, 1]. Severity 0 returns the image itself, bit by bit.
    """

    @functools.wraps(model)
    def render(image: Array, depth: Array, camera: Camera, key: Array, severity: Array) -> Array:
        strength = severity[:, None, None, None]
        radiance = model(to_radiance(to_planes(image)), depth[:, None], camera, key, strength)
        return jnp.where(strength > 0, from_planes(to_display(radiance)), image)

    return render


def to_radiance(display: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Display values to linear light with gamma 2, never more than 0.045 from the sRGB curve and far cheaper."""
    return jnp.square(display)


def to_display(radiance: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The inverse of `to_radiance`, saturated as a sensor is."""
    return jnp.sqrt(jnp.clip(radiance, 0.0, 1.0))

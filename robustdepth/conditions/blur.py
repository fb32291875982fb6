"""Blur by motion during the exposure and by focus at the wrong distance; both follow depth."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.conditions.condition import Draw, Map, Radiance, condition
from robustdepth.conditions.fields import uniform
from robustdepth.geometry import se3
from robustdepth.geometry.warp import bilinear_sample, reproject
from robustdepth.imaging.planes import from_planes, to_planes
from robustdepth.imaging.resize import resize_map
from robustdepth.numerics import safe_norm
from robustdepth.types import Array, Camera

DOUBLINGS = 4  # 2^4 positions along the path
LONGEST = 0.05  # of the image's width: paths longer than this are cut

Flow = Float[Array, "batch height width 2"]


@condition
def motion_blur(radiance: Radiance, depth: Map, camera: Camera, key: Array, strength: Draw) -> Radiance:
    """Blur along the image flow of a camera that moves while its shutter is open, so near things blur most.

    Up to 0.7 m forwards (25 m/s for 28 ms) with some drift, and a shake of up to 0.02 rad, as of a rolling vehicle.
    Each pixel follows its own flow (Navarro et al., Computer Graphics Forum 2011: motion blur as the mean over the
    exposure); what moves into view from behind an edge is not modelled.
    """
    turn_key, drive_key, drift_key = jax.random.split(key, 3)
    batch = radiance.shape[0]
    severity = strength[:, :, 0, 0]
    turn = jax.random.uniform(turn_key, (batch, 3), minval=-1.0, maxval=1.0) * jnp.array([[0.01, 0.02, 0.01]])
    forwards = jax.random.uniform(drive_key, (batch, 1), minval=-0.7, maxval=-0.2)
    drift = jax.random.uniform(drift_key, (batch, 2), minval=-0.04, maxval=0.04)
    motion = se3.matrix_from_vector(turn * severity, jnp.concatenate([drift, forwards], axis=-1) * severity)
    return blur_along(radiance, flow_of(depth[:, 0], camera, motion))


def flow_of(depth: Float[Array, "batch height width"], camera: Camera, motion: Float[Array, "batch 4 4"]) -> Flow:
    """How far each pixel moves in the image, in pixels (x, y), when points move by `motion`; cut at `LONGEST`."""
    height, width = camera.size
    here = jnp.stack(jnp.meshgrid(jnp.arange(width, dtype=jnp.float32), jnp.arange(height, dtype=jnp.float32)), axis=-1)
    flow = reproject(depth, camera, motion)[0] - here[None]
    return flow * jnp.minimum(1.0, LONGEST * width / jnp.maximum(safe_norm(flow, keepdims=True), 1e-6))


def blur_along(radiance: Radiance, flow: Flow) -> Radiance:
    """The mean over 2^n positions along a path of length `flow` centred on each pixel, in n + 1 warps.

    Each doubling averages the picture so far with itself, moved by half as much as the one before.
    """
    height, width = flow.shape[1:3]
    here = jnp.stack(jnp.meshgrid(jnp.arange(width, dtype=jnp.float32), jnp.arange(height, dtype=jnp.float32)), axis=-1)
    image = from_planes(radiance)
    image = bilinear_sample(image, here[None] + flow * (0.5 * (2.0**-DOUBLINGS - 1.0)))
    for doubling in range(1, DOUBLINGS + 1):
        image = 0.5 * (image + bilinear_sample(image, here[None] + flow * 2.0**-doubling))
    return to_planes(image)


@condition
def defocus(radiance: Radiance, depth: Map, camera: Camera, key: Array, strength: Draw) -> Radiance:
    """A lens focused too near (1 to 3 m), with an aperture of up to 25 mm; far things blur most."""
    focus = 1.0 / uniform(key, radiance.shape[0], 0.33, 1.0)
    return blur_by(radiance, circle_of_confusion(depth, camera, focus, 0.025 * strength))


def circle_of_confusion(depth: Map, camera: Camera, focus: Draw, aperture: Draw) -> Map:
    """Diameter in pixels of the disc that a point at `depth` becomes: f A |1/z - 1/z_focus|, the thin lens.

    Source: Potmesil & Chakravarty, SIGGRAPH 1981. `focus` and `aperture` in metres, the focal length in pixels.
    """
    return camera.focal[:, :1, None, None] * aperture * jnp.abs(1.0 / jnp.maximum(depth, 0.1) - 1.0 / focus)


LEVELS = (2, 4, 8)  # factors by which the stack of blurred pictures was shrunk and grown again


def blur_by(radiance: Radiance, diameter: Map) -> Radiance:
    """Each pixel blurred by its own disc's variance, (diameter / 4)^2 along each axis, up to some 20 pixels.

    Shrinking to, or growing from, pixels of size s with triangle filters adds the variance s^2 / 6; mixing two pictures
    of such a stack mixes their variances, so the weights follow from the disc's.
    """
    height, width = radiance.shape[2:]
    stack, variances, coarse, shrunk = [radiance], [0.0], radiance, 0.0
    for level in LEVELS:
        coarse = resize_map(coarse, (max(1, height // level), max(1, width // level)))
        stack.append(resize_map(coarse, (height, width)))
        shrunk += level**2 / 6.0
        variances.append(shrunk + level**2 / 6.0)
    wanted = jnp.square(diameter / 4.0)
    blurred = stack[0]
    for i in range(1, len(stack)):
        share = jnp.clip((wanted - variances[i - 1]) / (variances[i] - variances[i - 1]), 0.0, 1.0)
        blurred = blurred + share * (stack[i] - blurred)
    return blurred

"""Noise of the sensor."""

import jax
import jax.numpy as jnp

from robustdepth.conditions.condition import Draw, Map, Radiance, condition
from robustdepth.types import Array, Camera


def noisy(radiance: Radiance, key: Array, shot: Draw, read: Draw) -> Radiance:
    """Radiance with shot and read noise: normal, of variance shot x + read^2 (Foi et al., IEEE TIP 2008)."""
    spread = jnp.sqrt(shot * jnp.clip(radiance, 0.0, 1.0) + read * read)
    return radiance + spread * jax.random.normal(key, radiance.shape)


@condition
def sensor_noise(radiance: Radiance, depth: Map, camera: Camera, key: Array, strength: Draw) -> Radiance:
    """Noise of a high gain: a well of 50 electrons at severity 1, and read noise of 3% of full scale."""
    return noisy(radiance, key, shot=0.02 * strength * strength, read=0.03 * strength)

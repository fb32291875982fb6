"""Fog: light from the scene is lost on its way, and light of the air comes in its place."""

import jax

from robustdepth.conditions.condition import Draw, Map, Radiance, condition
from robustdepth.conditions.fields import smooth_noise, uniform
from robustdepth.conditions.scene import airlight, attenuate
from robustdepth.types import Array, Camera

CONTRAST = 3.912  # -ln 0.02: at the meteorological visibility a black object keeps 2% of its contrast
DENSEST = 45.0  # metres of visibility at severity 1; 180 m at 0.5, 500 m at 0.3


def extinction(visibility: float) -> float:
    """Extinction in 1/m of a meteorological visibility in metres (Koschmieder: beta = 3.912 / V)."""
    return CONTRAST / visibility


@condition
def fog(radiance: Radiance, depth: Map, camera: Camera, key: Array, strength: Draw) -> Radiance:
    """Fog after Koschmieder, its density growing with the square of the severity and drifting in banks.

    Visibility falls to 45 m; below 1 km meteorology speaks of fog, and Foggy Cityscapes has 600, 300 and 150 m. The
    airlight is the image's own. Banks change the density by up to half.
    """
    amount_key, bank_key = jax.random.split(key)
    batch, _, height, width = radiance.shape
    amount = uniform(amount_key, batch, 0.0, 0.5)
    banks = 1.0 + amount * (2.0 * smooth_noise(bank_key, batch, (3, 8), (height, width)) - 1.0)
    density = extinction(DENSEST) * strength * strength * banks
    return attenuate(radiance, depth, density, airlight(radiance))

"""A network and samples whose right answers are known, for the tests of the evaluation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from robustdepth.types import Camera, EvalSample


@jax.jit
def _inverse_depth(factor, images):
    return factor / (5.0 + 50.0 * images[..., 0])  # red is depth


@dataclasses.dataclass(frozen=True)
class FakeModel:
    """Reads depth from the red channel: 5 + 50 * red, divided by `factor`."""

    image_size: tuple[int, int] = (16, 32)
    scale: str = "relative"
    step: int = 7
    path: str = "nowhere"
    variables: dict = dataclasses.field(default_factory=lambda: {"factor": jnp.float32(1)})
    config: ConfigDict = dataclasses.field(
        default_factory=lambda: ConfigDict({"name": "fake", "model": {"encoder": "none"}}), hash=False
    )

    any_shape = False

    def input_size(self, height, width):
        return self.image_size

    def metres_factor(self, camera):
        return 1.0

    def prepare(self, image):
        return np.asarray(image, np.float32) / 255

    def inverse_depth(self, images):
        return _inverse_depth(self.variables["factor"], images)


class FakeSamples(list):
    """Random images whose depth is what `FakeModel` reads from them, times per-pixel noise."""

    def __init__(self, count: int, size=(16, 32), noise: float = 0.3, seed: int = 0):
        draw = np.random.default_rng(seed)
        camera = Camera(np.ones(2, np.float32), np.ones(2, np.float32), size)
        for index in range(count):
            image = draw.integers(0, 256, (*size, 3), dtype=np.uint8)
            depth = (5 + 50 * (image[..., 0] / 255)) * np.exp(noise * draw.normal(size=size))
            depth[draw.random(size) < 0.3] = 0  # unknown
            self.append(EvalSample(image, depth.astype(np.float32), camera, f"drive/a {index:03d}"))


@functools.cache
def reference_metrics_of(prediction: tuple, truth: tuple) -> dict[str, float]:
    """One image's metrics, pixel by pixel in Python floats: slow, and independent of the code under test."""
    import math

    pairs = list(zip(prediction, truth, strict=True))
    n = len(pairs)
    logs = [math.log(p) - math.log(g) for p, g in pairs]
    ratios = [max(g / p, p / g) for p, g in pairs]
    return {
        "abs_rel": sum(abs(g - p) / g for p, g in pairs) / n,
        "sq_rel": sum((g - p) ** 2 / g for p, g in pairs) / n,
        "rmse": math.sqrt(sum((g - p) ** 2 for p, g in pairs) / n),
        "rmse_log": math.sqrt(sum(x * x for x in logs) / n),
        "delta1": sum(r < 1.25 for r in ratios) / n,
        "delta2": sum(r < 1.25**2 for r in ratios) / n,
        "delta3": sum(r < 1.25**3 for r in ratios) / n,
        "log10": sum(abs(math.log10(p) - math.log10(g)) for p, g in pairs) / n,
        "si_log": math.sqrt(sum(x * x for x in logs) / n - (sum(logs) / n) ** 2),
    }

"""Local texture disambiguation: a second view of the target whose texture is missing or misleads (METHOD.md section 2).

**[paper]** Retinex theory separates texture (reflectance) from structure (illumination), so that depth does not rest on
local texture. **[ours]** the three changes below, one draw per sample: cells without texture, another scene's texture
blended in, other light. What the depth of this view must obey is in `second_view`.

Every change takes `strength` (Float [batch], 0 to 1), which scales its amplitude; 0 leaves the sample as it is.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.imaging.color import to_grey
from robustdepth.imaging.planes import from_planes, to_planes
from robustdepth.imaging.retinex import ROWS, decompose, recompose
from robustdepth.methods.augment import Views
from robustdepth.types import Array

Reflectance = Float[Array, "batch height width 3"]
Light = Float[Array, "batch height width 1"]

CHANGES = ("missing", "interfering", "jitter")
CELLS, SMALLEST = (16, 32, 64), 4  # pixels of an image of 192 rows; pixels
MASK_GRID, LIGHT_GRID = (6, 20), (4, 12)  # rows and columns of the coarse noise
SLOPE = 10.0  # of the mask's sigmoid
START = 0.3  # of the curriculum


@dataclasses.dataclass(frozen=True)
class Settings:
    """config.texture, and what of the other sections counts here; `of` raises UserError for odd probabilities."""

    illumination: str  # Retinex estimate
    probabilities: tuple[float, ...]  # how often each of CHANGES happens
    warmup: float  # steps over which the changes grow to full strength
    grey: bool  # whether the network sees no colour

    @classmethod
    def of(cls, config: ConfigDict) -> "Settings":
        own = config.texture
        probabilities = tuple(float(own[name]) for name in CHANGES)
        if not all(0.0 <= p <= 1.0 for p in probabilities) or not any(probabilities):
            shown = ", ".join(f"{name}={p:g}" for name, p in zip(CHANGES, probabilities, strict=True))
            raise UserError(f"config.texture has {shown}: give probabilities within 0 to 1, at least one above 0.")
        return cls(own.illumination, probabilities, own.warmup * config.optimizer.steps, config.data.grey >= 1.0)


def view(
    settings: Settings, views: Views, disparity: Array | None, key: Array, step: Int[Array, ""]
) -> Float[Array, "batch height width 3"]:
    """The target as the network sees it, colour jitter included, with its texture changed; no gradient passes.

    Each change happens to a sample with its own probability; where none would, one is drawn in proportion to these.
    Strength follows the `curriculum`. Networks that see grey images get grey views.

    Args:
      views: the batch; only `seen_target` is read.
      disparity: of the target; changes nothing.
      key: the view is a pure function of it.
      step: of the training.
    """
    choice_key, *keys = jax.random.split(key, 1 + len(CHANGES))
    image = lax.stop_gradient(views.seen_target)
    chosen = choose(choice_key, image.shape[0], settings.probabilities)
    missing, interfering, jitter = jnp.where(chosen, curriculum(settings.warmup, step), 0.0).T
    happens = dict(zip(CHANGES, settings.probabilities, strict=True))
    reflectance, light = decompose(image, settings.illumination)
    if happens["missing"]:
        reflectance = missing_texture(reflectance, keys[0], missing)
    if happens["interfering"]:
        reflectance = interfering_texture(reflectance, keys[1], interfering)
    if happens["jitter"]:
        light = jitter_illumination(light, keys[2], jitter)
    changed = recompose(reflectance, light)
    return to_grey(changed) if settings.grey else changed


def curriculum(warmup: float, step: Int[Array, ""]) -> Float[Array, ""]:
    """Strength of all changes: from 0.3 to 1, linearly, over the first `warmup` steps of the training.

    It scales the share of cells that lose their texture, the opacity alpha of interfering texture, and log gamma, a - 1
    and n of the illumination; how often a change happens stays.
    """
    if warmup <= 0:
        return jnp.float32(1.0)
    return START + (1.0 - START) * jnp.minimum(step.astype(jnp.float32) / warmup, 1.0)


def choose(key: Array, batch: int, probabilities: tuple[float, ...]) -> Bool[Array, "batch changes"]:
    """Which changes happen to each sample: independent draws; where all fail, one in proportion to `probabilities`."""
    draw_key, last_key = jax.random.split(key)
    chances = jnp.asarray(probabilities, jnp.float32)
    drawn = jax.random.uniform(draw_key, (batch, len(probabilities))) < chances[None]
    last = jax.random.categorical(last_key, jnp.log(chances), shape=(batch,))
    return jnp.where(jnp.any(drawn, axis=1, keepdims=True), drawn, jax.nn.one_hot(last, len(probabilities), dtype=bool))


def missing_texture(reflectance: Reflectance, key: Array, strength: Float[Array, "batch"]) -> Reflectance:
    """Cells of a grid lose their texture: R <- mean of R over the cell.

    The grid begins in the upper left corner; a sample draws cells of 16, 32 or 64 px (of 192 rows; never under 4), and
    which share of them changes, strength * U(0.1, 0.5), at least one. Cells cut by the border count as cells.
    """
    batch, height, width, _ = reflectance.shape
    size_key, share_key, order_key = jax.random.split(key, 3)
    sizes = np.maximum(np.round(np.array(CELLS) * height / ROWS), SMALLEST).astype(np.int32)
    size = jax.random.choice(size_key, jnp.asarray(sizes), (batch,))
    most = -(-np.array([height, width]) // sizes.min())
    rows, columns = (membership(n, size, int(m)) for n, m in zip((height, width), most, strict=True))
    area = jnp.sum(rows, axis=2)[:, :, None] * jnp.sum(columns, axis=2)[:, None]  # 0 for cells outside

    share = strength * jax.random.uniform(share_key, (batch,), minval=0.1, maxval=0.5)
    cells = jnp.sum((area > 0).astype(jnp.float32), axis=(1, 2))
    order = jnp.where(area > 0, jax.random.uniform(order_key, area.shape), 1.0)
    count = jnp.ceil(share * cells).astype(jnp.int32)
    ranked = jnp.sort(order.reshape(batch, -1), axis=1)
    last = jnp.where(count > 0, jnp.take_along_axis(ranked, jnp.maximum(count - 1, 0)[:, None], axis=1)[:, 0], -1.0)
    chosen = (order <= last[:, None, None]).astype(reflectance.dtype)

    planes = to_planes(reflectance)
    sums = _einsum("brh,bchw,bsw->bcrs", rows, planes, columns)
    means = sums / jnp.maximum(area, 1.0)[:, None]
    inside = _einsum("brh,brs,bsw->bhw", rows, chosen, columns)[:, None]
    filled = _einsum("brh,bcrs,bsw->bchw", rows, means, columns)
    return from_planes(jnp.where(inside > 0.5, filled, planes))


def membership(length: int, size: Int[Array, "batch"], most: int) -> Float[Array, "batch cells length"]:
    """1 where a row (or column) of the image lies in a cell of this size, so that sums over cells are products."""
    cell = jnp.arange(length)[None] // size[:, None]
    return (cell[:, None] == jnp.arange(most)[None, :, None]).astype(jnp.float32)


def _einsum(axes: str, *operands: Array) -> Array:
    return jnp.einsum(axes, *operands, precision=lax.Precision.HIGHEST)


def interfering_texture(reflectance: Reflectance, key: Array, strength: Float[Array, "batch"]) -> Reflectance:
    """Another scene's texture shows through in places: R <- (1 - alpha A) R + alpha A R_other.

    alpha = strength * U(0.2, 0.7), and A = sigmoid(10 n) is a smooth mask, n being `smooth_noise` of 6x20 cells.
    R_other is that of the next sample in the batch, the first for the last one's. A batch of one has no other scene and
    takes its own, mirrored left to right and shifted by half its height: its texture, where it does not belong.
    """
    batch, height, width, _ = reflectance.shape
    mask_key, alpha_key = jax.random.split(key)
    own_elsewhere = jnp.roll(reflectance[:, :, ::-1], height // 2, axis=1)
    other = jnp.roll(reflectance, -1, axis=0) if batch > 1 else own_elsewhere
    mask = jax.nn.sigmoid(SLOPE * smooth_noise(mask_key, batch, MASK_GRID, (height, width)))
    alpha = strength * jax.random.uniform(alpha_key, (batch,), minval=0.2, maxval=0.7)
    weight = alpha[:, None, None, None] * mask[..., None]
    return (1.0 - weight) * reflectance + weight * other


def jitter_illumination(light: Light, key: Array, strength: Float[Array, "batch"]) -> Light:
    """Other light on the same texture: L <- clip(a L^gamma exp(0.5 n), 0.01, 1).

    n is `smooth_noise` of 4x12 cells, gamma is log-uniform in (0.5, 2.5) and a ~ U(0.3, 1.3). Strength multiplies
    log gamma, a - 1 and n.
    """
    batch, height, width, _ = light.shape
    gamma_key, gain_key, noise_key = jax.random.split(key, 3)
    gamma = jnp.exp(strength * jax.random.uniform(gamma_key, (batch,), minval=np.log(0.5), maxval=np.log(2.5)))
    gain = 1.0 + strength * (jax.random.uniform(gain_key, (batch,), minval=0.3, maxval=1.3) - 1.0)
    noise = strength[:, None, None] * smooth_noise(noise_key, batch, LIGHT_GRID, (height, width))
    exponent = gamma[:, None, None] * jnp.log(light[..., 0]) + 0.5 * noise
    return jnp.clip(gain[:, None, None] * jnp.exp(exponent), 0.01, 1.0)[..., None]


def smooth_noise(
    key: Array, batch: int, grid: tuple[int, int], size: tuple[int, int]
) -> Float[Array, "batch height width"]:
    """Noise uniform in [-1, 1] on a coarse grid (rows, columns), enlarged to `size` by bicubic interpolation.

    Bounded, so that no draw turns a street into spots; between grid points it overshoots by up to a quarter.
    """
    return jax.image.resize(jax.random.uniform(key, (batch, *grid), minval=-1.0, maxval=1.0), (batch, *size), "cubic")

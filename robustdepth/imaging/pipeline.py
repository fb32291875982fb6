"""What a camera does to the light of a street, drawn at random, so that rendered images differ as photographs do.

In the order of a camera: lens blur and vignetting, exposure and white balance, noise of the sensor, clipping, the tone
curve, noise of the colours, and compression. None is one of the benchmark's corruptions, but blur, noise and
compression resemble some of them: a network that learned with this has met their like.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from robustdepth.imaging.color import luminance
from robustdepth.types import Array

TAPS = 3  # pixels of the blur to either side
BLOCK = 8  # pixels a side that compression transforms together

Images = Float[Array, "image height width 3"]
Draw = Float[Array, "image 1 1 1"]


def photograph(
    images: Float[Array, "batch view height width 3"], key: Array, strength: float
) -> Float[Array, "batch view height width 3"]:
    """Images as a camera drawn at random would have stored them; all views of a sample are of one camera.

    Args:
      images: in [0, 1].
      strength: how far the cameras differ from a perfect one; 0 gives the images back, 1 is the whole range.
    """
    batch, views = images.shape[:2]
    draw_key, noise_key, chroma_key = jax.random.split(key, 3)
    table = jax.random.uniform(draw_key, (16, batch))
    numbers = iter(jnp.repeat(table, views, axis=1)[..., None, None, None])

    def draw(low: float, high: float, chance: float = 1.0) -> Draw:
        """A number within `strength` times [low, high]; 0 with probability 1 - chance."""
        number, switch = low + (high - low) * next(numbers), next(numbers) < chance
        return jnp.where(switch, strength * number, 0.0)

    flat = images.reshape(batch * views, *images.shape[2:])
    light = jnp.square(flat)  # gamma 2, as in robustdepth.conditions
    light = blur(light, draw(0.2, 1.2, chance=0.5))
    light = light * (1.0 - draw(0.0, 0.5, chance=0.5) * _radius(*flat.shape[1:3]))
    light = light * jnp.exp2(draw(-1.2, 0.8)) * jnp.exp2(_tint(draw(-0.25, 0.25)))
    noise = jnp.square(draw(0.0, 0.3, chance=0.6))
    light = light + noise * jnp.sqrt(light + 0.02) * jax.random.normal(noise_key, light.shape)
    shown = jnp.power(jnp.clip(light, 1e-6, 1.0), 0.5 * jnp.exp2(draw(-0.6, 0.6)))
    shown = shown + _coloured_noise(chroma_key, shown.shape) * draw(0.0, 0.06, chance=0.3)
    return jnp.clip(compress(jnp.clip(shown, 0.0, 1.0), draw(0.0, 0.12, chance=0.4)), 0.0, 1.0).reshape(images.shape)


def blur(images: Images, sigma: Draw) -> Images:
    """Gaussian blur of each image with its own standard deviation in pixels; 0 leaves it."""
    offsets = np.arange(-TAPS, TAPS + 1, dtype=np.float32)[None]
    weights = jnp.exp(-0.5 * jnp.square(offsets / jnp.maximum(sigma[:, 0, 0], 1e-3)))
    weights = (weights / jnp.sum(weights, axis=1, keepdims=True))[..., None, None, None]  # [image, tap, 1, 1, 1]
    for axis in (1, 2):
        pad = [(TAPS, TAPS) if i == axis else (0, 0) for i in range(4)]
        wide, length = jnp.pad(images, pad, mode="edge"), images.shape[axis]
        parts = [jax.lax.slice_in_dim(wide, k, k + length, axis=axis) for k in range(2 * TAPS + 1)]
        images = sum(part * weights[:, k] for k, part in enumerate(parts))
    return images


def compress(images: Images, step: Draw) -> Images:
    """Each block's cosine transform rounded to multiples that grow with the frequency, the most in the colours.

    `step` is the multiple of the middle frequencies of the brightness, of full scale; 0 leaves the image.
    """
    count, height, width = images.shape[:3]
    grey = luminance(images)
    split = jnp.concatenate([grey, images - grey], axis=-1)
    split = jnp.pad(split, ((0, 0), (0, -height % BLOCK), (0, -width % BLOCK), (0, 0)), mode="edge")
    rows, columns = split.shape[1] // BLOCK, split.shape[2] // BLOCK
    blocks = split.reshape(count, rows, BLOCK, columns, BLOCK, 4)
    transform, steps = jnp.asarray(_cosines()), jnp.asarray(_steps())
    frequencies = jnp.einsum("ui,nricjk,vj->nrucvk", transform, blocks, transform)
    size = jnp.maximum(step[..., None, None], 1e-6) * steps[None, None]
    rounded = jnp.round(frequencies / size) * size
    decoded = jnp.einsum("ui,nrucvk,vj->nricjk", transform, rounded, transform)
    decoded = decoded.reshape(split.shape)[:, :height, :width]
    return jnp.where(step > 0, decoded[..., :1] + decoded[..., 1:], images)


def _cosines() -> Float[np.ndarray, "frequency pixel"]:
    """The orthonormal cosine transform of one block's row."""
    pixel, frequency = np.meshgrid(np.arange(BLOCK) + 0.5, np.arange(BLOCK))
    matrix = np.cos(np.pi * frequency * pixel / BLOCK) * np.sqrt(2.0 / BLOCK)
    matrix[0] /= np.sqrt(2.0)
    return matrix.astype(np.float32)


def _steps() -> Float[np.ndarray, "frequency 1 frequency channel"]:
    """Relative rounding steps: rising with the frequency, for brightness and the three colour differences."""
    across, down = np.meshgrid(np.arange(BLOCK), np.arange(BLOCK))
    rising = (0.5 + (across + down) / BLOCK)[:, None, :, None]
    return (rising * np.array([1.0, 2.0, 2.0, 2.0])).astype(np.float32)


def _radius(height: int, width: int) -> Float[np.ndarray, "1 height width 1"]:
    """Squared distance from the image's centre, 1 in its corners."""
    y, x = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
    return (0.5 * (y[:, None] ** 2 + x[None] ** 2)).astype(np.float32)[None, :, :, None]


def _tint(warmth: Draw) -> Float[Array, "image 1 1 3"]:
    """Stops by which white balance is off, from blue (negative) to red."""
    return jnp.concatenate([warmth, jnp.zeros_like(warmth), -warmth], axis=-1)


def _coloured_noise(key: Array, shape: tuple[int, ...]) -> Images:
    """Normal noise without brightness, in blots of two by two pixels."""
    count, height, width, channels = shape
    coarse = jax.random.normal(key, (count, -(-height // 2), -(-width // 2), channels))
    fine = jnp.repeat(jnp.repeat(coarse, 2, axis=1), 2, axis=2)[:, :height, :width]
    return fine - luminance(fine)

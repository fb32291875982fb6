"""JPEG compression of the robustness benchmark (ImageNet-C) as a codec in JAX: no detour over the host.

Everything lossy of baseline JPEG (ITU-T T.81) at 4:2:0, in libjpeg's integers so that the same coefficients are rounded
away, and nothing of the lossless rest.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Int, Key

from robustdepth.conditions.corruptions.corruption import CORRUPTIONS
from robustdepth.types import Array

QUALITY = (25, 18, 15, 10, 7)
# T.81, tables K.1 and K.2
LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
CHROMA = np.full((8, 8), 99)
CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
# Left half of the 8-point cosine transform times 2^13 sqrt(2): even rows are symmetric, odd ones antisymmetric. Some
# entries are off by one, being sums of the rounded constants of the factorisation of Loeffler et al. (ICASSP 1989).
_HALF_DCT = np.array(
    [
        [8192, 8192, 8192, 8192],
        [11363, 9633, 6437, 2260],
        [10703, 4433, -4433, -10703],
        [9633, -2259, -11362, -6436],
        [8192, -8192, -8192, 8192],
        [6437, -11362, 2261, 9633],
        [4433, -10704, 10704, -4433],
        [2260, -6436, 9633, -11363],
    ]
)
DCT = np.concatenate([_HALF_DCT, _HALF_DCT[:, ::-1] * np.array([[1], [-1]] * 4)], axis=1)


@CORRUPTIONS.listed("jpeg")
def jpeg(
    image: Float[Array, "height width 3"], level: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "height width 3"]:
    """Encoded with QUALITY and decoded again; chroma at half the resolution."""
    height, width = image.shape[:2]
    red, green, blue = jnp.moveaxis(jnp.round(image * 255.0).astype(jnp.int32), -1, 0)
    # ITU-R BT.601 in 16-bit fractions
    y = (19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16
    cb = ((-11058 * red - 21710 * green + 32768 * blue + 2**15 - 1) >> 16) + 128
    cr = ((32768 * red - 27439 * green - 5329 * blue + 2**15 - 1) >> 16) + 128
    luma_steps, chroma_steps = (jnp.asarray(_steps(base), jnp.int32)[level] for base in (LUMA, CHROMA))
    y = _code(y, luma_steps)[:height, :width]
    cb, cr = (_double(_code(_halve(plane), chroma_steps), height, width) - 128 for plane in (cb, cr))
    red = y + ((91881 * cr + 2**15) >> 16)
    green = y + ((-22554 * cb - 46802 * cr + 2**15) >> 16)
    blue = y + ((116130 * cb + 2**15) >> 16)
    return jnp.stack([red, green, blue], -1).astype(image.dtype) / 255.0


def _steps(base: Int[np.ndarray, "8 8"]) -> Int[np.ndarray, "severity 8 8"]:
    """Quantisation steps at the five qualities, all under 50, by libjpeg's rule."""
    return np.stack([np.clip((base * (5000 // quality) + 50) // 100, 1, 255) for quality in QUALITY])


def _halve(plane: Int[Array, "height width"]) -> Int[Array, "half_height half_width"]:
    """Means of 2x2 pixels, rounded up and down in turn; columns are padded to whole blocks before, rows only to two."""
    height, width = plane.shape
    plane = jnp.pad(plane, ((0, height % 2), (0, -width % 16)), mode="edge")
    total = plane[::2, ::2] + plane[::2, 1::2] + plane[1::2, ::2] + plane[1::2, 1::2]
    return (total + 1 + jnp.arange(total.shape[1])[None] % 2) >> 2


def _code(plane: Int[Array, "height width"], steps: Int[Array, "8 8"]) -> Int[Array, "full_height full_width"]:
    """Blocks of 8x8 through the cosine transform, quantised, and back; padded to whole blocks."""
    plane = jnp.pad(plane, [(0, -size % 8) for size in plane.shape], mode="edge")
    rows, columns = plane.shape[0] // 8, plane.shape[1] // 8
    blocks = plane.reshape(rows, 8, columns, 8) - 128
    coefficients = _transform(_transform(blocks, DCT, 3, 11), DCT, 1, 15)  # 8 times the orthonormal transform's
    divisor = 8 * steps[None, :, None]
    whole = jnp.sign(coefficients) * ((jnp.abs(coefficients) + divisor // 2) // divisor)
    decoded = _transform(_transform(whole * steps[None, :, None], DCT.T, 1, 11), DCT.T, 3, 18)
    return jnp.clip(decoded + 128, 0, 255).reshape(plane.shape)


def _transform(
    blocks: Int[Array, "row 8 column 8"], matrix: Int[np.ndarray, "8 8"], axis: int, bits: int
) -> Int[Array, "row 8 column 8"]:
    """A product with `matrix` along an axis of the blocks, divided by 2^bits and rounded half up."""
    parts = [jnp.expand_dims(jnp.take(blocks, i, axis=axis), axis) for i in range(8)]
    shape = [8 if i == axis else 1 for i in range(4)]
    total = sum(jnp.asarray(matrix[:, i], jnp.int32).reshape(shape) * part for i, part in enumerate(parts))
    # Kept apart: fused into one another, the four transforms are computed many times over.
    return lax.optimization_barrier((total + 2 ** (bits - 1)) >> bits)


def _double(half: Int[Array, "half_height half_width"], height: int, width: int) -> Int[Array, "height width"]:
    """Twice the resolution: new pixels mix the near and the next sample 3 : 1 along rows and columns, then round."""
    wide = _mix(_mix(half[: (height + 1) // 2, : (width + 1) // 2], 0), 1)  # 16 times the value
    return ((wide + 8 - jnp.arange(wide.shape[1])[None] % 2) >> 4)[:height, :width]


def _mix(plane: Int[Array, "height width"], axis: int) -> Int[Array, "new_height new_width"]:
    size = plane.shape[axis]
    before, after = (jnp.take(plane, jnp.clip(jnp.arange(size) + i, 0, size - 1), axis=axis) for i in (-1, 1))
    pairs = jnp.stack([3 * plane + before, 3 * plane + after], axis=axis + 1)
    return pairs.reshape([2 * size if i == axis else plane.shape[i] for i in range(2)])

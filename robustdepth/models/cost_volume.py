"""From features of two rectified views to disparity: correlation, expectation over bins, upsampling.

Bin k of a volume at stride 4 compares pixel (x, y) of the left view with (x - k, y) of the right one, which is a
disparity of 4 k pixels of the image.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from robustdepth.types import Array

STRIDE = 4  # of the features and of the volume


def group_wise_correlation(
    left: Float[Array, "batch rows columns features"],
    right: Float[Array, "batch rows columns features"],
    bins: int,
    groups: int,
) -> Float[Array, "batch bins rows columns groups"]:
    """Mean product of left (x) and right (x - k) over each group of channels, for every bin k **[paper]**.

    Where x - k lies outside the image the correlation is zero. Guo et al., CVPR 2019, equation 2. Products are summed
    in float32. One bin follows the other, so that the program stays as small for 48 bins as for one.
    """
    batch, rows, columns, features = left.shape
    padded = jnp.pad(right, ((0, 0), (0, 0), (bins - 1, 0), (0, 0)))

    def correlate(k: Array) -> Array:
        shifted = lax.dynamic_slice_in_dim(padded, bins - 1 - k, columns, axis=2)
        grouped = (left * shifted).reshape(batch, rows, columns, groups, features // groups)
        return jnp.mean(grouped, axis=-1, dtype=jnp.float32).astype(left.dtype)

    return jnp.moveaxis(lax.map(correlate, jnp.arange(bins)), 0, 1)


def expected_disparity(
    probabilities: Float[Array, "batch bins rows columns"], spacing: int
) -> Float[Array, "batch rows columns"]:
    """Soft-argmin: the mean of disparities 0, spacing, 2 spacing, ... under a distribution (Kendall et al., 2017)."""
    disparities = spacing * jnp.arange(probabilities.shape[1], dtype=jnp.float32)
    return jnp.einsum("bdhw,d->bhw", probabilities, disparities, precision=lax.Precision.HIGHEST)


def regress_full_size(cost: Float[Array, "batch bins rows columns"]) -> Float[Array, "batch 4*rows 4*columns"]:
    """Disparities in pixels: logits four times as fine along all three axes, softmax, soft-argmin **[paper]**.

    The grids' outer borders coincide, as in PyTorch, so logits of bin k have their full say at 4 k + 1.5 pixels.
    """
    batch, *sizes = cost.shape
    fine = jax.image.resize(
        cost, (batch, *(STRIDE * size for size in sizes)), "linear", precision=lax.Precision.HIGHEST
    )
    return expected_disparity(jax.nn.softmax(fine, axis=1), 1)


def convex_upsample(
    disparity: Float[Array, "batch rows columns"], logits: Float[Array, "batch rows columns weights"]
) -> Float[Array, "batch 4*rows 4*columns"]:
    """Every fine pixel becomes a convex combination of the 3x3 coarse pixels round it, so edges can stay sharp.

    Teed and Deng, RAFT, ECCV 2020, section 3.3; the border repeats its pixels. `logits` hold for each of the 4 x 4 fine
    pixels of a coarse one the nine weights before their softmax.
    """
    batch, rows, columns = disparity.shape
    weights = jax.nn.softmax(logits.reshape(batch, rows, columns, STRIDE, STRIDE, 9), axis=-1)
    padded = jnp.pad(disparity, ((0, 0), (1, 1), (1, 1)), mode="edge")
    shifts = [padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
    fine = jnp.einsum("bhwijn,bhwn->bhiwj", weights, jnp.stack(shifts, axis=-1), precision=lax.Precision.HIGHEST)
    return fine.reshape(batch, STRIDE * rows, STRIDE * columns)

"""Rectified pairs: which camera stands left, and where a disparity puts the pixels of one view in the other.

A pixel (x, y) of the left image is seen at (x - d, y) in the right one; the disparity d >= 0 is in pixels.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Shaped

from robustdepth.geometry.warp import bilinear_sample
from robustdepth.types import Array

# The left/right check **[ours]**: one pixel, as semi-global matching allows (Hirschmueller, PAMI 2008), or 5% of the
# disparity, as KITTI 2015 counts errors.
CHECK_PIXELS = 1.0
CHECK_SHARE = 0.05


def mirrored(
    values: Shaped[Array, "batch height width *channels"], chosen: Bool[Array, "batch"]
) -> Shaped[Array, "batch height width *channels"]:
    """The chosen samples' images or maps mirrored left to right."""
    which = chosen.reshape(-1, *[1] * (values.ndim - 1))
    return jnp.where(which, jnp.flip(values, 2), values)


def oriented(
    target: Shaped[Array, "batch height width channels"],
    source: Shaped[Array, "batch height width channels"],
    baseline: Float[Array, "batch"],
) -> tuple[Shaped[Array, "batch height width channels"], Shaped[Array, "batch height width channels"]]:
    """(left, right): both images mirrored where the target is the right camera, whose mirror image stands left.

    What is found for `left` is the target's answer once it is mirrored again, `mirrored(answer, baseline < 0)`.

    Args:
      baseline: x of the source in the target camera's frame, metres; negative where the source stands left.
    """
    return mirrored(target, baseline < 0), mirrored(source, baseline < 0)


def matched(
    disparity: Float[Array, "batch height width"], right: Float[Array, "batch height width channels"]
) -> Float[Array, "batch height width channels"]:
    """What `right` holds at the left image's matches (x - d, y), bilinear; border pixels are repeated outside it.

    The gradient flows to the disparity only.
    """
    _, height, width = disparity.shape
    x = jnp.arange(width, dtype=jnp.float32)[None, None] - disparity
    y = jnp.broadcast_to(jnp.arange(height, dtype=jnp.float32)[None, :, None], disparity.shape)
    return bilinear_sample(right, jnp.stack([x, y], axis=-1))


def in_right_image(disparity: Float[Array, "batch height width"]) -> Bool[Array, "batch height width"]:
    """Where a left pixel's match lies inside the right image."""
    x = jnp.arange(disparity.shape[2], dtype=jnp.float32)[None, None]
    return x - disparity >= 0.0


def occluded(disparity: Float[Array, "batch height width"]) -> Bool[Array, "batch height width"]:
    """Left pixels that something nearer hides from the right camera: those that a pixel further right overtakes.

    Matches of one row lie in the same order in both images (the ordering constraint), so a pixel is hidden where any
    pixel to its right has its match at the same place or further left. Background left of a thin object breaks the
    order though both cameras see it, and counts as hidden too.
    """
    match = jnp.arange(disparity.shape[2], dtype=jnp.float32)[None, None] - disparity
    hidden = match[..., :-1] >= lax.cummin(match[..., 1:], axis=2, reverse=True)
    return jnp.pad(hidden, ((0, 0), (0, 0), (0, 1)))


def fails_check(
    left: Float[Array, "batch height width"], right: Float[Array, "batch height width"]
) -> Bool[Array, "batch height width"]:
    """Where the left image's disparity fails the left/right check (METHOD.md 5.1).

    A pixel passes where its match lies inside the right image and |d_left(x) - d_right(x - d_left)| is at most one
    pixel or 5% of d_left, whichever is more; `right` is interpolated linearly.

    Args:
      left, right: the disparity of either image, pixels, both positive.
    """
    difference = jnp.abs(left - matched(left, right[..., None])[..., 0])
    return (difference > jnp.maximum(CHECK_PIXELS, CHECK_SHARE * left)) | ~in_right_image(left)

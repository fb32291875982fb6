"""Stereo network: two rectified views to disparity, by group-wise correlation (METHOD.md 5.1)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from robustdepth.errors import UserError
from robustdepth.models.cost_volume import (
    STRIDE,
    convex_upsample,
    expected_disparity,
    group_wise_correlation,
    regress_full_size,
)
from robustdepth.models.gwcnet import GwcAggregation, GwcFeatures
from robustdepth.models.layers import HE_FAN_IN, HEAD_FAN_IN, check_image_size
from robustdepth.models.light_stereo import LightAggregation, LightFeatures
from robustdepth.types import Array

_MULTIPLE = 16  # of max_disparity: the hourglasses halve the bins twice


class StereoOutput(NamedTuple):
    """Disparities, and what the last head has seen at stride 4; all float32."""

    # In pixels of the images: in training one per head, the best last, otherwise the last one alone.
    disparities: tuple[Float[Array, "batch height width"], ...]
    geometry: Float[Array, "batch rows columns channels"]  # sum over bins of probability x 3D features
    distribution: Float[Array, "batch rows columns bins"]  # probabilities; bin k stands for 4 k pixels


class StereoNet(nn.Module):
    """A left and a right image in [0, 1] to the left one's disparity: pixel (x, y) is seen at (x - d, y) on the right.

    `features` and `aggregation` are module classes, see `STEREO_NETWORKS`. Parameters do not depend on `max_disparity`
    (pixels, a multiple of 16). Softmax and expectations are float32 whatever `dtype` is. The full size is reached as in
    GwcNet, by interpolating the cost, or with `convex` by learnt convex combinations of a disparity at stride 4.

    Raises `UserError` where the images' sizes differ or are no multiples of 16, and for a wrong `max_disparity`.
    """

    features: Callable[..., nn.Module]
    aggregation: Callable[..., nn.Module]
    groups: int
    convex: bool
    max_disparity: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, left: Float[Array, "batch height width 3"], right: Float[Array, "batch _ _ 3"], train: bool
    ) -> StereoOutput:
        self._check(left, right)
        batch = left.shape[0]
        # Both views in one pass; a pair stays on one device where batches are sharded.
        views = jnp.stack([left, right], axis=1).reshape(2 * batch, *left.shape[1:])
        features, guide = self.features(self.dtype, name="features")(views, train)
        features, guide = (x.reshape(batch, 2, *x.shape[1:]) for x in (features, guide))

        bins = self.max_disparity // STRIDE
        volume = group_wise_correlation(features[:, 0], features[:, 1], bins, self.groups)
        heads = self.aggregation(self.dtype, name="aggregation")(volume, train)
        if self.convex:
            weights = self._upsampling(guide[:, 0])
            coarse = [expected_disparity(jax.nn.softmax(cost, axis=1), STRIDE) for _, cost in heads]
            disparities = [convex_upsample(disparity, weights) for disparity in coarse]
        else:
            disparities = [regress_full_size(cost) for _, cost in heads]

        seen, cost = heads[-1]
        distribution = jax.nn.softmax(cost, axis=1)
        geometry = jnp.einsum(
            "bdhw,bdhwc->bhwc", distribution, seen.astype(jnp.float32), precision=lax.Precision.HIGHEST
        )
        return StereoOutput(tuple(disparities), geometry, jnp.moveaxis(distribution, 1, -1))

    def _upsampling(self, guide: Float[Array, "batch rows columns _"]) -> Float[Array, "batch rows columns weights"]:
        """Logits of the convex combinations, float32."""
        hidden = nn.Conv(32, (3, 3), padding=1, kernel_init=HE_FAN_IN, dtype=self.dtype, name="upsampling_hidden")(
            guide
        )
        logits = nn.Conv(9 * STRIDE**2, (1, 1), kernel_init=HEAD_FAN_IN, dtype=self.dtype, name="upsampling_weights")
        return logits(nn.relu(hidden)).astype(jnp.float32)

    def _check(self, left: Array, right: Array) -> None:
        check_image_size(*left.shape[1:3])
        if left.shape != right.shape:
            raise UserError(f"the two views of a stereo pair have different sizes, {left.shape} and {right.shape}.")
        if self.max_disparity < _MULTIPLE or self.max_disparity % _MULTIPLE:
            raise UserError(
                f"stereo.max_disparity is {self.max_disparity}: it must be a positive multiple of {_MULTIPLE} (pixels)."
            )


STEREO_NETWORKS: dict[str, Callable[..., StereoNet]] = {
    "gwcnet_g": partial(StereoNet, GwcFeatures, GwcAggregation, 40, False),
    "light": partial(StereoNet, LightFeatures, LightAggregation, 8, True),
}

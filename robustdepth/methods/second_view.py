"""A second, harder view of the target and what its depth must obey (METHOD.md 2.3 and 2.4).

The same depth network sees the target twice: clear, and changed in a way that keeps its depth, by weather (section 4)
or in its texture (section 2). With D the clear depth, D~ the changed view's, sg the stop-gradient, E the base's error
of a pixel, auto-mask included (METHOD.md 1.3):

    NAME_photometric = the base's photometric loss of D~: clean sources, clean target, sg of the clean motions
    NAME_consistency = mean_k mean (m |log D~ - sg log D| + (1 - m) |sg log D~ - log D|) / 2^k,  m = 1[E(D) <= E(D~)]

**[ours]**, after Robust-Depth (Saunders et al., ICCV 2023), where clear and adverse depth teach each other.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float
from ml_collections import ConfigDict

from robustdepth.geometry.depth import DepthRange
from robustdepth.imaging.resize import resize_map
from robustdepth.methods import reprojection
from robustdepth.methods.method import Terms
from robustdepth.methods.reprojection import Motions
from robustdepth.types import Array, Batch, Term


@dataclasses.dataclass(frozen=True)
class Settings:
    """config.second_view, and the base's settings."""

    base: reprojection.Settings
    bidirectional: bool  # the better depth teaches the other, pixel by pixel; False: the clear one always teaches

    @classmethod
    def of(cls, config: ConfigDict) -> "Settings":
        return cls(reprojection.Settings.of(config), config.second_view.bidirectional)


def terms(
    settings: Settings,
    name: str,
    first: Sequence[Array],
    second: Sequence[Array],
    motions: Motions,
    batch: Batch,
    error: Float[Array, "batch height width"],
    key: Array,
) -> Terms:
    """The losses of the second view's depth, unweighted.

    Args:
      name: of the view; begins the terms' names.
      first: disparities of the clear view, finest first.
      second: disparities of the changed view, same shapes.
      motions: T_{target -> source} found from the clear views; no gradient reaches them from here.
      batch: clear float images.
      error: photometric error of the clear depth, the image of that name of `reprojection.terms`.
      key: the one that `reprojection.terms` got for the clear view, so that both depths meet the same auto-mask.

    Returns:
      "NAME_photometric", where the second depth warps the clean sources to the clean target, and "NAME_consistency".
    """
    changed = reprojection.terms(settings.base, second, lax.stop_gradient(motions), batch, key)
    first_is_better = lax.stop_gradient(error <= changed.images["error"]) | (not settings.bidirectional)
    share = first_is_better.astype(jnp.float32)
    consistency = pseudo_supervision(first, second, share, settings.base.depths)
    return Terms({f"{name}_photometric": changed.losses["photometric"], f"{name}_consistency": consistency})


def pseudo_supervision(
    first: Sequence[Array],
    second: Sequence[Array],
    first_is_better: Float[Array, "batch height width"],
    depths: DepthRange,
) -> Term:
    """mean m |log D~ - sg log D| + mean (1 - m) |sg log D~ - log D|, divided by 2^k at scale k, mean over scales.

    D is the depth of the first view and D~ that of the second. Where m = 1[E(D) <= E(D~)] the first teaches the
    second, elsewhere the second the first. One m serves all scales: the finest depth's, shrunk to the scale's size.
    """
    total = jnp.float32(0.0)
    for scale, (clear, changed) in enumerate(zip(first, second, strict=True)):
        share = resize_map(first_is_better, clear.shape[1:3])
        log_clear, log_changed = (jnp.log(depths.depth(d)) for d in (clear, changed))
        taught = share * jnp.abs(log_changed - lax.stop_gradient(log_clear))
        teaching = (1.0 - share) * jnp.abs(lax.stop_gradient(log_changed) - log_clear)
        total += jnp.mean(taught + teaching) / 2**scale
    return Term(total / len(first), jnp.float32(first_is_better.shape[0]))

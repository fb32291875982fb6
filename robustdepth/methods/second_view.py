"""A second, harder view of the target and what its depth must obey (METHOD.md 2.3 and 2.4).

The same depth network sees the target twice: clear, and changed in a way that keeps its depth, by weather (section 4)
or in its texture (section 2). **[ours]**, after Robust-Depth (Saunders et al., ICCV 2023), where clear and adverse
depth teach each other.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float
from ml_collections import ConfigDict

from robustdepth.geometry.depth import disparity_to_depth
from robustdepth.imaging.resize import resize_map
from robustdepth.methods.reprojection import Motions, reprojection_terms
from robustdepth.types import Array, Batch, Term


def second_view_terms(
    first: Sequence[Array],
    second: Sequence[Array],
    motions: Motions,
    batch: Batch,
    error: Float[Array, "batch height width"],
    config: ConfigDict,
    key: Array,
) -> dict[str, Term]:
    """The losses of the second view's depth.

    Args:
      first: disparities of the clear view, finest first.
      second: disparities of the changed view, same shapes.
      motions: T_{target -> source} found from the clear views; no gradient reaches them from here.
      batch: clear float images.
      error: photometric error of the clear depth, `reprojection_terms`' image of that name.
      config: the whole config; with `loss.bidirectional` the better depth teaches the other, pixel by pixel, else the
        clear one always teaches.
      key: the one `reprojection_terms` got for the clear view, so that both depths meet the same auto-mask.

    Returns:
      "photometric", where the second depth warps the clean sources to the clean target, and "consistency", both
      unweighted.
    """
    losses, _, images = reprojection_terms(second, lax.stop_gradient(motions), batch, config, key)
    first_is_better = lax.stop_gradient(error <= images["error"]) | (not config.loss.bidirectional)
    share = first_is_better.astype(jnp.float32)
    term = pseudo_supervision(first, second, share, config.model.min_depth, config.model.max_depth)
    return {"photometric": losses["photometric"], "consistency": term}


def pseudo_supervision(
    first: Sequence[Array],
    second: Sequence[Array],
    first_is_better: Float[Array, "batch height width"],
    min_depth: float,
    max_depth: float,
) -> Term:
    """mean m |log D~ - sg log D| + mean (1 - m) |sg log D~ - log D|, divided by 2^k at scale k, mean over scales.

    D is the depth of the first view and D~ that of the second. Where m = 1[pe(D) <= pe(D~)] the first teaches the
    second, elsewhere the second the first. One m serves all scales: the finest depth's, shrunk to the scale's size.
    """
    total = jnp.float32(0.0)
    for scale, (clear, changed) in enumerate(zip(first, second, strict=True)):
        share = resize_map(first_is_better, clear.shape[1:3])
        log_clear, log_changed = (jnp.log(disparity_to_depth(d, min_depth, max_depth)) for d in (clear, changed))
        taught = share * jnp.abs(log_changed - lax.stop_gradient(log_clear))
        teaching = (1.0 - share) * jnp.abs(lax.stop_gradient(log_changed) - log_clear)
        total += jnp.mean(taught + teaching) / 2**scale
    return Term(total / len(first), jnp.float32(first_is_better.shape[0]))

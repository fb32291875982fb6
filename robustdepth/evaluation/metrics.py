"""Depth error metrics, one value per image (Eigen et al., NIPS 2014; KITTI depth benchmark)."""

from __future__ import annotations

from jaxtyping import Bool, Float

from robustdepth.types import Array

DEPTH_METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "delta1", "delta2", "delta3", "log10", "si_log")
HIGHER_IS_BETTER = frozenset({"delta1", "delta2", "delta3", "boundary_f1"})


def depth_metrics(
    prediction: Float[Array, "batch *pixels"], truth: Float[Array, "batch *pixels"], mask: Bool[Array, "batch *pixels"]
) -> dict[str, Float[Array, "batch"]]:
    """The metrics of every image over its masked pixels; average them over images for the published numbers.

    Args:
        prediction, truth: depth in metres, positive where `mask` holds; other pixels are ignored, whatever they hold.
        mask: the pixels that count, at least one in every image.

    Returns:
        abs_rel mean |g - p| / g; sq_rel mean (g - p)^2 / g; rmse and rmse_log (natural logarithm); delta1..3 the share
        of pixels with max(g / p, p / g) < 1.25^k; log10 mean |log10 g - log10 p|; si_log the standard deviation of
        log p - log g. Computed in the inputs' own precision, with NumPy or JAX as the inputs are.
    """
    xp = prediction.__array_namespace__()
    pixels = tuple(range(1, prediction.ndim))
    prediction, truth = xp.where(mask, prediction, 1.0), xp.where(mask, truth, 1.0)
    count = xp.sum(mask.astype(prediction.dtype), axis=pixels)

    def mean(values: Array) -> Array:
        return xp.sum(xp.where(mask, values, 0.0), axis=pixels) / count

    error = xp.abs(truth - prediction)
    log_error = xp.log(prediction) - xp.log(truth)
    ratio = xp.maximum(truth / prediction, prediction / truth)
    bias = mean(log_error)
    spread = log_error - xp.reshape(bias, bias.shape + (1,) * len(pixels))
    return {
        "abs_rel": mean(error / truth),
        "sq_rel": mean(error**2 / truth),
        "rmse": xp.sqrt(mean(error**2)),
        "rmse_log": xp.sqrt(mean(log_error**2)),
        **{f"delta{k}": mean((ratio < 1.25**k).astype(prediction.dtype)) for k in (1, 2, 3)},
        "log10": mean(xp.abs(log_error)) / 2.302585092994046,  # log 10
        "si_log": xp.sqrt(mean(spread**2)),
    }

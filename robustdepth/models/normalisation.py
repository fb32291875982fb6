"""Batch normalisation whose sums over the batch are one reduction each way on accelerators.

Values are those of flax's `nn.BatchNorm`: on CPUs bitwise, its gradients too; elsewhere but for rounding. There flax's
derivative, made step by step, reads and writes every feature once more and reduces in a dozen kernels a layer.
Everything between input and output is computed in float32, or in float64 if the input is.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from robustdepth.types import Array


class BatchNorm(nn.Module):
    """Normalises every channel over batch and space; in training by the batch's own statistics, which it averages.

    Variables have the names of flax's. With sharded batches the statistics are those of the global batch, unless
    `training.parts.on_each_device` runs the network.
    """

    train: bool
    dtype: Any
    momentum: float
    epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *space channels"]:
        shape = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        variance = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        if not self.train:
            return _shifted(x, mean.value, variance.value, scale, bias, self.epsilon).astype(self.dtype)
        y, of_batch = normalised(x, scale, bias, self.epsilon, self.dtype)
        if not self.is_initializing():
            for running, value in zip((mean, variance), of_batch, strict=True):
                kept = running.value
                running.value = self.momentum * kept + (1 - self.momentum) * value.astype(kept.dtype)
        return y


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalised(x: Array, scale: Array, bias: Array, epsilon: float, dtype: Any) -> tuple[Array, tuple[Array, Array]]:
    """The normalised features, and mean and variance of the batch, through which no gradient flows."""
    return _forward(x, scale, bias, epsilon, dtype)[0]


def _forward(x: Array, scale: Array, bias: Array, epsilon: float, dtype: Any):
    mean, variance = lax.platform_dependent(
        x, cpu=partial(_statistics, _means), default=partial(_statistics, _means_in_one)
    )
    y = _shifted(x, mean, variance, scale, bias, epsilon).astype(dtype)
    return (y, (mean, variance)), (x, scale, bias, mean, variance)


def _backward(epsilon: float, dtype: Any, residuals, cotangents):
    on_cpu, elsewhere = partial(_step_by_step, epsilon, dtype), partial(_closed_form, epsilon)
    return lax.platform_dependent(*residuals, cotangents[0], cpu=on_cpu, default=elsewhere)


normalised.defvjp(_forward, _backward)


def _precise(x: Array) -> Any:
    """The type to compute in."""
    return jnp.float64 if x.dtype == jnp.float64 else jnp.float32


def _statistics(means, x: Array) -> tuple[Array, Array]:
    values = x.astype(_precise(x))
    mean, square = means(values, lax.square(values))
    return mean, jnp.maximum(0.0, square - lax.square(mean))


def _shifted(x: Array, mean: Array, variance: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    factor = _inverse_deviation(variance, epsilon, x) * scale.astype(_precise(x))
    return (x.astype(_precise(x)) - _wide(mean, x)) * _wide(factor, x) + _wide(bias, x)


def _inverse_deviation(variance: Array, epsilon: float, x: Array) -> Array:
    return lax.rsqrt(variance.astype(_precise(x)) + epsilon)


def _wide(channels: Array, x: Array) -> Array:
    """A number for every channel as the features want it, in shape and type."""
    return channels.astype(_precise(x)).reshape((1,) * (x.ndim - 1) + (-1,))


def _means(*values: Array) -> list[Array]:
    return [jnp.mean(value, axis=tuple(range(value.ndim - 1))) for value in values]


def _means_in_one(*values: Array) -> list[Array]:
    """Over rows first, then of all values at once: XLA would halve each sum so, with a kernel for each second half."""
    rows = jnp.stack([jnp.sum(value, axis=-2) for value in values])
    number = values[0].size // values[0].shape[-1]
    return list(jnp.sum(rows, axis=tuple(range(1, rows.ndim - 1))) / number)


def _step_by_step(epsilon, dtype, x, scale, bias, mean, variance, cotangent):
    """What differentiating flax's module gives. XLA finds the forward pass's own values in what is computed again."""

    def forward(x: Array, scale: Array, bias: Array) -> Array:
        return _shifted(x, *_statistics(_means, x), scale, bias, epsilon).astype(dtype)

    return jax.vjp(forward, x, scale, bias)[1](cotangent)


def _closed_form(epsilon, x, scale, bias, mean, variance, cotangent):
    """With n = (x - mean) / deviation and g the cotangent: dx = scale / deviation (g - mean(g) - n mean(g n))."""
    inverse, g = _inverse_deviation(variance, epsilon, x), cotangent.astype(_precise(x))
    unit = (x.astype(_precise(x)) - _wide(mean, x)) * _wide(inverse, x)
    of_bias, of_scale = _means_in_one(g, g * unit)
    moved = _wide(scale.astype(_precise(x)) * inverse, x) * (g - _wide(of_bias, x) - unit * _wide(of_scale, x))
    number = x.size // x.shape[-1]
    return moved.astype(x.dtype), (number * of_scale).astype(scale.dtype), (number * of_bias).astype(bias.dtype)

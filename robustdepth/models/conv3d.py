"""Convolutions over disparity, height and width, and the 3D hourglass of GwcNet.

XLA's own three-dimensional convolutions are several times slower on CPUs than the same sums as two-dimensional ones,
and fifty times where they are strided and differentiated: there each plane sees its neighbours as further channels.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from robustdepth.models.layers import HE_FAN_IN, batch_norm
from robustdepth.types import Array

_LAYOUT_2D = ("NHWC", "HWIO", "NHWC")
_LAYOUT_3D = ("NDHWC", "DHWIO", "NDHWC")


def convolve(
    x: Float[Array, "batch bins rows columns inputs"],
    kernel: Float[Array, "size size size inputs outputs"],
    stride: int,
) -> Float[Array, "batch _ _ _ outputs"]:
    """Convolution padded by half the kernel, as PyTorch's."""
    size, pad = kernel.shape[0], kernel.shape[0] // 2
    if jax.default_backend() != "cpu":
        return lax.conv_general_dilated(x, kernel, [stride] * 3, [(pad, pad)] * 3, dimension_numbers=_LAYOUT_3D)
    batch, bins, rows, columns, inputs = x.shape
    outputs = (bins - 1) // stride + 1
    padded = jnp.pad(x, ((0, 0), (pad, pad), (0, 0), (0, 0), (0, 0)))
    planes = [padded[:, i : i + stride * (outputs - 1) + 1 : stride] for i in range(size)]
    x = jnp.concatenate(planes, axis=-1).reshape(batch * outputs, rows, columns, size * inputs)
    kernel = jnp.moveaxis(kernel, 0, 2).reshape(size, size, size * inputs, kernel.shape[-1])
    x = lax.conv_general_dilated(x, kernel, [stride] * 2, [(pad, pad)] * 2, dimension_numbers=_LAYOUT_2D)
    return x.reshape(batch, outputs, *x.shape[1:])


def convolve_transposed(
    x: Float[Array, "batch bins rows columns inputs"], kernel: Float[Array, "size size size outputs inputs"]
) -> Float[Array, "batch 2*bins 2*rows 2*columns outputs"]:
    """The adjoint of `convolve` with stride 2, to twice the size: PyTorch's with an output padding of one."""
    low = kernel.shape[0] // 2
    flipped = jnp.swapaxes(jnp.flip(kernel, (0, 1, 2)), -1, -2)
    if jax.default_backend() != "cpu":
        return lax.conv_transpose(x, flipped, [2] * 3, [(low, low + 1)] * 3, dimension_numbers=_LAYOUT_3D)
    zero = jnp.zeros((), x.dtype)
    spread = lax.pad(x, zero, [(0, 0, 0), *[(0, 1, 1)] * 3, (0, 0, 0)])  # a zero behind every element
    return convolve(spread, flipped, 1)


class Conv3D(nn.Module):
    """Convolution of a volume, without bias; `transposed` doubles the size."""

    width: int
    kernel: int = 3
    stride: int = 1
    transposed: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch bins rows columns inputs"]) -> Float[Array, "batch _ _ _ outputs"]:
        channels = (self.width, x.shape[-1]) if self.transposed else (x.shape[-1], self.width)
        kernel = self.param("kernel", HE_FAN_IN, (self.kernel,) * 3 + channels).astype(self.dtype)
        if self.transposed:
            return convolve_transposed(x.astype(self.dtype), kernel)
        return convolve(x.astype(self.dtype), kernel, self.stride)


def conv_norm(
    x: Float[Array, "batch bins rows columns inputs"],
    train: bool,
    dtype: Any,
    name: str,
    width: int,
    kernel: int = 3,
    stride: int = 1,
    transposed: bool = False,
) -> Float[Array, "batch _ _ _ outputs"]:
    """`Conv3D` and batch normalisation as submodules of the calling module."""
    x = Conv3D(width, kernel, stride, transposed, dtype, name=f"{name}_conv")(x)
    return batch_norm(x, train, dtype, f"{name}_norm")


class Hourglass(nn.Module):
    """Halves the volume twice and returns to its size, with shortcuts: GwcNet's stacked hourglass **[paper]**."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch bins rows columns channels"], train: bool
    ) -> Float[Array, "batch bins rows columns channels"]:
        def layer(x: Array, name: str, width: int, kernel: int = 3, stride: int = 1, transposed: bool = False) -> Array:
            return conv_norm(x, train, self.dtype, name, width, kernel, stride, transposed)

        width = x.shape[-1]
        half = nn.relu(layer(x, "conv1", 2 * width, 3, 2))
        half = nn.relu(layer(half, "conv2", 2 * width))
        quarter = nn.relu(layer(half, "conv3", 4 * width, 3, 2))
        quarter = nn.relu(layer(quarter, "conv4", 4 * width))
        half = nn.relu(layer(quarter, "conv5", 2 * width, transposed=True) + layer(half, "redir2", 2 * width, 1))
        return nn.relu(layer(half, "conv6", width, transposed=True) + layer(x, "redir1", width, 1))

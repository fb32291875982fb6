"""What accelerators compute in a way of their own, beside what CPUs compute: run here, on a CPU."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.imaging import ssim
from robustdepth.models import layers, normalisation

TYPES = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])


@TYPES
@pytest.mark.parametrize("shape", [(2, 8, 12, 3), (1, 7, 9, 2), (2, 2, 2, 1)])
def test_gradients_of_max_pooling_go_where_xla_sends_them_ties_included(shape, dtype):
    x = jnp.maximum(jax.random.randint(jax.random.key(0), shape, -3, 4), 0).astype(dtype)
    y, backward = jax.vjp(lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))), x)
    cotangent = jax.random.randint(jax.random.key(1), y.shape, -8, 9).astype(dtype)
    np.testing.assert_array_equal(layers._route(x, cotangent), backward(cotangent)[0])
    np.testing.assert_array_equal(layers.max_pool(x), y)


def test_box_mean_and_its_transpose_are_those_of_cpus():
    planes = jax.random.uniform(jax.random.key(0), (2, 3, 10, 12))
    np.testing.assert_array_equal(ssim._box_mean(planes), ssim._box_mean_on_cpu(planes))
    expected = ssim.box_mean_transpose(planes)
    np.testing.assert_allclose(ssim._box_mean_transpose(planes), expected, rtol=1e-6)


@TYPES
def test_batch_norm_is_that_of_flax_and_so_are_its_gradients(dtype):
    x = (3 + 2 * jax.random.normal(jax.random.key(0), (4, 6, 8, 16))).astype(dtype)
    scale, bias = jax.random.uniform(jax.random.key(1), (16,)), jax.random.normal(jax.random.key(2), (16,))
    g = jax.random.normal(jax.random.key(3), x.shape).astype(dtype)
    stats = {"mean": jnp.zeros(16), "var": jnp.ones(16)}

    def run(module: nn.Module):
        def apply(params, x):
            return module.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"])

        y, backward, new = jax.vjp(apply, {"scale": scale, "bias": bias}, x, has_aux=True)
        return y, new, *backward(g)

    with jax.numpy_dtype_promotion("standard"):
        y, new, params, of_x = run(nn.BatchNorm(False, momentum=0.9, epsilon=1e-5, dtype=dtype))
    for mine, theirs in zip(
        jax.tree.leaves(run(normalisation.BatchNorm(True, dtype, 0.9, 1e-5))),
        jax.tree.leaves((y, new, params, of_x)),
        strict=True,
    ):
        np.testing.assert_allclose(np.float32(mine), np.float32(theirs), rtol=1e-5, atol=1e-6)
    residuals = normalisation._forward(x, scale, bias, 1e-5, dtype)[1]
    closed = normalisation._closed_form(1e-5, *residuals, g)
    tolerance = 1e-5 if dtype == jnp.float32 else 1e-2
    for mine, theirs in zip(closed, (of_x, params["scale"], params["bias"]), strict=True):
        np.testing.assert_allclose(np.float32(mine), np.float32(theirs), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("dtype", "of_parameters", "tolerance"),
    [
        (jnp.float64, jnp.float64, 1e-11),
        (jnp.float64, jnp.float32, 1e-6),
        (jnp.float32, jnp.float32, 1e-5),
        (jnp.bfloat16, jnp.float32, 2**-7),
    ],
)
def test_batch_norm_is_as_exact_as_its_types_allow(dtype, of_parameters, tolerance):
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 4)
        x = (3 + 2 * jax.random.normal(keys[0], (4, 6, 8, 16))).astype(dtype)
        scale, bias = (jax.random.uniform(key, (16,), minval=0.5).astype(of_parameters) for key in keys[1:3])
        g = jax.random.normal(keys[3], x.shape).astype(dtype)
        y, residuals = normalisation._forward(x, scale, bias, 1e-5, dtype)
        closed = normalisation._closed_form(1e-5, *residuals, g)
        step_by_step = normalisation._step_by_step(1e-5, dtype, *residuals, g)

        exact = [value.astype(jnp.float64) for value in (x, scale, bias)]
        expected, backward, of_batch = jax.vjp(textbook_batch_norm, *exact, has_aux=True)
        for mine, reference in zip(jax.tree.leaves(y), (expected, *of_batch), strict=True):
            np.testing.assert_allclose(np.float64(mine), reference, rtol=tolerance, atol=tolerance)
        assert y[0].dtype == dtype
        for gradients in (closed, step_by_step):
            for mine, reference, argument in zip(gradients, backward(np.float64(g)), (x, scale, bias), strict=True):
                assert mine.dtype == argument.dtype
                np.testing.assert_allclose(np.float64(mine), reference, rtol=tolerance, atol=tolerance)


def textbook_batch_norm(x, scale, bias):
    axes = (0, 1, 2)
    mean = x.mean(axes, keepdims=True)
    variance = jnp.square(x - mean).mean(axes, keepdims=True)
    y = (x - mean) / jnp.sqrt(variance + 1e-5) * scale[None, None, None] + bias[None, None, None]
    return y, (mean.ravel(), variance.ravel())


@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_keeps_the_types_of_its_variables_whatever_its_input(train):
    with jax.enable_x64(True):
        module = normalisation.BatchNorm(train, jnp.float64, 0.9, 1e-5)
        x = jax.random.normal(jax.random.key(0), (2, 4, 4, 3), jnp.float64)
        variables = module.init(jax.random.key(1), x)
        y, new = module.apply(variables, x, mutable=["batch_stats"])
        assert y.dtype == jnp.float64
        assert {leaf.dtype for leaf in jax.tree.leaves((variables, new))} == {jnp.dtype(jnp.float32)}

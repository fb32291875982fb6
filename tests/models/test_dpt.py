"""The DPT decoder: scales, start, known answers of its parts, and gradients through to the transformer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.imaging.resize import resize_image
from robustdepth.models.depth_net import DepthNet
from robustdepth.models.dpt import DPTDecoder, Fusion, ResidualUnit, upsample_linear
from robustdepth.models.vit import ViTEncoder

CHANNELS = {4: 6, 8: 8, 16: 10, 32: 12}
INITIAL = 0.03


def features(height, width, batch=2, seed=0):
    keys = jax.random.split(jax.random.key(seed), 4)
    return {
        stride: jax.random.normal(key, (batch, -(-height // stride), -(-width // stride), channels))
        for key, (stride, channels) in zip(keys, CHANNELS.items(), strict=True)
    }


def run(network, *inputs):
    return jax.jit(lambda *inputs: network.init_with_output(jax.random.key(1), *inputs))(*inputs)


@pytest.mark.parametrize("output_stride", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(64, 96), (48, 80)])
def test_scales_follow_the_output_stride(size, output_stride):
    decoder = DPTDecoder(0.25, 2, output_stride, INITIAL)
    shapes = jax.eval_shape(lambda: decoder.init_with_output(jax.random.key(0), features(*size)))
    (disparities, decoded), variables = shapes
    assert [d.shape for d in disparities] == [
        (2, -(-size[0] // stride), -(-size[1] // stride)) for stride in (output_stride, 2 * output_stride)
    ]
    assert all(d.dtype == jnp.float32 for d in disparities)
    channels = {1: 4, 2: 8, 4: 16, 8: 16, 16: 16, 32: 16}
    assert {stride: x.shape for stride, x in decoded.items()} == {
        stride: (2, -(-size[0] // stride), -(-size[1] // stride), channels[stride])
        for stride in channels
        if stride >= output_stride
    }
    assert len([name for name in variables["params"] if name.startswith("disparity")]) == 2


def test_every_scale_starts_near_the_initial_disparity():
    decoder = DPTDecoder(0.25, 4, 1, INITIAL)
    (disparities, _), variables = run(decoder, features(32, 64))
    assert len(disparities) == 4
    for disparity in disparities:
        assert (disparity > 0).all()
        assert (disparity < 1).all()
        np.testing.assert_allclose(disparity, INITIAL, rtol=0.25)
        assert np.ptp(disparity) > 0
    biases = [variables["params"][f"disparity{level}"]["conv"]["bias"] for level in range(4)]
    np.testing.assert_allclose(jax.nn.sigmoid(jnp.concatenate(biases)), INITIAL, rtol=1e-5)


def test_bfloat16_keeps_float32_parameters_and_disparities():
    inputs = features(32, 32)
    full, half = DPTDecoder(0.25, 1, 2, INITIAL), DPTDecoder(0.25, 1, 2, INITIAL, jnp.bfloat16)
    ((expected,), _), variables = run(full, inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    (disparity,), decoded = jax.jit(half.apply)(variables, inputs)
    assert disparity.dtype == jnp.float32
    assert {x.dtype for x in decoded.values()} == {jnp.dtype("bfloat16")}
    np.testing.assert_allclose(disparity, expected, rtol=0.03)
    assert (disparity != expected).any()


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 1, 5, 2)])
def test_upsampling_equals_the_resize(shape):
    x = jax.random.normal(jax.random.key(2), shape)
    expected = resize_image(x, (2 * shape[1], 2 * shape[2]))
    np.testing.assert_allclose(upsample_linear(x), expected, rtol=1e-6, atol=1e-6)


def numpy_conv(x, layer):
    """3x3 convolution of a mirrored map, from the definition."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.einsum("bhwcij,ijco->bhwo", windows, layer["conv"]["kernel"]) + layer["conv"]["bias"]


def numpy_unit(x, params):
    return x + numpy_conv(np.maximum(numpy_conv(np.maximum(x, 0), params["conv1"]), 0), params["conv2"])


def test_residual_unit_equals_numpy_and_starts_near_the_identity():
    x = jax.random.normal(jax.random.key(3), (1, 8, 10, 16))
    y, variables = run(ResidualUnit(jnp.float32), x)
    np.testing.assert_allclose(y, numpy_unit(np.asarray(x), jax.device_get(variables["params"])), rtol=1e-4, atol=1e-5)
    assert 0 < jnp.std(y - x) < 0.5 * jnp.std(x)


def test_projecting_before_the_upsampling_equals_the_papers_order():
    """RefineNet block as the paper draws it: fuse, refine, upsample, then project."""
    skip, coarser = (
        jax.random.normal(jax.random.key(4), (1, 5, 6, 8)),
        jax.random.normal(jax.random.key(5), (1, 3, 3, 4)),
    )
    fused, variables = run(Fusion(4, jnp.float32), skip, coarser)
    params = jax.device_get(variables["params"])
    enlarged = np.asarray(resize_image(coarser, (6, 6)))[:, :5]
    x = numpy_unit(
        enlarged + numpy_unit(numpy_conv(np.asarray(skip), params["skip"]), params["unit1"]), params["unit2"]
    )
    expected = np.asarray(resize_image(jnp.asarray(x), (10, 12))) @ params["projection"]["kernel"]
    expected = expected + params["projection"]["bias"]
    np.testing.assert_allclose(upsample_linear(fused), expected, rtol=1e-4, atol=1e-5)


def test_gradient_of_the_disparity_reaches_every_parameter_of_the_transformer():
    network = DepthNet(ViTEncoder(24, 4, 2, 3, tuple(CHANNELS.values())), DPTDecoder(0.125, 1, 4, INITIAL))
    image = jax.random.uniform(jax.random.key(6), (1, 32, 48, 3))
    variables = jax.jit(lambda x: network.init(jax.random.key(7), x, True))(image)
    assert set(variables) == {"params"}
    assert set(variables["params"]) == {"encoder", "decoder"}

    def loss(variables, image):
        (disparity,) = network.apply(variables, image, True).disparities
        return jnp.square(disparity - image[:, :8, :12, 0]).mean()

    gradients = jax.device_get(jax.jit(jax.grad(loss))(variables, image))
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients["params"]):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert np.isfinite(gradient).all(), name
        if not name.endswith("key/bias"):  # it adds the same number to all logits of a query, which softmax ignores
            assert np.abs(gradient).max() > 0, name

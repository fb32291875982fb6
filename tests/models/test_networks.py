"""Networks as the configuration builds them: shapes, ranges, start, precision and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import get_config
from robustdepth.errors import UserError
from robustdepth.models.build import build_depth_net, build_pose_net
from robustdepth.models.encoder import ENCODERS
from robustdepth.models.layers import fan_in_uniform, reflect_pad, upsample


def model_config(**changes):
    model = get_config().model
    model.update(dict(encoder="resnet_tiny", pose_encoder="resnet_tiny", decoder_width=0.25) | changes)
    return model


def random_image(*shape, seed=0):
    return jax.random.uniform(jax.random.key(seed), shape)


def init(network, *inputs, seed=1):
    return jax.jit(lambda key, *inputs: network.init(key, *inputs, True))(jax.random.key(seed), *inputs)


def apply(network, variables, *inputs, train=False):
    def run(variables, *inputs):  # arguments, not constants: XLA would fold whole networks of constants
        return network.apply(variables, *inputs, train, mutable=["batch_stats"])[0]

    return jax.jit(run)(variables, *inputs)


def to_depth(disparity, model):
    nearest, farthest = 1 / model.min_depth, 1 / model.max_depth
    return 1 / (farthest + (nearest - farthest) * disparity)


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_every_encoder_has_features_at_five_strides_and_four_disparities(encoder):
    network = build_depth_net(model_config(encoder=encoder))
    image = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
    (output, variables) = jax.eval_shape(lambda image: network.init_with_output(jax.random.key(0), image, True), image)
    assert [d.shape for d in output.disparities] == [(2, 64, 96), (2, 32, 48), (2, 16, 24), (2, 8, 12)]
    assert {stride: f.shape[1:3] for stride, f in output.features.items()} == {
        stride: (64 // stride, 96 // stride) for stride in (2, 4, 8, 16, 32)
    }
    assert set(variables) == {"params", "batch_stats"}
    assert set(variables["params"]) == {"encoder", "decoder"}


@pytest.mark.parametrize(
    ("encoder", "count"),  # published sizes of the classifiers, less their heads
    [
        ("resnet18", 11_689_512 - 513_000),
        ("resnet34", 21_797_672 - 513_000),
        ("resnet50", 25_557_032 - 2_049_000),
        ("efficientnet_lite0", 4_652_008 - 1_281_000 - 320 * 1280 - 2 * 1280),
    ],
)
def test_encoders_have_the_published_number_of_parameters(encoder, count):
    network = ENCODERS[encoder](dtype=jnp.float32)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), False))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 64, 208)])
def test_depth_network_starts_near_the_initial_depth(shape):
    model = model_config(initial_depth=12.0)
    network = build_depth_net(model)
    image = random_image(*shape, 3)
    variables = init(network, image)
    for train in (True, False):
        output = apply(network, variables, image, train=train)
        for k, disparity in enumerate(output.disparities):
            assert disparity.shape == (shape[0], shape[1] >> k, shape[2] >> k)
            assert disparity.dtype == jnp.float32
            assert (disparity > 0).all()
            assert (disparity < 1).all()
            np.testing.assert_allclose(to_depth(disparity, model), 12.0, rtol=0.2)


def test_decoder_follows_the_configured_scales_and_width():
    model = model_config(scales=2, decoder_width=0.5)
    network = build_depth_net(model)
    image = random_image(1, 32, 32, 3)
    variables = init(network, image)
    assert len(apply(network, variables, image).disparities) == 2
    kernels = {name: layer["conv"]["kernel"].shape for name, layer in variables["params"]["decoder"].items()}
    assert {name for name in kernels if name.startswith("disparity")} == {"disparity0", "disparity1"}
    assert [kernels[f"merge{level}"][-1] for level in range(5)] == [8, 16, 32, 64, 128]


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_decoder_ends_at_the_configured_stride(stride):
    network = build_depth_net(model_config(scales=1, output_stride=stride))
    image = random_image(1, 32, 64, 3)
    (disparity,) = apply(network, init(network, image), image).disparities
    assert disparity.shape == (1, 32 // stride, 64 // stride)


def test_pose_starts_near_no_motion_and_is_scaled():
    first, second = random_image(3, 32, 64, 3), random_image(3, 32, 64, 3, seed=5)
    network, larger = build_pose_net(model_config()), build_pose_net(model_config(pose_scale=0.1))
    variables = init(network, first, second)
    pose = apply(network, variables, first, second)
    assert pose.shape == (3, 6)
    assert pose.dtype == jnp.float32
    assert 0 < jnp.abs(pose).max() < 0.01
    np.testing.assert_allclose(apply(larger, variables, first, second), 10 * pose, rtol=1e-4)
    assert jnp.abs(pose - apply(network, variables, second, first)).max() > 0  # the order of the frames matters


def test_bfloat16_computes_close_to_float32_and_keeps_float32_parameters_and_outputs():
    image = random_image(2, 32, 64, 3)
    full, half = build_depth_net(model_config()), build_depth_net(model_config(dtype="bfloat16"))
    variables = init(half, image)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    ours, reference = apply(half, variables, image, train=True), apply(full, variables, image, train=True)
    assert {feature.dtype for feature in ours.features.values()} == {jnp.dtype("bfloat16")}
    for a, b in zip(ours.disparities, reference.disparities, strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=0.03)
        assert (a != b).any()  # it did compute in bfloat16

    pose_net = build_pose_net(model_config(dtype="bfloat16"))
    pose_variables = init(pose_net, image, image)
    assert {leaf.dtype for leaf in jax.tree.leaves(pose_variables)} == {jnp.dtype("float32")}
    assert apply(pose_net, pose_variables, image, image).dtype == jnp.float32


def test_every_parameter_has_a_finite_gradient_that_is_not_zero():
    image = random_image(2, 64, 64, 3)
    network = build_depth_net(model_config())
    variables = init(network, image)

    def loss(params, image):
        output, _ = network.apply({**variables, "params": params}, image, True, mutable=["batch_stats"])
        return sum(jnp.square(d - image[:, : d.shape[1], : d.shape[2], 0]).mean() for d in output.disparities)

    gradients = jax.jit(jax.grad(loss))(variables["params"], image)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert jnp.isfinite(gradient).all(), path
        assert jnp.abs(gradient).max() > 0, path


def test_batch_statistics_are_those_of_the_global_batch():
    image = random_image(8, 32, 32, 3)
    network = build_depth_net(model_config())
    variables = init(network, image)

    @jax.jit
    def run(variables, image):
        output, updates = network.apply(variables, image, True, mutable=["batch_stats"])
        return output.disparities[0], updates

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put(image, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    assert len(sharded.sharding.device_set) == 8
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        run(variables, image),
        run(variables, sharded),
    )


def test_initial_weights_are_uniform_with_fan_in_variance_and_independent():
    shape, init = (3, 3, 64, 128), fan_in_uniform(2.0)
    first, second = (np.asarray(init(jax.random.key(seed), shape), np.float64).ravel() for seed in (0, 1))
    limit = np.sqrt(3 * 2.0 / (9 * 64))
    share = 1 / np.sqrt(first.size)  # deviation of a mean over this many independent numbers of variance one
    counts, _ = np.histogram(first, bins=32, range=(-1.001 * limit, 1.001 * limit))
    assert counts.sum() == first.size
    expected = first.size / 32
    assert ((counts - expected) ** 2 / expected).sum() < 62  # chi-squared with 31 degrees, p = 0.001
    np.testing.assert_allclose(np.var(first), 2.0 / (9 * 64), rtol=5 * share)
    for other in (second, np.roll(first, 1), np.roll(first, 128), np.roll(first, 64 * 128)):
        assert abs(np.corrcoef(first, other)[0, 1]) < 5 * share


def test_padding_and_upsampling_equal_numpy():
    x = np.random.default_rng(0).random((2, 1, 5, 3), np.float32)
    np.testing.assert_array_equal(
        reflect_pad(jnp.asarray(x)), np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    )
    np.testing.assert_array_equal(upsample(jnp.asarray(x)), x.repeat(2, axis=1).repeat(2, axis=2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(encoder="resnet81"), "unknown encoder 'resnet81'.*did you mean resnet18"),
        (dict(encoder="vgg"), "known: depth_anything_v2_base, .*, dinov2_vitb14, .*, efficientnet_lite0"),
        (dict(dtype="float16"), "unknown dtype 'float16'.*did you mean .*bfloat16"),
        (dict(scales=6), "1 to 5 scales"),
        (dict(scales=5, output_stride=2), "1 to 4 scales"),
        (dict(output_stride=3), "ends at 1, 2, 4 or 8"),
        (dict(initial_depth=0.05), "must lie between"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        build_depth_net(model_config(**changes))


def test_unknown_pose_encoders_and_transformers_are_refused():
    with pytest.raises(UserError, match="did you mean resnet50"):
        build_pose_net(model_config(pose_encoder="resnet500"))
    with pytest.raises(UserError, match="unknown encoder 'dinov2_vits14'"):
        build_pose_net(model_config(pose_encoder="dinov2_vits14"))


@pytest.mark.parametrize("size", [(100, 320), (64, 200), (8, 32)])
def test_sizes_that_do_not_fit_are_refused(size):
    image = jnp.zeros((1, *size, 3))
    with pytest.raises(UserError, match=rf"multiples of 32.*got {size[0]}x{size[1]}"):
        jax.eval_shape(lambda: build_depth_net(model_config()).init(jax.random.key(0), image, False))
    with pytest.raises(UserError, match="multiples of 32"):
        jax.eval_shape(lambda: build_pose_net(model_config()).init(jax.random.key(0), image, image, False))

"""The stereo networks: correlation and soft-argmin against plain NumPy, GwcNet-G against its authors' network."""

import math
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from robustdepth.errors import UserError
from robustdepth.geometry.depth import disparity_range
from robustdepth.interop.gwcnet_weights import load_gwcnet
from robustdepth.models import conv3d
from robustdepth.models.cost_volume import (
    convex_upsample,
    expected_disparity,
    group_wise_correlation,
    regress_full_size,
)
from robustdepth.models.light_stereo import LightAggregation
from robustdepth.models.stereo_net import STEREO_NETWORKS

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))
import make_gwcnet_fixtures as fixtures  # noqa: E402

RANDOM = np.random.default_rng(5)


def images(height=32, width=64, batch=1):
    left, right = fixtures.pair((batch, height, width, 3))
    return jnp.asarray(left), jnp.asarray(right)


def zeros(name, max_disparity=32):
    """Variables of the right shapes: every number in them must come from the file."""
    network = STEREO_NETWORKS[name](max_disparity=max_disparity)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), *images(), False))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


@pytest.fixture(scope="module")
def light():
    """Random variables of the small network."""
    network = STEREO_NETWORKS["light"](max_disparity=32)
    return jax.jit(lambda: network.init(jax.random.key(0), *images(), False))()


# The parts.


def test_group_wise_correlation_equals_a_plain_loop():
    left, right = RANDOM.normal(size=(2, 2, 3, 7, 6)).astype(np.float32)
    volume = group_wise_correlation(jnp.asarray(left), jnp.asarray(right), 9, 3)  # more bins than columns
    expected = np.zeros((2, 9, 3, 7, 3))
    for b, k, y, x, group in np.ndindex(expected.shape):
        if x >= k:
            channels = slice(2 * group, 2 * group + 2)
            expected[b, k, y, x, group] = np.mean(left[b, y, x, channels] * right[b, y, x - k, channels])
    np.testing.assert_allclose(volume, expected, rtol=1e-5, atol=1e-6)
    assert not np.asarray(volume)[:, 7:].any()


@pytest.mark.parametrize("shift", [0, 4, 12])
def test_moved_texture_correlates_most_at_its_bin(shift):
    wide = RANDOM.normal(size=(1, 5, 20, 32)).astype(np.float32)
    wide /= np.linalg.norm(wide, axis=-1, keepdims=True)  # so that nothing is more like a pixel than itself
    k = shift // 4  # features have a quarter of the images' size
    left, right = wide[:, :, : 20 - k], wide[:, :, k:]  # right (x - k) is left (x)
    volume = np.asarray(group_wise_correlation(jnp.asarray(left), jnp.asarray(right), 6, 1))[..., 0]
    assert (volume.argmax(1)[:, :, k:] == k).all()
    np.testing.assert_allclose(volume[:, k, :, k:], 1 / 32, rtol=1e-5)


def test_expected_disparity_of_a_known_distribution():
    probabilities = jnp.asarray([0.5, 0.0, 0.25, 0.25], jnp.float32).reshape(1, 4, 1, 1)
    assert expected_disparity(probabilities, 4).item() == 0.25 * 8 + 0.25 * 12
    assert expected_disparity(jnp.full((1, 8, 1, 1), 1 / 8), 1).item() == 3.5


def test_certain_cost_is_regressed_to_its_bin_on_the_fine_grid():
    """Between bins 2 and 3, which are alike and far above the others, lies pixel 4 x 2.5 + 1.5."""
    cost = np.zeros((1, 6, 2, 3), np.float32)
    cost[:, 2:4] = 60
    disparity = regress_full_size(jnp.asarray(cost))
    assert disparity.shape == (1, 8, 12)
    np.testing.assert_allclose(disparity, 4 * 2.5 + 1.5, atol=1e-4)


def test_convex_upsampling_equals_a_plain_loop():
    disparity, logits = RANDOM.normal(size=(1, 3, 4)), RANDOM.normal(size=(1, 3, 4, 4, 4, 9))
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = np.zeros((1, 12, 16))
    for y, x in np.ndindex(12, 16):
        for n, (i, j) in enumerate(np.ndindex(3, 3)):
            row, column = np.clip(y // 4 + i - 1, 0, 2), np.clip(x // 4 + j - 1, 0, 3)
            expected[0, y, x] += weights[0, y // 4, x // 4, y % 4, x % 4, n] * disparity[0, row, column]
    fine = convex_upsample(jnp.asarray(disparity, jnp.float32), jnp.asarray(logits, jnp.float32).reshape(1, 3, 4, 144))
    np.testing.assert_allclose(fine, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("stride", "size"), [(1, 3), (2, 3), (1, 1)])
def test_convolution_by_planes_equals_the_native_one(stride, size):
    x, kernel = RANDOM.normal(size=(2, 6, 4, 8, 3)), RANDOM.normal(size=(size, size, size, 3, 5))
    x, kernel = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)
    native = lax.conv_general_dilated(
        x, kernel, [stride] * 3, [(size // 2, size // 2)] * 3, dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    np.testing.assert_allclose(conv3d.convolve(x, kernel, stride), native, rtol=1e-4, atol=1e-4)


def test_accelerators_use_the_native_convolutions_with_the_same_answer(monkeypatch):
    x = jnp.asarray(RANDOM.normal(size=(1, 4, 4, 8, 3)), jnp.float32)
    kernel = jnp.asarray(RANDOM.normal(size=(3, 3, 3, 3, 3)), jnp.float32)

    def run():
        return [conv3d.convolve(x, kernel, 1), conv3d.convolve(x, kernel, 2), conv3d.convolve_transposed(x, kernel)]

    here = run()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for ours, native in zip(here, run(), strict=True):
        np.testing.assert_allclose(ours, native, rtol=1e-4, atol=1e-4)


def test_transposed_convolution_is_the_adjoint_of_the_strided_one():
    coarse = jnp.asarray(RANDOM.normal(size=(1, 2, 2, 4, 5)), jnp.float32)
    fine = jnp.asarray(RANDOM.normal(size=(1, 4, 4, 8, 3)), jnp.float32)
    kernel = jnp.asarray(RANDOM.normal(size=(3, 3, 3, 3, 5)), jnp.float32)
    left = jnp.vdot(conv3d.convolve(fine, kernel, 2), coarse)
    np.testing.assert_allclose(left, jnp.vdot(fine, conv3d.convolve_transposed(coarse, kernel)), rtol=1e-4)


# GwcNet-G against the authors' network.


def test_gwcnet_equals_its_authors_network():
    variables, report = load_gwcnet(zeros("gwcnet_g"), fixtures.state_dict(), "gwcnet_g")
    network = STEREO_NETWORKS["gwcnet_g"](max_disparity=fixtures.MAX_DISPARITY)
    output = jax.jit(lambda v, left, right: network.apply(v, left, right, False))(variables, *images())
    (disparity,) = output.disparities
    with np.load(FIXTURES / "gwcnet.npz") as expected:
        assert expected["disparity"].std() > 2  # no constant, which anything could hit
        np.testing.assert_allclose(disparity[0], expected["disparity"], atol=1e-3)
    assert output.geometry.shape == (1, 8, 16, 32)
    assert output.distribution.shape == (1, 8, 16, 8)
    # Learnt numbers of the published network, by its own count, and two statistics per normalised channel.
    learnt = [v for name, v in fixtures.state_dict().items() if name.endswith(("weight", "bias"))]
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == sum(v.size for v in learnt)
    assert all(name.endswith("num_batches_tracked") for name in report.ignored)
    assert report.parameters == sum(leaf.size for leaf in jax.tree.leaves(variables))


def test_names_of_parallel_training_are_understood():
    parallel = {f"module.{name}": value for name, value in fixtures.state_dict().items()}
    plain, _ = load_gwcnet(zeros("gwcnet_g"), fixtures.state_dict(), "gwcnet_g")
    variables, _ = load_gwcnet(zeros("gwcnet_g"), parallel, "gwcnet_g")
    jax.tree.map(np.testing.assert_array_equal, plain, variables)


def change(**changes):
    weights = {**fixtures.state_dict(), **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in weights.items() if value is not None}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda: {"conv1.weight": np.zeros((64, 3, 7, 7))}, "are not of a GwcNet"),
        (lambda: change(feature_extraction__lastconv__2__weight=np.zeros((12, 128, 1, 1))), "are of GwcNet-GC"),
        (lambda: change(dres0__0__0__weight=np.zeros((32, 64, 3, 3, 3))), "dres0.0.0.weight has shape"),
        (lambda: change(classif3__2__weight=None), "classif3.2.weight is missing"),
        (lambda: change(dres5__weight=np.zeros(3)), "dres5.weight has no place"),
    ],
)
def test_other_weights_are_refused(weights, message):
    with pytest.raises(UserError, match=message):
        load_gwcnet(zeros("gwcnet_g"), weights(), "gwcnet_g")


# Both networks.


@pytest.mark.parametrize(("name", "heads", "channels"), [("gwcnet_g", 4, 32), ("light", 2, 16)])
def test_outputs_have_their_shapes_and_float32_whatever_the_type(name, heads, channels):
    network = STEREO_NETWORKS[name](max_disparity=48, dtype=jnp.bfloat16)
    views = images(48, 80, 2)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), *views, False))
    for train, count in ((True, heads), (False, 1)):
        output, _ = jax.eval_shape(lambda v, t=train: network.apply(v, *views, t, mutable=["batch_stats"]), variables)
        assert [leaf.shape for leaf in output.disparities] == count * [(2, 48, 80)]
        assert output.geometry.shape == (2, 12, 20, channels)
        assert output.distribution.shape == (2, 12, 20, 12)
        assert {leaf.dtype for leaf in jax.tree.leaves(output)} == {jnp.dtype(jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("name", STEREO_NETWORKS)
def test_parameters_do_not_depend_on_the_largest_disparity(name):
    shapes = [jax.tree.map(np.shape, zeros(name, max_disparity)) for max_disparity in (16, 192)]
    assert shapes[0] == shapes[1]


def test_evaluation_returns_the_last_head_alone():
    aggregation = LightAggregation()
    volume = jnp.asarray(RANDOM.normal(size=(1, 4, 4, 8, 8)), jnp.float32)
    variables = jax.jit(lambda: aggregation.init(jax.random.key(0), volume, False))()
    run = jax.jit(
        lambda train: aggregation.apply(variables, volume, train, mutable=["batch_stats"])[0], static_argnums=0
    )
    assert len(run(True)) == 2
    ((features, cost),) = run(False)
    # The last head reads the features it is returned with.
    kernel = variables["params"]["head1_cost"]["kernel"]
    np.testing.assert_allclose(np.asarray(features) @ np.asarray(kernel)[0, 0, 0, :, 0], cost, rtol=1e-5, atol=1e-6)


def test_light_answers_are_probabilities_and_their_means(light):
    network = STEREO_NETWORKS["light"](max_disparity=32)
    output = jax.jit(lambda v, left, right: network.apply(v, left, right, False))(light, *images())
    np.testing.assert_allclose(output.distribution.sum(-1), 1, rtol=1e-5)
    coarse = np.asarray(output.distribution) @ np.arange(0, 32, 4, dtype=np.float32)
    (disparity,) = output.disparities
    assert coarse.min() - 1e-4 <= disparity.min() < disparity.max() <= coarse.max() + 1e-4
    # Fine pixels lie within the 3x3 coarse ones round theirs: never beyond an edge further away.
    padded = np.pad(coarse[0], 1, mode="edge")
    around = np.stack([padded[i : i + 8, j : j + 16] for i in range(3) for j in range(3)])
    blocks = np.asarray(disparity[0]).reshape(8, 4, 16, 4).transpose(1, 3, 0, 2)
    assert (blocks >= around.min(0) - 1e-4).all()
    assert (blocks <= around.max(0) + 1e-4).all()


def test_bfloat16_stays_close_to_float32(light):
    run = [
        jax.jit(STEREO_NETWORKS["light"](max_disparity=32, dtype=dtype).apply, static_argnums=3)(
            light, *images(), False
        )
        for dtype in (jnp.float32, jnp.bfloat16)
    ]
    difference = np.abs(np.asarray(run[0].disparities[0]) - np.asarray(run[1].disparities[0]))
    assert 0 < difference.max() < 1.0


@pytest.mark.parametrize(
    ("sizes", "max_disparity", "message"),
    [
        ((40, 64), 32, "multiples of 32"),
        ((32, 72), 32, "multiples of 32"),
        ((32, 64), 40, "positive multiple of 16"),
        ((32, 64), 0, "positive multiple of 16"),
    ],
)
def test_wrong_sizes_are_refused(sizes, max_disparity, message):
    network = STEREO_NETWORKS["light"](max_disparity=max_disparity)
    with pytest.raises(UserError, match=message):
        jax.eval_shape(lambda: network.init(jax.random.key(0), *images(*sizes), False))


def test_views_of_different_sizes_are_refused():
    network = STEREO_NETWORKS["light"](max_disparity=32)
    with pytest.raises(UserError, match="different sizes"):
        jax.eval_shape(lambda: network.init(jax.random.key(0), images()[0], images(48)[0], False))


@pytest.mark.parametrize("width", [32, 320, 621, 640, 1242, 1248])
def test_default_reach_is_kittis_in_proportion(width):
    reach = disparity_range(width)
    assert reach % 16 == 0
    assert reach == 16 * math.ceil(192 * width / 1242 / 16)

"""Depth Anything answers as Hugging Face's code does, under both projects' names; misfits are refused."""

import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import get_config
from robustdepth.errors import UserError
from robustdepth.geometry.depth import disparity_to_inverse_depth
from robustdepth.interop.depth_anything_weights import load_depth_anything
from robustdepth.models.build import build_depth_net
from robustdepth.models.depth_anything import DepthAnythingDecoder, enlarge
from robustdepth.models.depth_net import DepthNet
from robustdepth.models.vit import ViTEncoder, resize_positions
from tests.models.test_vit import to_original_names

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))
import make_transformer_fixtures as fixtures  # noqa: E402

NEAR, FAR = 1e-3, 1e6


def network(stride=14, scales=1, output_stride=1, dtype=jnp.float32, depths=(NEAR, FAR, 1.0), offset=0.0):
    channels, width = fixtures.DEPTH_ANYTHING.values()
    options = dict(stride=stride, dtype=dtype)
    encoder = ViTEncoder(**fixtures.DINOV2, channels=channels, bias=True, offset=offset, **options)
    decoder = DepthAnythingDecoder(width, scales, output_stride, *depths, **options)
    return DepthNet(encoder, decoder, multiple=stride)


def small_weights():
    return fixtures.depth_anything_weights(**fixtures.DEPTH_ANYTHING)


def authors_weights():
    """The same numbers under the names of the authors' .pth files."""
    weights = small_weights()
    transformer = {k.removeprefix("backbone."): v for k, v in weights.items() if k.startswith("backbone.")}
    renamed = {f"pretrained.{name}": value for name, value in to_original_names(transformer).items()}
    for name, value in weights.items():
        for pattern, replacement in (
            (r"^neck\.reassemble_stage\.layers\.(\d)\.projection", r"depth_head.projects.\1"),
            (r"^neck\.reassemble_stage\.layers\.(\d)\.resize", r"depth_head.resize_layers.\1"),
            (r"^neck\.convs\.(\d)", lambda m: f"depth_head.scratch.layer{int(m[1]) + 1}_rn"),
            (r"^neck\.fusion_stage\.layers\.(\d)", lambda m: f"depth_head.scratch.refinenet{4 - int(m[1])}"),
            (r"residual_layer(\d)\.convolution(\d)", r"resConfUnit\1.conv\2"),
            (r"(refinenet\d)\.projection", r"\1.out_conv"),
            (r"^head\.conv1", "depth_head.scratch.output_conv1"),
            (r"^head\.conv2", "depth_head.scratch.output_conv2.0"),
            (r"^head\.conv3", "depth_head.scratch.output_conv2.2"),
        ):
            name = re.sub(pattern, replacement, name)
        if not name.startswith("backbone."):
            renamed[name] = value
    return renamed


def shapes(net, size=(56, 98)):
    return jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, *size, 3)), False))


def answer(net, variables, image):
    (disparity, *_), _ = jax.jit(lambda v, x: net.apply(v, x, False)[::2])(variables, image)
    return disparity_to_inverse_depth(disparity, NEAR, FAR)


def expected():
    with np.load(FIXTURES / "depth_anything.npz") as arrays:
        return dict(arrays)


def test_inverse_depth_equals_hugging_face_in_float64():
    with jax.enable_x64(True):
        net = network(dtype=jnp.float64)
        variables, report = load_depth_anything(shapes(net), small_weights(), "small")
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        ours = fixtures.sample(answer(net, variables, jnp.asarray(fixtures.image(fixtures.DEPTH_ANYTHING_IMAGE))))
    theirs = expected()["inverse_depth"]
    assert (theirs > 0).mean() > 0.95
    assert np.std(theirs) > 0.1
    # Hugging Face interpolates the position embedding in float32, the last layer here is in float32 always.
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)
    assert all(re.match(r"backbone\.embeddings\.mask_token|.*layers\.0\.residual_layer1\.", x) for x in report.ignored)
    assert len(report.ignored) == 5


def test_float32_is_right_to_a_hundred_thousandth():
    net = network()
    variables, _ = load_depth_anything(shapes(net), small_weights(), "small")
    ours = fixtures.sample(answer(net, variables, jnp.asarray(fixtures.image(fixtures.DEPTH_ANYTHING_IMAGE))))
    theirs = expected()["inverse_depth"]
    assert np.abs(ours - theirs).max() <= 1e-5 * theirs.max()


def test_the_authors_names_fill_the_same_network():
    net = network()
    theirs, _ = load_depth_anything(shapes(net), small_weights(), "small")
    ours, report = load_depth_anything(shapes(net), authors_weights(), "small")
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert report.naming == "the authors'"
    assert len(report.ignored) == 5


@pytest.mark.parametrize("size", fixtures.OFFSET_SIZES)
def test_positions_with_an_offset_equal_pytorchs_interpolation_by_a_factor(size):
    grid = jnp.asarray(fixtures.positions_grid())
    ours = resize_positions(grid, size, fixtures.OFFSET)
    if size == grid.shape[:2]:  # there the original leaves the embedding alone
        np.testing.assert_array_equal(ours, grid)
        return
    theirs = expected()[f"positions{size[0]}x{size[1]}"]
    np.testing.assert_allclose(fixtures.sample(ours), theirs, rtol=1e-5, atol=1e-5)
    assert np.abs(fixtures.sample(resize_positions(grid, size)) - theirs).max() > 0.01


def test_enlarging_keeps_corners_and_planes():
    rows, columns = np.indices((3, 4))
    plane = (2.0 * rows + columns)[None, ..., None].astype(np.float32)
    ours = np.asarray(enlarge(jnp.asarray(plane), (5, 10)))[0, ..., 0]
    new = np.linspace(0, 2, 5)[:, None] * 2 + np.linspace(0, 3, 10)
    np.testing.assert_allclose(ours, new, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "count"),  # the published files' numbers, without the mask token and the unit that nothing reads
    [("depth_anything_v2_small", 24_785_089 - 384), ("depth_anything_v2_base", 97_470_785 - 768)],
)
def test_published_number_of_parameters(name, count):
    model = get_config().model
    model.encoder = name
    width = 64 if "small" in name else 128
    unread = 2 * (9 * width * width + width)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes(build_depth_net(model), (64, 96)))) == count - unread


@pytest.mark.parametrize("output_stride", [1, 2])
def test_as_a_students_network_it_has_all_scales_and_starts_at_the_initial_depth(output_stride):
    net = network(stride=16, scales=3, output_stride=output_stride, depths=(0.1, 100.0, 10.0))
    image = jnp.asarray(fixtures.image((1, 64, 96, 3)))
    output, _ = jax.jit(lambda x: net.init_with_output(jax.random.key(1), x, True))(image)
    strides = [output_stride * 2**k for k in range(3)]
    assert [d.shape for d in output.disparities] == [(1, 64 // s, 96 // s) for s in strides]
    for disparity in output.disparities:
        np.testing.assert_allclose(disparity_to_inverse_depth(disparity, 0.1, 100.0), 0.1, rtol=0.2)
    assert {stride: x.shape[1:3] for stride, x in output.decoded.items()} == {
        stride: (64 // stride, 96 // stride) for stride in (4, 8, 16, 32)
    }


def test_gradients_reach_every_parameter():
    net = network(stride=16, depths=(0.1, 100.0, 10.0))
    image = jnp.asarray(fixtures.image((1, 32, 48, 3)))
    variables = jax.jit(lambda x: net.init(jax.random.key(1), x, True))(image)
    loss = lambda v, x: jnp.square(net.apply(v, x, True).disparities[0] - x[..., 0]).mean()  # noqa: E731
    gradients = jax.jit(jax.grad(loss))(variables, image)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert np.isfinite(gradient).all(), name
        if not name.endswith("key/bias"):  # softmax ignores it
            assert np.abs(gradient).max() > 0, name


def drop(weights):
    del weights["neck.convs.2.weight"]


def misshape(weights):
    weights["head.conv2.weight"] = weights["head.conv2.weight"][:16]


def add(weights):
    weights["head.conv4.weight"] = np.zeros(3, np.float32)


def thin(weights):
    weights["backbone.embeddings.cls_token"] = np.zeros((1, 1, 32), np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"do not fit 'small': neck\.convs\.2\.weight is missing \(137 of 138 arrays fit\)"),
        (misshape, r"head\.conv2\.weight has shape \(16, 8, 3, 3\), .* \(137 of 138 arrays fit\)"),
        (add, r"head\.conv4\.weight has no place in the network \(138 of 138 arrays fit\)"),
        (thin, r"of width 32 with 4 layers, but 'small' has width 48 and 4 layers"),
        (dict.clear, r"are not of 'small'"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_what_fits(change, message):
    weights = small_weights()
    change(weights)
    with pytest.raises(UserError, match=message):
        load_depth_anything(shapes(network()), weights, "small")


def test_image_sizes_are_multiples_of_a_patch():
    with pytest.raises(UserError, match="multiples of 14, got 64x96"):
        shapes(network(), (64, 96))
    with pytest.raises(UserError, match=r"multiples of 32 .*got 56x98"):
        shapes(network(stride=16))


def test_another_width_of_the_decoder_is_refused():
    model = get_config().model
    model.update(dict(encoder="depth_anything_v2_small", decoder_width=0.5))
    with pytest.raises(UserError, match="width that its authors gave it"):
        build_depth_net(model)

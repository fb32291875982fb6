"""The DINOv2 transformer answers as Hugging Face's does, as an expert and inside the encoder; misfits are refused."""

import pathlib
import re
import sys

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from robustdepth.errors import UserError
from robustdepth.interop.torch_file import read_weights
from robustdepth.interop.vit_weights import load_vit
from robustdepth.models.depth_net import DepthNet
from robustdepth.models.dpt import DPTDecoder
from robustdepth.models.vit import Dinov2, ViTEncoder, resize_positions

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))
import make_transformer_fixtures as fixtures  # noqa: E402

ENCODER = dict(**fixtures.DINOV2, channels=(6, 8, 10, 12))


def expert(**changes):
    return Dinov2(**(fixtures.DINOV2 | changes))


def student(**changes):
    return DepthNet(ViTEncoder(**(ENCODER | changes)), DPTDecoder(0.125, 2, 4, 0.1))


def zeros(network, *arguments, shape=fixtures.DINOV2_IMAGE):
    """Variables of the right shapes: every number in them must come from the file."""
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros(shape), *arguments))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def small_weights():
    return fixtures.dinov2_weights(**fixtures.DINOV2)


def to_original_names(weights):
    """Hugging Face's names -> those of facebookresearch/dinov2, whose queries, keys and values are one tensor."""
    renamed = {}
    for name, value in weights.items():
        for pattern, replacement in (
            (r"^embeddings\.position_embeddings", "pos_embed"),
            (r"^embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
            (r"^embeddings\.", ""),
            (r"^layernorm", "norm"),
            (r"^encoder\.layer\.", "blocks."),
            (r"attention\.output\.dense", "attn.proj"),
            (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
        ):
            name = re.sub(pattern, replacement, name)
        if match := re.fullmatch(r"(blocks\.\d+)\.attention\.attention\.query\.(\w+)", name):
            parts = [weights[re.sub("query", part, _hugging_face(match))] for part in ("query", "key", "value")]
            renamed[f"{match[1]}.attn.qkv.{match[2]}"] = np.concatenate(parts)
        elif "attention.attention" not in name:
            renamed[name] = value
    return renamed


def _hugging_face(match):
    return f"encoder.layer.{match[1].removeprefix('blocks.')}.attention.attention.query.{match[2]}"


def assert_close(ours, theirs, tolerance):
    """Largest difference relative to the largest value."""
    ours = fixtures.sample(ours)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def test_tokens_of_four_layers_equal_hugging_face_in_float64():
    with jax.enable_x64(True), np.load(FIXTURES / "dinov2.npz") as expected:
        variables, report = load_vit(zeros(expert()), small_weights(), "small")
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        image = jnp.asarray(fixtures.image(fixtures.DINOV2_IMAGE), jnp.float64)
        network = expert(dtype=jnp.float64)
        maps = jax.jit(lambda v, x: network.apply(v, x, (1, 2, 3, 4), method="layer_maps"))(variables, image)
        for number, x in enumerate(maps, start=1):
            assert x.shape == (2, 4, 6, 48)
            # Hugging Face interpolates the position embedding in float32 always.
            assert_close(x, expected[f"layer{number}"], 1e-6)
    assert report.ignored == ("embeddings.mask_token",)
    assert report.parameters == sum(value.size for value in small_weights().values()) - 48


def test_expert_returns_the_last_layer_at_stride_16_in_float32():
    variables, _ = load_vit(zeros(expert()), small_weights(), "small")
    features = jax.jit(expert().apply)(variables, jnp.asarray(fixtures.image(fixtures.DINOV2_IMAGE)))
    assert set(features) == {16}
    assert features[16].dtype == jnp.float32
    with np.load(FIXTURES / "dinov2.npz") as expected:
        assert_close(features[16], expected["layer4"], 1e-5)


def test_bfloat16_stays_close_to_float32():
    variables, _ = load_vit(zeros(expert()), small_weights(), "small")
    image = jnp.asarray(fixtures.image(fixtures.DINOV2_IMAGE))
    half = jax.jit(expert(dtype=jnp.bfloat16).apply)(variables, image)[16]
    assert half.dtype == jnp.bfloat16
    with np.load(FIXTURES / "dinov2.npz") as expected:
        difference = fixtures.sample(half.astype(jnp.float32)) - expected["layer4"]
        assert 0 < np.sqrt(np.mean(difference**2)) < 0.03 * np.std(expected["layer4"])


@pytest.mark.parametrize("size", [(4, 6), (5, 5), (12, 40), (3, 9)])
def test_positions_are_interpolated_as_opencv_does(size):
    grid = np.random.default_rng(3).normal(size=(5, 5, 4)).astype(np.float32)
    expected = cv2.resize(grid, size[::-1], interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(resize_positions(jnp.asarray(grid), size), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "count"),  # of facebook/dinov2-small and -base, less the mask token
    [({}, 22_056_576 - 384), (dict(width=768, heads=12), 86_580_480 - 768)],
)
def test_published_number_of_parameters(sizes, count):
    network = Dinov2(**sizes)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))
    assert set(variables) == {"params"}
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count


@pytest.mark.parametrize("size", [(64, 96), (48, 80)])
def test_encoder_has_features_at_four_strides(size):
    encoder = ViTEncoder(**ENCODER)
    shapes = jax.eval_shape(lambda: encoder.init_with_output(jax.random.key(0), jnp.zeros((2, *size, 3)), True)[0])
    assert {stride: x.shape for stride, x in shapes.items()} == {
        stride: (2, -(-size[0] // stride), -(-size[1] // stride), channels)
        for stride, channels in zip((4, 8, 16, 32), (6, 8, 10, 12), strict=True)
    }


def test_reassembly_equals_projection_transposed_convolution_and_strided_convolution():
    encoder = ViTEncoder(**ENCODER)
    image = jnp.asarray(fixtures.image((1, 32, 48, 3)))
    variables = jax.jit(lambda x: encoder.init(jax.random.key(1), x, False))(image)
    features = jax.jit(lambda v, x: encoder.apply(v, x, False))(variables, image)
    params = jax.tree.map(np.asarray, variables["params"])
    layers = {"params": params["vit"]}
    maps = jax.jit(lambda v, x: expert().apply(v, x, (1, 2, 3, 4), method="layer_maps"))(layers, image)
    for stride, x in zip((4, 8, 16, 32), maps, strict=True):
        x = np.asarray(x) @ params[f"project{stride}"]["kernel"] + params[f"project{stride}"]["bias"]
        if stride < 16:
            factor, channels = 16 // stride, x.shape[-1]
            kernel = params[f"enlarge{stride}"]["dense"]["kernel"].reshape(channels, factor, factor, channels)
            expected = np.zeros((1, 32 // stride, 48 // stride, channels), np.float32)
            for row in range(2):
                for col in range(3):
                    square = np.einsum("i,ihwo->hwo", x[0, row, col], kernel)
                    expected[0, row * factor : (row + 1) * factor, col * factor : (col + 1) * factor] = square
        elif stride == 16:
            expected = x
        else:
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            kernel = params["halve32"]["kernel"]
            expected = np.stack(
                [np.einsum("bhwi,hwio->bo", padded[:, :3, 2 * col : 2 * col + 3], kernel) for col in range(2)], axis=1
            )[:, None]
        np.testing.assert_allclose(features[stride], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(60, 96), (64, 100), (0, 32)])
def test_sizes_that_do_not_fit_are_refused(size):
    for network, arguments in ((expert(), ()), (student(), (False,))):
        with pytest.raises(UserError, match=rf"multiples of 32.*got {size[0]}x{size[1]}"):
            zeros(network, *arguments, shape=(1, *size, 3))


def test_student_takes_the_transformer_and_keeps_the_rest():
    variables = jax.tree.map(lambda leaf: leaf + 3, zeros(student(), True))
    filled, report = load_vit(variables, small_weights(), "small")
    reference, _ = load_vit(zeros(expert()), small_weights(), "small")
    encoder = filled["params"]["encoder"]
    jax.tree.map(np.testing.assert_array_equal, encoder.pop("vit"), reference["params"])
    rest = jax.tree.leaves((encoder, filled["params"]["decoder"]))
    assert rest
    assert all((leaf == 3).all() for leaf in rest)
    assert "small" in str(report)
    assert report.naming == "Hugging Face"


@pytest.mark.parametrize(
    ("original", "prefix", "others"),
    [
        (False, "dinov2.", ("classifier.weight", "classifier.bias")),
        (True, "", ()),
        (True, "pretrained.", ("depth_head.projects.0.weight", "depth_head.scratch.output_conv1.bias")),
        (False, "backbone.", ("neck.convs.0.weight", "head.conv1.weight")),
    ],
    ids=["classifier", "facebookresearch", "depth_anything", "depth_anything_hf"],
)
def test_other_names_fill_the_same_network(original, prefix, others):
    weights, expected = small_weights(), load_vit(zeros(expert()), small_weights(), "small")[0]
    if original:
        weights = to_original_names(weights)
        assert weights["blocks.0.attn.qkv.weight"].shape == (144, 48)
    weights = {f"{prefix}{name}": value for name, value in weights.items()}
    weights |= {name: np.zeros((10, 96), np.float32) for name in others}
    variables, report = load_vit(zeros(expert()), weights, "small")
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    assert report.parameters == sum(leaf.size for leaf in jax.tree.leaves(expected))


def test_a_safetensors_file_fills_the_network(tmp_path):
    save_file(dict(small_weights()), tmp_path / "model.safetensors")
    variables, _ = load_vit(zeros(expert()), read_weights(tmp_path / "model.safetensors"), "small")
    jax.tree.map(np.testing.assert_array_equal, variables, load_vit(zeros(expert()), small_weights(), "small")[0])


def drop(weights):
    del weights["encoder.layer.1.attention.attention.key.bias"]


def misshape(weights):
    weights["embeddings.position_embeddings"] = weights["embeddings.position_embeddings"][:, :17]


def add(weights):
    weights["embeddings.register_tokens"] = np.zeros((1, 4, 48), np.float32)


def spoil(weights):
    weights["layernorm.bias"] = np.full(48, np.nan, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            drop,
            r"do not fit 'small': encoder\.layer\.1\.attention\.attention\.key\.bias is missing \(77 of 78 ",
        ),
        (misshape, r"embeddings\.position_embeddings has shape \(1, 17, 48\), the network needs \(26, 48\)"),
        (add, r"embeddings\.register_tokens has no place"),
        (spoil, r"layernorm\.bias holds values that are not finite"),
        (dict.clear, r"are not of a DINOv2 transformer \('small'\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, message):
    weights = small_weights()
    change(weights)
    with pytest.raises(UserError, match=message):
        load_vit(zeros(expert()), weights, "small")


@pytest.mark.parametrize("change", [dict(width=96), dict(layers=6)])
def test_weights_of_another_size_are_refused_in_one_sentence(change):
    sizes = fixtures.DINOV2 | change
    message = (
        rf"of width {sizes['width']} with {sizes['layers']} layers, but 'small' has width 48 and 4 layers: choose .*\.$"
    )
    with pytest.raises(UserError, match=message):
        load_vit(zeros(expert()), fixtures.dinov2_weights(**sizes), "small")
    with pytest.raises(UserError, match=message):
        load_vit(zeros(student(), True), to_original_names(fixtures.dinov2_weights(**sizes)), "small")

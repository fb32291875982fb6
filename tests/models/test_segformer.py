"""SegFormer answers as Hugging Face's does, with and without its segmentation head; misfits are refused."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from robustdepth.errors import UserError
from robustdepth.interop.segformer_weights import load_segformer
from robustdepth.interop.torch_file import read_weights
from robustdepth.models.segformer import SegFormer

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))
import make_transformer_fixtures as fixtures  # noqa: E402

SIZES = fixtures.SEGFORMER | fixtures.SEGFORMER_HEAD


def small(**changes):
    return SegFormer(**(SIZES | changes))


def zeros(network, method="__call__", shape=fixtures.SEGFORMER_IMAGE):
    """Variables of the right shapes: every number in them must come from the file."""
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros(shape), method=method))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def small_weights():
    return fixtures.segformer_weights(**SIZES)


def assert_close(ours, theirs, tolerance):
    """Largest difference relative to the largest value."""
    ours = fixtures.sample(ours)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def features_and_logits(network, image):
    features = network(image)
    return features, network.head(features)


def test_features_and_logits_equal_hugging_face_in_float64():
    with jax.enable_x64(True), np.load(FIXTURES / "segformer.npz") as expected:
        variables, report = load_segformer(zeros(small(), "logits"), small_weights(), "small")
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        image = jnp.asarray(fixtures.image(fixtures.SEGFORMER_IMAGE), jnp.float64)
        network = small(dtype=jnp.float64)
        run = jax.jit(lambda v, x: network.apply(v, x, method=features_and_logits))
        features, logits = run(variables, image)
        assert {stride: x.shape for stride, x in features.items()} == {
            4: (2, 12, 20, 8),
            8: (2, 6, 10, 16),
            16: (2, 3, 5, 20),
            32: (2, 2, 3, 32),
        }
        for stride, x in features.items():
            assert_close(x, expected[f"stride{stride}"], 1e-12)
        assert logits.shape == (2, 12, 20, 19)
        assert_close(logits, expected["logits"], 1e-12)
    assert report.ignored == ("decode_head.batch_norm.num_batches_tracked",)
    assert report.loaded == len(small_weights()) - 1


def test_expert_in_float32_without_its_head():
    variables, report = load_segformer(zeros(small()), small_weights(), "small")
    assert set(variables) == {"params"}
    assert set(variables["params"]) == {f"stages_{i}" for i in range(4)}
    assert all(name.startswith("decode_head.") for name in report.ignored)
    features = jax.jit(small().apply)(variables, jnp.asarray(fixtures.image(fixtures.SEGFORMER_IMAGE)))
    with np.load(FIXTURES / "segformer.npz") as expected:
        for stride, x in features.items():
            assert x.dtype == jnp.float32
            assert_close(x, expected[f"stride{stride}"], 1e-5)


def test_bfloat16_stays_close_to_float32():
    variables, _ = load_segformer(zeros(small()), small_weights(), "small")
    image = jnp.asarray(fixtures.image(fixtures.SEGFORMER_IMAGE))
    half = jax.jit(small(dtype=jnp.bfloat16).apply)(variables, image)[16]
    assert half.dtype == jnp.bfloat16
    with np.load(FIXTURES / "segformer.npz") as expected:
        difference = fixtures.sample(half.astype(jnp.float32)) - expected["stride16"]
        assert 0 < np.sqrt(np.mean(difference**2)) < 0.03 * np.std(expected["stride16"])


def test_published_number_of_parameters():
    """3.7 million with the head for 19 classes, 3.3 million without (Table 1a of the paper; exact: Hugging Face)."""
    for method, count in (("__call__", 3_319_392), ("logits", 3_719_027)):
        shapes = jax.eval_shape(
            lambda method=method: SegFormer().init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), method=method)
        )
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == count


def test_names_of_a_bare_encoder_and_of_a_classifier_fill_the_same_network():
    expected, _ = load_segformer(zeros(small()), small_weights(), "small")
    encoder = {name: value for name, value in small_weights().items() if name.startswith("segformer.")}
    bare = {name.removeprefix("segformer."): value for name, value in encoder.items()}
    classifier = encoder | {"classifier.weight": np.zeros((9, 32)), "classifier.bias": np.zeros(9)}
    for weights in (bare, classifier):
        variables, _ = load_segformer(zeros(small()), weights, "small")
        jax.tree.map(np.testing.assert_array_equal, variables, expected)
    with pytest.raises(UserError, match=r"decode_head\.\S+ is missing"):
        load_segformer(zeros(small(), "logits"), bare, "small")


def test_a_safetensors_file_fills_the_network(tmp_path):
    save_file(dict(small_weights()), tmp_path / "model.safetensors")
    variables, _ = load_segformer(zeros(small(), "logits"), read_weights(tmp_path / "model.safetensors"), "small")
    expected, _ = load_segformer(zeros(small(), "logits"), small_weights(), "small")
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


def drop(weights):
    del weights["segformer.encoder.block.1.1.attention.self.sr.weight"]


def add(weights):
    weights["segformer.encoder.block.0.0.gamma"] = np.zeros(3, np.float32)


def misshape(weights):
    weights["decode_head.classifier.weight"] = np.zeros((150, 24, 1, 1), np.float32)


def spoil(weights):
    weights["decode_head.batch_norm.running_var"] = np.full(24, np.inf, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            drop,
            r"do not fit 'small': segformer\.encoder\.block\.1\.1\.attention\.self\.sr\.weight is missing \(",
        ),
        (add, r"segformer\.encoder\.block\.0\.0\.gamma has no place"),
        (misshape, r"decode_head\.classifier\.weight has shape \(150, 24, 1, 1\)"),
        (spoil, r"running_var holds values that are not finite"),
        (dict.clear, r"are not of a SegFormer \('small'\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, message):
    weights = small_weights()
    change(weights)
    with pytest.raises(UserError, match=message):
        load_segformer(zeros(small(), "logits"), weights, "small")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(depths=(3, 4, 6, 3)), r"with \[8, 16, 20, 32\] channels and \[3, 4, 6, 3\] blocks in its stages, but"),
        (dict(widths=(64, 128, 320, 512)), r"with \[64, 128, 320, 512\] channels .* has \[8, 16, 20, 32\] channels"),
    ],
)
def test_weights_of_another_size_are_refused_in_one_sentence(change, message):
    with pytest.raises(UserError, match=message):
        load_segformer(zeros(small()), fixtures.segformer_weights(**(SIZES | change)), "small")


@pytest.mark.parametrize(("size", "message"), [((60, 96), "multiples of 32"), ((16, 96), "at least 32x32.*got 16x96")])
def test_sizes_that_do_not_fit_are_refused(size, message):
    with pytest.raises(UserError, match=message):
        zeros(small(), shape=(1, *size, 3))

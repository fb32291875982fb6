"""The mask decoder beside the depth decoder, and the depth decoder that is shown its masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.models.depth_decoder import DepthDecoder
from robustdepth.models.mask_decoder import OWN, PROXY, MaskDecoder, hard_masks
from robustdepth.runtime.sharding import path_name

HEIGHT, WIDTH = 32, 64
FEATURES = {
    stride: jax.random.normal(jax.random.key(stride), (2, HEIGHT // stride, WIDTH // stride, 3))
    for stride in (2, 4, 8, 16, 32)
}
MASKS = jax.random.bernoulli(jax.random.key(1), 0.5, (2, HEIGHT, WIDTH, 2)).astype(jnp.float32)


def decoder_of(stride: int) -> DepthDecoder:
    return DepthDecoder(0.25, 1, stride, 0.1)


def shapes(tree) -> dict[str, tuple[int, ...]]:
    return {path_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_logits_have_two_channels_at_the_output_stride_in_float32(stride):
    features = {key: value.astype(jnp.bfloat16) for key, value in FEATURES.items()}
    network = MaskDecoder(0.25, stride, jnp.bfloat16)
    logits, variables = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), features))
    assert (logits.shape, logits.dtype) == ((2, HEIGHT // stride, WIDTH // stride, 2), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_image_transformers_which_have_no_features_at_stride_2_get_masks_as_well():
    features = {stride: FEATURES[stride] for stride in (4, 8, 16, 32)}
    network = MaskDecoder(0.25, 1)
    logits = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), features)[0])
    assert logits.shape == (2, HEIGHT, WIDTH, 2)


def test_the_decoder_is_that_of_depth_with_another_head():
    trees = []
    for network in (MaskDecoder(0.25, 1), decoder_of(1)):
        trees.append(shapes(jax.eval_shape(lambda n=network: n.init(jax.random.key(0), FEATURES))["params"]))
    mask, depth = ({name: shape for name, shape in tree.items() if name[0] in "um"} for tree in trees)
    assert mask.pop("mask/conv/kernel") == (3, 3, 4, 2)
    assert mask.pop("mask/conv/bias") == (2,)
    assert mask == depth
    assert len(mask) == 20  # kernels and biases of five levels, two layers each


def test_untrained_masks_prefer_neither_source():
    network = MaskDecoder(0.25, 2)
    logits = jax.jit(lambda: network.init_with_output(jax.random.key(0), FEATURES)[0])()
    assert 0 < np.abs(logits).max() < 0.2


def test_hard_masks_take_one_source_or_each_on_its_own():
    logits = jnp.array([[0.5, 0.2], [-3.0, -2.0], [1.0, 2.0], [-0.1, 0.1]])
    one = np.asarray(hard_masks(logits, independent=False))
    assert (PROXY, OWN) == (0, 1)
    np.testing.assert_array_equal(one, [[1, 0], [0, 1], [0, 1], [0, 1]])
    np.testing.assert_array_equal(hard_masks(logits, independent=True), [[1, 1], [0, 0], [1, 1], [0, 1]])
    for independent in (False, True):
        slope = jax.grad(lambda x, i=independent: jnp.sum(hard_masks(x, i)[:, 0]))(logits)
        np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize(("stride", "widened"), [(1, "merge1"), (2, "merge1"), (4, "merge2")])
def test_masks_widen_one_layer_at_half_resolution(stride, widened):
    network = decoder_of(stride)
    plain = shapes(jax.eval_shape(lambda: network.init(jax.random.key(0), FEATURES)))
    shown = shapes(jax.eval_shape(lambda: network.init(jax.random.key(0), FEATURES, MASKS)))
    name = f"params/{widened}/conv/kernel"
    assert shown.pop(name)[2] == plain.pop(name)[2] + 2
    assert shown == plain


def test_the_depth_decoder_sees_masks_and_never_teaches_them():
    network = decoder_of(2)
    variables = jax.jit(lambda: network.init(jax.random.key(0), FEATURES, MASKS))()

    @jax.jit
    def total(masks):
        return jnp.sum(network.apply(variables, FEATURES, masks)[0][0])

    assert abs(float(total(MASKS) - total(1.0 - MASKS))) > 1e-4
    np.testing.assert_array_equal(jax.jit(jax.grad(total))(MASKS), 0)


def test_without_masks_nothing_changes():
    network = decoder_of(2)
    variables = jax.jit(lambda: network.init(jax.random.key(0), FEATURES, MASKS))()
    plain = jax.jit(lambda: network.init(jax.random.key(0), FEATURES))()
    kernel = variables["params"]["merge1"]["conv"]["kernel"]
    emptied = kernel.at[:, :, -2:].set(0.0)  # features come first, masks last
    plain["params"]["merge1"]["conv"]["kernel"] = kernel[:, :, :-2]
    for name in ("up1", "up2", "up3", "up4", "merge2", "merge3", "merge4", "disparity1"):
        plain["params"][name] = variables["params"][name]
    variables["params"]["merge1"]["conv"]["kernel"] = emptied
    run = jax.jit(lambda v, *masks: network.apply(v, FEATURES, *masks)[0][0])
    np.testing.assert_allclose(run(plain), run(variables, MASKS), rtol=1e-5)

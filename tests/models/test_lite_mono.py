"""Lite-Mono answers as its authors' network does, on the same random weights; the published sizes are known."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.models.build import build_depth_net
from robustdepth.runtime import config as configs
from robustdepth.runtime.inference import load_model
from robustdepth.runtime.init_from import init_from
from tests import torch_files

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))
import make_lite_mono_fixtures as fixtures  # noqa: E402


def write(folder, size=(64, 96), encoder=None):
    facts = {"height": size[0], "width": size[1], "use_stereo": False}
    counters = {"total_ops": np.zeros(1), "stages.0.0.total_params": np.ones(1)}  # as in the authors' files
    torch_files.save(folder / "encoder.pth", (encoder or fixtures.encoder_weights()) | facts | counters)
    torch_files.save(folder / "depth.pth", fixtures.decoder_weights())
    return folder


@pytest.mark.parametrize("size", fixtures.SIZES)
def test_disparities_equal_the_authors(size, tmp_path, capsys):
    model = load_model(write(tmp_path, size))
    said = capsys.readouterr().out
    assert "Lite-Mono (lite_mono_tiny): loaded 203 tensors" in said  # 12 layer norms have 24 more, never used
    assert "MIT" in said
    assert (model.image_size, model.scale) == (size, "relative")
    inverse = np.asarray(model.inverse_depth(fixtures.image((2, *size, 3))))
    with np.load(FIXTURES / "lite_mono.npz") as expected:
        theirs = 0.01 + (10 - 0.01) * expected[f"{size[1]}_0"]
    assert np.std(theirs) > 0.1
    np.testing.assert_allclose(fixtures.sample(inverse), theirs, rtol=2e-5)


def test_coarser_disparities_and_those_beyond_the_authors():
    config = configs.defaults().model
    config.encoder, config.scales = "lite_mono_tiny", 4
    network = build_depth_net(config)
    image = jnp.zeros((1, 64, 96, 3))
    shapes = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), image, True)[0])
    assert [x.shape for x in shapes.disparities] == [(1, 64 >> k, 96 >> k) for k in range(4)]
    assert {stride: x.shape[1:3] for stride, x in shapes.features.items()} == {
        stride: (64 // stride, 96 // stride) for stride in (4, 8, 16, 32)
    }


@pytest.mark.parametrize(
    ("name", "count"),  # of the authors' encoder and decoder, less the layer norms that their blocks never call
    [
        ("lite_mono_tiny", 1_955_192 + 192_467 - 2 * (3 * 32 + 3 * 64 + 6 * 128)),
        ("lite_mono_small", 2_250_232 + 226_627 - 2 * (3 * 48 + 3 * 80 + 6 * 128)),
        ("lite_mono", 2_848_120 + 226_627 - 2 * (3 * 48 + 3 * 80 + 9 * 128)),
        ("lite_mono_8m", 8_139_960 + 635_891 - 2 * (3 * 64 + 3 * 128 + 9 * 224)),
    ],
)
def test_published_number_of_parameters(name, count):
    config = configs.defaults().model
    config.encoder, config.scales = name, 3
    network = build_depth_net(config)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), False))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == count


def test_a_training_starts_from_its_files(tmp_path):
    config = configs.defaults().model
    config.encoder, config.normalisation = "lite_mono_tiny", "monodepth2"
    network = build_depth_net(config)
    blank = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 64, 96, 3)), False))
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), blank)
    filled, lines = init_from(str(write(tmp_path)), {"depth": blank})
    expected = fixtures.encoder_weights()["stages.2.6.pwconv2.weight"].T
    found = filled["depth"]["params"]["encoder"]["stage2_global"]["perceptron"]["contract"]["kernel"]
    np.testing.assert_array_equal(found, expected)
    assert "depth network: 100.0% of its numbers" in lines[0]


@pytest.mark.parametrize("change", ["missing", "size"])
def test_files_that_do_not_fit_are_refused(change, tmp_path):
    weights = fixtures.encoder_weights()
    if change == "missing":
        del weights["stages.1.3.xca.qkv.bias"]
        sentence = r"stages\.1\.3\.xca\.qkv\.bias is missing"
    else:
        weights = {name: value for name, value in weights.items() if not name.startswith("stages.2.6")}
        sentence = "of none of the sizes tiny, small, base and 8M"
    with pytest.raises(UserError, match=sentence):
        load_model(write(tmp_path, encoder=weights))

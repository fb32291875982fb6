"""MonoViT answers as its authors' network does, on the same random weights; the published size is known."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from configs import kitti_structure_selective_resnet50
from robustdepth.errors import UserError
from robustdepth.models.build import build_depth_net, build_pose_net
from robustdepth.models.encoder import TRANSFORMERS
from robustdepth.models.mpvit import MPViT
from robustdepth.runtime import config as configs
from robustdepth.runtime.inference import load_model
from robustdepth.runtime.init_from import init_from
from robustdepth.training.setup import build
from tests import torch_files
from tests.conftest import takes_minutes
from tests.tiny import random_batch, shrink

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))
import make_monovit_fixtures as fixtures  # noqa: E402

SIZE = fixtures.IMAGE[1:3]


def write(folder, change=lambda encoder, depth: None):
    encoder, depth = fixtures.encoder_weights(), fixtures.decoder_weights()
    change(encoder, depth)
    facts = {"height": SIZE[0], "width": SIZE[1], "use_stereo": False}
    torch_files.save(folder / "encoder.pth", encoder | facts)
    torch_files.save(folder / "depth.pth", depth)
    return folder


def model_config(**changes):
    config = configs.defaults().model
    config.update({"encoder": "monovit", "normalisation": "monodepth2"} | changes)
    return config


@pytest.fixture
def small(monkeypatch):
    def encoder(**options):
        return MPViT(fixtures.WIDTHS, fixtures.LAYERS, fixtures.PATHS, **options)

    monkeypatch.setitem(TRANSFORMERS, "monovit", encoder)


def test_disparities_equal_the_authors(small, tmp_path, capsys):
    model = load_model(write(tmp_path))
    said = capsys.readouterr().out
    assert "MonoViT: loaded " in said
    assert "MIT" in said
    assert "GPL-3.0" in said
    assert (model.image_size, model.scale) == (SIZE, "relative")
    inverse = np.asarray(model.inverse_depth(fixtures.image(fixtures.IMAGE)))
    with np.load(FIXTURES / "monovit.npz") as expected:
        theirs = 0.01 + (10 - 0.01) * expected["0"]
    assert np.std(theirs) > 0.1
    np.testing.assert_allclose(fixtures.sample(inverse), theirs, rtol=2e-5)


def test_all_disparities_equal_the_authors(small, tmp_path):
    model = load_model(write(tmp_path))
    output = jax.jit(lambda v, x: build_depth_net(model_config(scales=5)).apply(v, x, False))(
        model.variables["depth"], fixtures.image(fixtures.IMAGE)
    )
    with np.load(FIXTURES / "monovit.npz") as expected:
        for scale in range(4):
            np.testing.assert_allclose(
                fixtures.sample(output.disparities[scale]), expected[f"{scale}"], rtol=1e-4, atol=1e-6
            )
    assert [x.shape for x in output.disparities] == [(2, 64 >> k, 96 >> k) for k in range(5)]
    assert {stride: x.shape[1:3] for stride, x in output.features.items()} == {
        stride: (64 // stride, 96 // stride) for stride in (2, 4, 8, 16, 32)
    }


def test_images_that_32_does_not_divide(small):
    network = build_depth_net(model_config())
    shapes = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), jnp.zeros((1, 48, 80, 3)), True)[0])
    assert [x.shape for x in shapes.disparities] == [(1, 48 >> k, 80 >> k) for k in range(4)]


def test_published_number_of_parameters():
    network = build_depth_net(model_config())
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), False))
    idle = 32 * 64 * 9 + 32 + 3 * (16 * 32 * 9 + 16)  # four convolutions of the decoder that are never called
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 22_603_400 + 5_266_708 - idle


def test_the_pose_network_alone_is_normalised(small):
    config = model_config(pose_encoder="resnet_tiny")
    assert build_pose_net(config).encoder.normalisation == "monodepth2"
    assert not hasattr(build_depth_net(config).encoder, "normalisation")


def test_a_training_starts_from_its_files(small, tmp_path):
    network = build_depth_net(model_config())
    blank = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, *SIZE, 3)), False))
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), blank)
    filled, lines = init_from(str(write(tmp_path)), {"depth": blank})
    expected = fixtures.encoder_weights()["mhca_stages.1.mhca_blks.2.MHCA_layers.1.mlp.fc2.weight"].T
    found = filled["depth"]["params"]["encoder"]["stage1_path2"]["contract1"]["kernel"]
    np.testing.assert_array_equal(found, expected)
    assert "depth network: 100.0% of its numbers" in lines[0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda e, d: e.pop("mhca_stages.1.mhca_blks.0.cpe.proj.bias"), r"mhca_blks\.0\.cpe\.proj\.bias is missing"),
        (lambda e, d: e.update({"head.weight": np.zeros(2)}), r"head\.weight has no place"),
        (lambda e, d: d.pop("convs.X_31_attention.conv_se.weight"), r"depth\.pth is neither of .* convs\.X_31"),
        (lambda e, d: d.update({"convs.X_02_downsample.conv.weight": np.zeros((4, 4, 1, 1))}), r"has shape \(4, 4, 1"),
    ],
)
def test_files_that_do_not_fit_are_refused(small, change, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        load_model(write(tmp_path, change))


@takes_minutes
def test_a_step_of_both_methods_can_be_traced(small):
    config = kitti_structure_selective_resnet50.get_config()
    config.data.root = config.selective.folder = "not read"
    config = shrink(config)
    config.model.update({"encoder": "monovit", "decoder_width": 1.0, "mask_decoder": "loss"})
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    with jax.numpy_dtype_promotion("standard"):  # optax multiplies floats with its integer count
        experiment = build(config, mesh)
        _, log = experiment.step.lower(experiment.template, random_batch(config)).out_info
    assert {"photometric", "texture_consistency", "semantics_edge"} <= set(log.terms)

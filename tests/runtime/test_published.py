"""Depth Anything from its files, at a made-up size: it predicts, is evaluated, exported and started from."""

import json
import pathlib
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import robustdepth
from configs.base import get_config
from robustdepth.errors import UserError
from robustdepth.evaluation.evaluator import evaluate
from robustdepth.evaluation.predictors import NetworkPredictor
from robustdepth.evaluation.protocols import PROTOCOLS
from robustdepth.interop.depth_anything_weights import load_depth_anything
from robustdepth.models import depth_anything
from robustdepth.models.build import build_depth_net
from robustdepth.models.encoder import OWN_DECODERS, TRANSFORMERS
from robustdepth.models.vit import ViTEncoder
from robustdepth.prediction.prediction import largest_depth
from robustdepth.runtime import published
from robustdepth.runtime.bundle import read_model, task_of, write_bundle
from robustdepth.runtime.inference import load_model
from robustdepth.runtime.init_from import init_from
from tests import torch_files
from tests.evaluation_fakes import FakeSamples
from tests.models.test_depth_anything import answer, authors_weights, network, shapes, small_weights

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fixtures"))
import make_transformer_fixtures as fixtures
import random_weights

PICTURE = (255 * fixtures.image((1, 60, 100, 3))[0]).astype(np.uint8)


@pytest.fixture
def tiny(monkeypatch):
    channels, width = fixtures.DEPTH_ANYTHING.values()
    for suffix, offset in (("", 0.1), ("_hf", 0.0)):
        name = f"depth_anything_v2_tiny{suffix}"
        encoder = partial(ViTEncoder, **fixtures.DINOV2, channels=channels, bias=True, offset=offset)
        monkeypatch.setitem(TRANSFORMERS, name, encoder)
        monkeypatch.setitem(OWN_DECODERS, name, partial(depth_anything._decoder, width))
    monkeypatch.setitem(published.SIZES, fixtures.DINOV2["width"], ("tiny", "Tiny", "Apache-2.0"))
    monkeypatch.setattr(published, "NATIVE", 70)


@pytest.fixture
def hugging_face(tiny, tmp_path):
    save_file(dict(small_weights()), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def authors(tiny, tmp_path):
    return torch_files.save(tmp_path / "depth_anything_v2_tiny.pth", authors_weights())


@pytest.mark.parametrize(("file", "offset"), [("hugging_face", 0.0), ("authors", 0.1)])
def test_depth_anything_predicts_what_its_network_answers(file, offset, request, capsys):
    predictor = robustdepth.load(request.getfixturevalue(file))
    assert "Depth Anything V2 Tiny: loaded" in (said := capsys.readouterr().out)
    assert "Licence of these weights: Apache-2.0." in said
    assert "affine; licence: Apache-2.0" in repr(predictor)
    assert predictor.model.input_size(60, 100) == (70, 112)  # 70 at least, whole patches, the shape of the picture
    prepared = predictor.model.prepare(PICTURE)
    assert prepared.shape == (70, 112, 3)

    net = network(offset=offset)
    variables, _ = load_depth_anything(shapes(net), small_weights(), "small")
    expected = np.asarray(answer(net, variables, jnp.asarray(prepared)[None]))[0]
    (found,) = predictor.inverse_depth([PICTURE])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.std(found) > 0.1
    prediction = predictor(PICTURE)
    assert (prediction.depth.shape, prediction.scale) == ((60, 100), "affine")


def test_a_sky_at_a_million_leaves_a_picture_its_bits():
    depth = np.full((4, 6), 2.0, np.float32)
    depth[0] = 1e6
    assert largest_depth("affine", depth) == 200
    assert largest_depth("relative", depth) == 1e6


def test_pictures_of_several_shapes_are_predicted_together(hugging_face):
    predictor = robustdepth.load(hugging_face)
    wide, high = predictor.batch([PICTURE, PICTURE.swapaxes(0, 1)])
    assert (wide.depth.shape, high.depth.shape) == ((60, 100), (100, 60))
    np.testing.assert_array_equal(wide.depth, predictor(PICTURE).depth)


@pytest.mark.parametrize(
    ("size", "expected"),  # of the authors' code
    [((375, 1242), (518, 1722)), ((1080, 1920), (518, 924)), ((1242, 375), (1722, 518)), ((518, 518), (518, 518))],
)
def test_images_keep_their_shape_as_in_the_authors_code(size, expected, hugging_face, monkeypatch):
    monkeypatch.setattr(published, "NATIVE", 518)
    assert load_model(hugging_face).input_size(*size) == expected


def test_it_is_evaluated_with_scale_and_shift(hugging_face):
    predictor = NetworkPredictor(load_model(hugging_face), batch_size=16)
    assert predictor.batch_size == 1
    samples = FakeSamples(2, (60, 100))
    result = evaluate(PROTOCOLS["kitti_eigen"], samples, predictor, np.full((2, 2), 10.0))
    assert result.alignment == "least_squares"
    median = evaluate(PROTOCOLS["kitti_eigen"], samples, predictor, np.full((2, 2), 10.0), alignment="median")
    assert median.metrics["rmse"] > result.metrics["rmse"]


def test_it_is_exported_and_read_back(hugging_face, tmp_path):
    assert task_of(hugging_face) == "depth"
    model = load_model(hugging_face)
    write_bundle(read_model(hugging_face), tmp_path / "exported.safetensors")
    again = load_model(tmp_path / "exported.safetensors")
    assert (again.scale, again.input_size(60, 100)) == ("affine", (70, 112))
    assert "licence: Apache-2.0" in repr(again)
    image = model.prepare(PICTURE)[None]
    np.testing.assert_allclose(again.inverse_depth(image), model.inverse_depth(image), rtol=0.02)


def test_a_training_starts_from_it(hugging_face):
    model = get_config().model
    model.encoder = "depth_anything_v2_tiny"
    net = build_depth_net(model)
    drawn = jax.jit(lambda: net.init(jax.random.key(0), jnp.zeros((1, 64, 96, 3)), True))()
    filled, lines = init_from(str(hugging_face), {"depth": drawn})
    assert lines == [f"depth network: 100.0% of its numbers from {hugging_face}"]
    jax.tree.map(np.testing.assert_array_equal, filled["depth"]["params"], read_model(hugging_face).params["depth"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"depth_estimation_type": "metric"}, "is a metric Depth Anything"),
        ({"backbone_config": {"out_indices": [9, 10, 11, 12]}}, r"layers \(9, 10, 11, 12\).*version 2"),
        ([], "is damaged"),
    ],
)
def test_relatives_are_refused_by_their_config(config, message, hugging_face):
    (hugging_face.parent / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        load_model(hugging_face)


def test_other_files_are_refused(authors, tmp_path):
    metric = authors.rename(tmp_path / "depth_anything_v2_metric_vkitti_vits.pth")
    with pytest.raises(UserError, match="is a metric Depth Anything"):
        load_model(metric)
    half = {name: value for name, value in authors_weights().items() if "output_conv" not in name}
    with pytest.raises(UserError, match=r"output_conv1.* is missing.* and 3 more \(132 of 138 arrays fit\)"):
        load_model(torch_files.save(tmp_path / "half.pth", half))
    with pytest.raises(UserError, match=r"no depth network that is known here.*conv1\.weight"):
        load_model(torch_files.save(tmp_path / "resnet18.pth", random_weights.state_dict("resnet18")))


def test_a_depth_anything_of_another_width_is_refused(tmp_path):
    file = torch_files.save(tmp_path / "depth_anything.pth", authors_weights())
    with pytest.raises(UserError, match=r"of width 48: Small \(384\) and Base \(768\)"):
        load_model(file)

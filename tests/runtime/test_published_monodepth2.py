"""monodepth2's files are read: its decoder is rebuilt here in NumPy from the paper's table (arXiv 1806.01260)."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.interop.convert import load_encoder
from robustdepth.interop.torch_file import read_weights
from robustdepth.models.encoder import ENCODERS
from robustdepth.runtime.bundle import read_model
from robustdepth.runtime.inference import load_model
from robustdepth.runtime.init_from import init_from
from tests import torch_files
from tests.models.test_dpt import numpy_conv

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fixtures"))
import make_transformer_fixtures as fixtures
import random_weights

SIZE = (64, 96)
WIDTHS = (256, 128, 64, 32, 16)  # of upconv5 to upconv1
SKIPS = (256, 128, 64, 64, 0)


def named(prefix, weights):
    return {f"{prefix}{name}": value for name, value in weights.items()}


def decoder_weights():
    weights, inputs = fixtures.Weights(), 512
    for i, (width, skip) in enumerate(zip(WIDTHS, SKIPS, strict=True)):
        weights.matrix(f"decoder.{2 * i}.conv.conv", width, inputs, 3, 3)
        weights.matrix(f"decoder.{2 * i + 1}.conv.conv", width, width + skip, 3, 3)
        inputs = width
    for scale, width in enumerate(reversed(WIDTHS[1:])):
        weights.matrix(f"decoder.{10 + scale}.conv", 1, width, 3, 3)
    return weights


def pose_weights():
    encoder, head = random_weights.state_dict("resnet18"), fixtures.Weights()
    encoder["conv1.weight"] = np.concatenate([encoder["conv1.weight"], 0.5 * encoder["conv1.weight"][:, ::-1]], axis=1)
    for i, (outputs, inputs, kernel) in enumerate(((256, 512, 1), (256, 256, 3), (256, 256, 3), (12, 256, 1))):
        head.matrix(f"net.{i}", outputs, inputs, kernel, kernel)
    return encoder, head


def encoder_file(stereo=False, size=SIZE):
    facts = {"height": size[0], "width": size[1], "use_stereo": stereo}
    return named("encoder.", random_weights.state_dict("resnet18")) | facts


def write_monodepth2(folder, stereo=False, pose=False):
    torch_files.save(folder / "encoder.pth", encoder_file(stereo))
    torch_files.save(folder / "depth.pth", decoder_weights())
    if pose:
        encoder, head = pose_weights()
        torch_files.save(folder / "pose_encoder.pth", named("encoder.", encoder))
        torch_files.save(folder / "pose.pth", head)
    return folder


def layer(weights, name):
    kernel, bias = (np.asarray(weights[f"{name}.{part}"]) for part in ("weight", "bias"))
    return {"conv": {"kernel": kernel.transpose(2, 3, 1, 0), "bias": bias}}


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def features_of(weights, images):
    """Those of a ResNet-18 that brings colours to ImageNet's; they are changed before so that 0.45 and 0.225 count."""
    views = images.shape[-1] // 3
    mean, deviation = (np.tile(np.asarray(color, np.float32), views) for color in (fixtures.MEAN, fixtures.STD))
    images = jnp.asarray((images - 0.45) / 0.225 * deviation + mean)
    net = ENCODERS["resnet18"](dtype=jnp.float32)
    drawn = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, *SIZE, 3)), False))
    inside = {collection: {"encoder": tree} for collection, tree in drawn.items()}
    filled, _ = load_encoder(inside, weights | {"conv1.weight": weights["conv1.weight"][:, :3]}, "resnet18")
    variables = {collection: tree["encoder"] for collection, tree in filled.items()}
    variables["params"]["conv1"]["kernel"] = weights["conv1.weight"].transpose(2, 3, 1, 0)
    return jax.tree.map(np.asarray, jax.jit(lambda v, x: net.apply(v, x, False))(variables, images))


def numpy_disparity(images):
    features, weights = features_of(random_weights.state_dict("resnet18"), images), decoder_weights()
    x = features[32]
    for i, skip in enumerate((16, 8, 4, 2, None)):
        x = elu(numpy_conv(x, layer(weights, f"decoder.{2 * i}.conv.conv"))).repeat(2, axis=1).repeat(2, axis=2)
        x = x if skip is None else np.concatenate([x, features[skip]], axis=-1)
        x = elu(numpy_conv(x, layer(weights, f"decoder.{2 * i + 1}.conv.conv")))
    return 1 / (1 + np.exp(-numpy_conv(x, layer(weights, "decoder.10.conv"))[..., 0]))


@pytest.fixture(scope="module")
def images():
    return fixtures.image((2, *SIZE, 3))


def test_monodepth2_answers_as_the_papers_layers_do(tmp_path, images, capsys):
    model = load_model(write_monodepth2(tmp_path))
    said = capsys.readouterr().out
    assert "monodepth2 (resnet18, monocular): loaded 128 tensors" in said
    assert "non-commercial" in said
    assert (model.image_size, model.scale) == (SIZE, "relative")
    expected = 0.01 + (10 - 0.01) * numpy_disparity(images)
    np.testing.assert_allclose(model.inverse_depth(images), expected, rtol=1e-4)
    assert np.std(expected) > 0.1
    with pytest.raises(UserError, match="has no pose network"):
        model.relative_pose(images[:1], images[1:])


def test_its_stereo_networks_answer_in_metres(tmp_path, images):
    for name in ("mono", "stereo"):
        (tmp_path / name).mkdir()
    mono = load_model(write_monodepth2(tmp_path / "mono"))
    stereo = load_model(write_monodepth2(tmp_path / "stereo", stereo=True))
    assert stereo.scale == "metric"
    np.testing.assert_allclose(mono.inverse_depth(images) / stereo.inverse_depth(images), 5.4, rtol=1e-4)


def test_its_pose_network_answers_as_the_papers_layers_do(tmp_path, images):
    model = load_model(write_monodepth2(tmp_path, pose=True))
    encoder, head = pose_weights()
    pairs = np.concatenate([images[:1], images[1:]], axis=-1)
    x = features_of(encoder, pairs)[32]
    for i, kernel in enumerate((1, 3, 3, 1)):
        pad = kernel // 2
        padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
        x = np.einsum("bhwcij,ocij->bhwo", windows, head[f"net.{i}.weight"]) + head[f"net.{i}.bias"]
        x = np.maximum(x, 0) if i < 3 else x
    first = 0.01 * x.mean(axis=(1, 2))[:, :6]
    pose = np.asarray(model.relative_pose(images[:1], images[1:]))
    np.testing.assert_allclose(pose[0, :3, 3], first[0, 3:], rtol=1e-4, atol=1e-6)
    axis = np.asarray([pose[0, 2, 1] - pose[0, 1, 2], pose[0, 0, 2] - pose[0, 2, 0], pose[0, 1, 0] - pose[0, 0, 1]])
    angle = np.linalg.norm(first[0, :3])
    np.testing.assert_allclose(axis / 2, first[0, :3] * np.sin(angle) / angle, rtol=1e-3, atol=1e-6)


def test_a_training_starts_from_monodepth2(tmp_path):
    write_monodepth2(tmp_path, pose=True)
    weights = read_model(tmp_path)
    own = {name: {"params": weights.params[name], "batch_stats": weights.stats[name]} for name in ("depth", "pose")}
    blank = jax.tree.map(np.zeros_like, own)
    filled, lines = init_from(str(tmp_path), blank)
    jax.tree.map(np.testing.assert_array_equal, filled, own)
    assert all("100.0% of its numbers" in line for line in lines)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("depth", lambda w: w.pop("decoder.3.conv.conv.bias"), r"decoder\.3\.conv\.conv\.bias is missing \(127 of 128"),
        (
            "depth",
            lambda w: w.pop("decoder.0.conv.conv.weight"),
            r"depth\.pth is neither of .*Lite-Mono, it lacks decoder",
        ),
        ("encoder", lambda w: w.pop("encoder.conv1.weight"), r"encoder\.pth is neither of monodepth2"),
        ("encoder", lambda w: w.update(height=0), "names the image size 0x96"),
        ("encoder", lambda w: w.update(width=10**9), "names the image size 64x1000000000"),
        ("encoder", lambda w: w.update(extra=np.zeros(2)), "extra has no place in the network"),
    ],
)
def test_files_that_are_not_monodepth2s_are_refused(part, change, message, tmp_path):
    files = {"encoder": encoder_file(), "depth": decoder_weights()}
    change(files[part])
    for name, weights in files.items():
        torch_files.save(tmp_path / f"{name}.pth", weights)
    with pytest.raises(UserError, match=message):
        load_model(tmp_path)


def test_numbers_are_read_where_they_are_asked_for(tmp_path):
    file = torch_files.save(tmp_path / "a.pth", {"w": np.ones(2, np.float32), "height": 192, "use_stereo": True})
    assert {name: value.tolist() for name, value in read_weights(file, numbers=True).items()} == {
        "w": [1, 1],
        "height": 192,
        "use_stereo": True,
    }
    with pytest.raises(UserError, match=r"more than tensors \('height' is a int\)"):
        read_weights(file)

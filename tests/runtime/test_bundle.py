"""Trained networks as one file: the same predictions, small, and one sentence for what is no such file."""

import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict

from robustdepth.errors import UserError
from robustdepth.interop.convert import find_packaged_lite0, load_pretrained
from robustdepth.interop.torch_file import read_weights
from robustdepth.models.build import build_segmentation_net
from robustdepth.runtime import sharding
from robustdepth.runtime.bundle import read_bundle, read_model, task_of, write_bundle
from robustdepth.runtime.checkpoint import load_weights
from robustdepth.runtime.inference import load_model
from robustdepth.teachers.experts import load_expert
from tests.checkpoints import save_untrained
from tests.conftest import REPOSITORY
from tests.tiny import random_batch, tiny_config


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((2, 32, 64, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def temporal(tmp_path_factory):
    """The workdir of a network with a pose network, and the file exported from it."""
    folder = tmp_path_factory.mktemp("temporal")
    save_untrained(tiny_config(("previous", "next")), folder / "run")
    write_bundle(load_weights(folder / "run"), folder / "models" / "model.safetensors")
    return folder / "run", folder / "models" / "model.safetensors"


def lite0_config():
    config = tiny_config()
    config.model.encoder = "efficientnet_lite0"
    config.model.pretrained = "package"
    config.model.freeze_encoder = True
    return config


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """Weights whose frozen encoder is the package's, and the file exported from them."""
    folder = tmp_path_factory.mktemp("frozen")
    save_untrained(lite0_config(), folder / "run")
    random = load_weights(folder / "run")
    variables = {"params": random.params["depth"], "batch_stats": random.stats["depth"]}
    filled, _, _ = load_pretrained(random.config.model, variables, None)
    weights = dataclasses.replace(random, params={"depth": filled["params"]}, stats={"depth": filled["batch_stats"]})
    write_bundle(weights, folder / "model.safetensors")
    return random, weights, folder / "model.safetensors"


def test_predictions_are_those_of_the_checkpoint_to_half_precision(temporal, images):
    workdir, file = temporal
    before, after = load_model(workdir), load_model(file)
    depth = before.inverse_depth(images)
    np.testing.assert_allclose(after.inverse_depth(images), depth, rtol=1e-3)
    assert float(np.std(depth)) > 0
    motion = np.asarray(before.relative_pose(images, images[::-1]))
    np.testing.assert_allclose(
        after.relative_pose(images, images[::-1]), motion, atol=1e-3 * np.abs(motion[:, :3, 3]).max()
    )
    assert (after.step, after.scale, after.path) == (before.step, "relative", str(file))
    assert after.config.to_dict() == before.config.to_dict()
    assert after.config.data.views == ("previous", "next")


def test_a_file_has_kernels_in_half_precision_and_nothing_of_the_optimizer(temporal):
    workdir, file = temporal
    weights = load_weights(workdir)
    trees = {name: {"params": weights.params[name], "batch_stats": weights.stats[name]} for name in ("depth", "pose")}
    wanted = {
        key: (leaf.shape, "float16" if leaf.ndim > 1 else "float32")
        for key, leaf in flatten_dict(trees, sep="/").items()
    }
    stored = safetensors.numpy.load_file(file)
    assert {key: (value.shape, value.dtype.name) for key, value in stored.items()} == wanted


def test_a_network_of_stereo_alone_has_no_pose_network_in_the_file_either(tmp_path, images):
    save_untrained(tiny_config(), tmp_path / "run")
    write_bundle(read_model(tmp_path / "run" / "checkpoints" / "5"), tmp_path / "m.safetensors")
    model = load_model(tmp_path / "m.safetensors")
    assert model.scale == "metric"
    with pytest.raises(UserError, match="has no pose network"):
        model.relative_pose(images, images)


def segmentation_weights(workdir):
    config = tiny_config()
    config.task = "segmentation"
    config.model.output_stride = 4
    save_untrained(config, workdir)
    return load_weights(workdir)


def test_a_segmentation_network_is_read_again_and_is_no_depth_network(tmp_path, images):
    weights = segmentation_weights(tmp_path / "run")
    write_bundle(weights, tmp_path / "m.safetensors")
    assert task_of(tmp_path / "run" / "checkpoints" / "5") == task_of(tmp_path / "m.safetensors") == "segmentation"
    network = build_segmentation_net(weights.config.model)

    @jax.jit
    def logits(params, stats, seen):
        return network.apply({"params": params, "batch_stats": stats}, seen, train=False)[0]

    expected, found = (
        np.asarray(logits(w.params["segmentation"], w.stats["segmentation"], images))
        for w in (weights, read_bundle(tmp_path / "m.safetensors"))
    )
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    with pytest.raises(UserError, match=r"holds no depth network, only \['segmentation'\]"):
        load_model(tmp_path / "m.safetensors")


def test_a_segmentation_network_in_a_file_teaches_as_the_semantic_expert(tmp_path, temporal):
    weights = segmentation_weights(tmp_path / "run")
    write_bundle(weights, tmp_path / "m.safetensors")
    mesh = sharding.make_mesh("data")
    semantics = tiny_config().semantics
    semantics.stride, semantics.weights = 8, str(tmp_path / "m.safetensors")
    expert = load_expert(semantics, (32, 64), mesh)
    batch = sharding.put_batch(random_batch(tiny_config()), mesh)
    taught = expert.teach(batch)

    @jax.jit
    def decoded(variables, seen):
        return build_segmentation_net(weights.config.model).apply(variables, seen, train=False)[1][8]

    variables = {"params": weights.params["segmentation"], "batch_stats": weights.stats["segmentation"]}
    expected = np.asarray(decoded(variables, np.asarray(batch.target, np.float32) / np.float32(255)))
    assert taught.expert.shape == expert.shape(jax.ShapeDtypeStruct((8, 32, 64, 3), np.float32)) == (8, 4, 8, 32)
    np.testing.assert_allclose(taught.expert, expected, atol=2e-3 * np.abs(expected).max())
    assert expert.teach(taught) is taught  # features that are there are not computed again
    semantics.weights = str(temporal[1])
    with pytest.raises(UserError, match=r"holds no segmentation network, only \['depth', 'pose'\]"):
        load_expert(semantics, (32, 64), mesh)


def test_a_frozen_encoder_is_left_out_and_read_from_its_package_again(frozen):
    _, weights, file = frozen
    with safetensors.safe_open(file, "np") as opened:
        names = set(opened.keys())
    assert names
    assert not any("/encoder/" in name for name in names)
    assert file.stat().st_size < 1e6 < find_packaged_lite0().stat().st_size
    back = read_bundle(file)
    kernel = back.params["depth"]["encoder"]
    theirs = read_weights(find_packaged_lite0())["_conv_stem.weight"].transpose(2, 3, 1, 0)
    assert any(np.array_equal(leaf, theirs) for leaf in jax.tree.leaves(kernel))
    ours, stored = (flatten_dict({"p": w.params, "s": w.stats}, sep="/") for w in (weights, back))
    assert ours.keys() == stored.keys()
    for key, value in ours.items():
        np.testing.assert_allclose(stored[key], value, rtol=1e-3, atol=1e-7, err_msg=key)
    assert load_model(file).config.model.pretrained == "package"


def test_an_encoder_that_is_not_the_package_s_is_kept_whatever_the_config_says(frozen, tmp_path):
    random, _, _ = frozen
    write_bundle(random, tmp_path / "m.safetensors")
    back = flatten_dict(read_bundle(tmp_path / "m.safetensors").params, sep="/")
    for key, value in flatten_dict(random.params, sep="/").items():
        np.testing.assert_allclose(back[key], value, rtol=1e-3, atol=1e-7, err_msg=key)


def test_files_that_are_none_of_ours_end_with_one_sentence(temporal, tmp_path):
    _, file = temporal
    with pytest.raises(UserError, match=r"model file .*none.safetensors does not exist"):
        load_model(tmp_path / "none.safetensors")
    whole = file.read_bytes()
    for name, content in {"cut": whole[:-100], "short": whole[:5], "empty": b"", "text": b"no tensors at all"}.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
        with pytest.raises(UserError, match=rf"model file .*{name}.safetensors is damaged or of another kind"):
            load_model(tmp_path / f"{name}.safetensors")
    tensors = {"a": np.zeros(3, np.float32)}
    for number, metadata in enumerate(
        (None, {"format": "pt"}, {"config": "[1", "step": "1"}, {"config": "[1]", "step": "1"})
    ):
        safetensors.numpy.save_file(tensors, tmp_path / f"{number}.safetensors", metadata)
        with pytest.raises(
            UserError, match=r"is no model file of this project: python -m robustdepth.export writes them"
        ):
            load_model(tmp_path / f"{number}.safetensors")


def test_what_half_precision_cannot_hold_is_not_written(temporal, tmp_path):
    weights = load_weights(temporal[0])
    for wrong in (1e6, np.nan):
        params = jax.tree.map(
            lambda leaf, wrong=wrong: np.where(leaf.ndim > 1, np.float32(wrong), leaf), weights.params
        )
        with pytest.raises(UserError, match="not finite in half precision"):
            write_bundle(dataclasses.replace(weights, params=params), tmp_path / "m.safetensors")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*give another --output"):
        write_bundle(weights, tmp_path / "file" / "m.safetensors")


def test_the_command_says_what_it_wrote_and_overwrites_nothing_silently(temporal, tmp_path):
    command = [sys.executable, "-m", "robustdepth.export", f"--checkpoint={temporal[0]}"]

    def export(*flags):
        return subprocess.run([*command, *flags], capture_output=True, text=True, cwd=REPOSITORY)

    done = export(f"--output={tmp_path / 'm.safetensors'}")
    assert done.returncode == 0, done.stderr
    size = (tmp_path / "m.safetensors").stat().st_size
    assert done.stdout.startswith(f"{tmp_path / 'm.safetensors'}: {size / 1e6:.2f} MB, base at step 5")
    assert "depth network: " in done.stdout
    assert "pose network: " in done.stdout
    for flags, sentence in (
        (f"--output={tmp_path / 'm.safetensors'}", "exists: choose another --output or pass --overwrite"),
        (f"--output={tmp_path / 'm.bin'}", "must end with .safetensors"),
    ):
        done = export(flags)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert sentence in done.stderr

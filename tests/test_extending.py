"""What may be added is added from outside the package, here, and used like what the package brings along.

CONTRIBUTING.md describes the same steps for additions to the package itself.
"""

import json
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from configs import base
from robustdepth.conditions.corruptions.corruption import CORRUPTIONS
from robustdepth.data.benchmarks.listed import DATASETS, Dataset, Listed, images_below
from robustdepth.data.benchmarks.protocol import ANY_DEPTH, PROTOCOLS, add_protocols
from robustdepth.data.images import read_image
from robustdepth.data.recordings.clips import RECORDINGS, Frame, Recording, read_file
from robustdepth.errors import UserError
from robustdepth.evaluation.run import Options, run_evaluation
from robustdepth.evaluation.suite.plan import make_plan
from robustdepth.geometry.camera import make_camera
from robustdepth.interop.fill import fill
from robustdepth.methods.method import METHODS, Method, Terms
from robustdepth.methods.objective import weight_of
from robustdepth.models.encoder import ENCODERS
from robustdepth.models.experts import EXPERTS, ExpertKind
from robustdepth.runtime import config as configs
from robustdepth.training.loop import train
from robustdepth.types import EvalSample, Term
from tests.recordings import picture, write_image
from tests.tiny import shrink, tiny_config

SIZE, COUNT = (32, 64), 4
CAMERA = make_camera(40.0, 40.0, 31.5, 15.5, SIZE)


@pytest.fixture(autouse=True)
def additions_end_with_the_test():
    lists = CORRUPTIONS, DATASETS, ENCODERS, EXPERTS, METHODS, PROTOCOLS, RECORDINGS
    before = [dict(each) for each in lists]
    yield
    for each, choices in zip(lists, before, strict=True):
        each.clear()
        each.update(choices)


def add_loss(monkeypatch):
    """A method that wants its noise bright and the nearest depth far; the weight's place in configs/base.py with it."""

    def terms(weight, seen, key):
        value = weight * jnp.mean(seen.output.disparities[0]) + jnp.mean(jax.random.uniform(key, (8,)))
        return Terms({"toy_far": Term(value, jnp.float32(1))})

    METHODS.add("toy", Method(("toy_far",), lambda config, learnt: jnp.float32(3), terms))
    default = base.get_config

    def get_config():
        config = default()
        config.loss.toy_far = 0.0
        return config

    monkeypatch.setattr(base, "get_config", get_config)


def add_recording():
    @RECORDINGS.listed("toy_recording")
    def open_recording(data):
        root, frames = pathlib.Path(data.root), []
        for folder, side, x in ((root, "l", 0.5), (root / "right", "r", -0.5)):  # x: where the other camera stands
            images = images_below(folder).values()
            frames += [Frame("clip", i, side, path, CAMERA, x) for i, path in enumerate(images)]
        return Recording(frames, read_file)


def add_encoder():
    @ENCODERS.listed("toy_encoder")
    class ToyEncoder(nn.Module):
        dtype: object = jnp.float32

        @nn.compact
        def __call__(self, image, train):
            features, x = {}, image
            for stride in (2, 4, 8, 16, 32):
                x = features[stride] = nn.relu(nn.Conv(8, (3, 3), 2, padding=1, name=f"halve{stride}")(x))
            return features


def add_expert():
    class ToyExpert(nn.Module):
        @nn.compact
        def __call__(self, image):
            return {8: nn.Conv(6, (8, 8), 8, padding="VALID", name="cells")(image)}

    def load(variables, weights, name):
        same = {"name_of": lambda path: path, "convert": lambda path, value: value}
        return fill(variables, weights, **same, architecture=name, naming="own", unused="")

    EXPERTS.add("toy_expert", ExpertKind(ToyExpert, load, "toy.safetensors of this test"))


def add_dataset():
    def open_condition(root, condition, split):
        def read(item):
            name, path = item
            image = read_image(path)
            depth = np.tile(np.linspace(4, 40, SIZE[1], dtype=np.float32), (SIZE[0], 1))
            return EvalSample(image, depth, CAMERA, name)

        return Listed(list(images_below(root).items()), read)

    dataset = Dataset("A toy", "https://example.org", "*.png", {"toy_dusk": COUNT}, open_condition)
    DATASETS.add("toy_dataset", dataset)
    add_protocols("toy_dataset", valid=ANY_DEPTH, alignment="median")


def add_corruption():
    @CORRUPTIONS.listed("toy_negative")
    def negative(image, level, key):
        return 1.0 - image


@pytest.fixture
def images(tmp_path):
    for i in range(COUNT):
        write_image(tmp_path / "images" / f"{i}.png", picture(i, SIZE))
        write_image(tmp_path / "images" / "right" / f"{i}.png", np.roll(picture(i, SIZE), -3, axis=1))
    return tmp_path / "images"


def test_all_that_was_added_is_trained_with_and_evaluated(tmp_path, images, monkeypatch):
    add_loss(monkeypatch)
    for add in (add_recording, add_encoder, add_expert, add_dataset, add_corruption):
        add()
    kernel = np.random.default_rng(0).normal(size=(8, 8, 3, 6)).astype(np.float32)
    save_file(
        {"params/cells/kernel": kernel, "params/cells/bias": np.zeros(6, np.float32)}, tmp_path / "toy.safetensors"
    )
    config = shrink(tiny_config(), steps=1)
    config.data.update(name="toy_recording", root=str(images), world_share=0.0, views=("stereo",))
    config.model.update(encoder="toy_encoder", scales=1)
    config.semantics.update(expert="toy_expert", weights=str(tmp_path / "toy.safetensors"), graph="none", stride=8)
    config.loss.update(semantics_node=0.05, toy_far=0.5)
    with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer power
        train(config, tmp_path / "run")
    written = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(any(row.get(name, 0) > 0 for row in written) for name in ("semantics_node", "toy_far"))

    options = Options(["toy_dusk"], str(images), batch_size=8, corruptions=["toy_negative"], severities=[2])
    run_evaluation(str(tmp_path / "run"), str(tmp_path / "out"), options)
    entry = json.loads((tmp_path / "out" / "report.json").read_text())["protocols"]["toy_dusk"]
    assert (entry["count"], entry["alignment"]) == (COUNT, "median")
    row = entry["corruptions"]["by_corruption"]["toy_negative"]
    assert row["ce"] == pytest.approx(100 * row["dee"] / entry["corruptions"]["blind_dee"])  # there is no published DEE
    assert [work.protocol.name for work in make_plan({"toy_dataset": str(images)}, {}).work][-1] == "toy_dusk"


def test_a_config_names_what_was_added_and_nothing_else():
    config = tiny_config()
    config.model.encoder = "toy_encoder"
    with pytest.raises(UserError, match=r'config\.model\.encoder="toy_encoder" is unknown'):
        configs.check(config)
    add_encoder()
    configs.check(config)
    with pytest.raises(UserError, match=r"encoder 'toy_encoder' exists already"):
        add_encoder()


def test_what_does_not_fit_together_is_said():
    config = shrink(tiny_config(), steps=1)
    METHODS.add("toy", Method(("toy_far",), lambda config, learnt: None, lambda *given: Terms({})))
    config.loss.toy_far = 0.5  # a weight that configs/base.py does not have
    configs.check(config)
    with pytest.raises(UserError, match=r"loss 'nameless', which has no weight in config\.loss"):
        weight_of(config.loss, "nameless")
    del METHODS["toy"]
    with pytest.raises(UserError, match=r"config\.loss\.toy_far is unknown"):
        configs.check(config)
    with pytest.raises(UserError, match="two methods compute a loss 'a'"):
        _ = Terms({"a": Term(jnp.float32(0), jnp.float32(1))}) | Terms({"a": Term(jnp.float32(1), jnp.float32(1))})
    with pytest.raises(UserError, match="unknown dataset 'toy_dataset'"):
        add_protocols("toy_dataset", valid=ANY_DEPTH)
    dataset = Dataset("A toy", "https://example.org", "*.png", {"toy_dusk": COUNT}, lambda *given: [])
    DATASETS.add("toy_dataset", dataset)
    with pytest.raises(UserError, match=r"no condition 'toy_dsk': did you mean toy_dusk"):
        add_protocols("toy_dataset", conditions=["toy_dsk"], valid=ANY_DEPTH)


def test_a_suite_says_which_dataset_has_no_protocols(tmp_path):
    conditions = {"toy_dusk": COUNT, "toy_dawn": COUNT}
    DATASETS.add("toy_dataset", Dataset("A toy", "https://example.org", "*.png", conditions, lambda *given: []))
    plan = make_plan({}, {})
    assert not [missing for missing in plan.missing if missing.title == "A toy"]  # nothing is missing but its protocols
    with pytest.raises(UserError, match=r"unknown protocol 'toy_d\w+'"):
        make_plan({"toy_dataset": str(tmp_path)}, {})
    add_protocols("toy_dataset", valid=ANY_DEPTH)
    work = make_plan({"toy_dataset": str(tmp_path)}, {}).work
    assert [planned.protocol.name for planned in work][-2:] == [*conditions]


def test_a_corruption_changes_images_as_it_says():
    from robustdepth.conditions.corruptions.benchmark import check_corruptions, corrupt

    add_corruption()
    image = picture(3, SIZE)[None]
    np.testing.assert_array_equal(corrupt(image, "toy_negative", 1, jax.random.key(0)), 255 - image)
    assert "toy_negative" not in check_corruptions(["all"])  # the benchmark's 18
    assert check_corruptions(["toy_negative", "fog"]) == ("fog", "toy_negative")

"""What a config may say: every key, type, range and choice is checked, wherever it was set."""

import copy
import importlib
import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs import base, world_quickstart
from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime.schema import check_values, flatten, parse_range, range_of
from tests.conftest import REPOSITORY
from tests.tiny import tiny_config

DEFAULTS = tiny_config().to_dict()


def changed(key: str, value: object) -> ConfigDict:
    """The tiny config with one value set, as a file could set it that goes round every check of ConfigDict."""
    values = copy.deepcopy(DEFAULTS)
    *sections, last = key.split(".")
    section = values
    for name in sections:
        section = section[name]
    section[last] = value
    return ConfigDict(values)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("loss.photometrc", 1.0, "config.loss.photometrc is unknown: did you mean loss.photometric"),
        ("modle", "x", "config.modle is unknown: did you mean model"),
        ("data.name", "kiti_raw", "did you mean kitti_raw"),
        ("data.views", ("previous", "nxt"), "did you mean next"),
        ("data.views", (), "at least one source view"),
        ("data.world_share", 1.5, "config.data.world_share=1.5 must be a number, at least 0 and at most 1."),
        ("data.world_share", 0.5, "no recordings"),
        ("data.frame_step", 0, "config.data.frame_step=0 must be a whole number, at least 1."),
        ("data.jitter", (0.2, 0.2, 0.2), "must be a tuple of 4 numbers, at least 0 and at most 1, such as"),
        ("data.root", None, "config.data.root=None must be a text."),
        ("data.flip", 1, "config.data.flip=1 must be True or False."),
        ("image_size", (190, 640), "192x640"),
        ("image_size", (192,), r"config.image_size=\(192,\) must be a tuple of 2 whole numbers, at least 16"),
        ("image_size", ("64x208",), r"config.image_size=\('64x208',\) must be a tuple of 2 whole numbers"),
        ("image_size", [64, 208], "must be a tuple"),
        ("batch_size", 0, "at least 1"),
        ("batch_size", True, "must be a whole number"),
        ("model.dtype", "float16", "bfloat16"),
        ("model.encoder", "resnet19", "did you mean resnet18"),
        ("model.pose_encoder", "dinov2_vits14", 'config.model.pose_encoder="dinov2_vits14" is unknown'),
        ("model.initial_depth", 500.0, "initial_depth"),
        ("reprojection.ssim_share", 7.0, "must be a number, at least 0 and at most 1."),
        ("reprojection.ssim_share", "0:1:10", "must be a number"),
        ("loss.smoothness", "0:1", 'or a schedule "start:end:steps" of such numbers.'),
        ("loss.smoothness", "0:-1:10", "must be a number, at least 0, or a schedule"),
        ("semantics.expert", "dinov2", "did you mean dinov2_vits14"),
        ("semantics.views", ("clear",), '"clean", "perturbed" or both'),
        ("weather.spec", "fogg|rain", "did you mean fog"),
        ("optimizer.learning_rate", float("nan"), "config.optimizer.learning_rate=nan must be a number, above 0."),
        ("optimizer.ema_decay", 1.5, "at least 0 and below 1"),
        ("optimizer.drops", (2.0,), "must be a tuple of numbers, above 0 and below 1, such as"),
        ("optimizer.clip_norm", -1.0, "at least 0"),
        ("optimizer.accumulate", 3, "config.batch_size=8 does not divide into config.optimizer.accumulate=3"),
        ("sharding.rules", (("(", ()),), "a rule is"),
        ("sharding.rules", ((".*", 3),), "its spec must be"),
    ],
)
def test_what_cannot_be_right_is_refused_with_one_sentence(key, value, sentence):
    with pytest.raises(UserError, match=sentence) as refused:
        configs.check(changed(key, value))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"loss.photometric": 0.0, "loss.smoothness": 0.0}, "config.loss has no weight"),
        ({"loss.hints": 1.0}, "config.loss.hints=1.0 has no effect"),
        ({"loss.mask": 1.0}, "config.loss.mask=1.0 has no effect, since config.loss.proxy has none"),
        ({"loss.velocity": 1.0, "data.views": ("stereo",)}, "config.loss.velocity judges motion in time"),
    ],
)
def test_weights_that_would_do_nothing_are_refused(changes, sentence):
    config = world_quickstart.get_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=re.escape(sentence)):
        configs.check(config)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"loss": 3}', '{"reprojection": 4, "loss": {"auto_mask": true}}'])
def test_a_file_that_is_no_config_is_told(tmp_path, text):
    (tmp_path / configs.CONFIG_FILE).write_text(text)
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        configs.read(tmp_path)


def test_a_config_that_cannot_be_opened_is_told(tmp_path):
    (tmp_path / configs.CONFIG_FILE).mkdir()
    with pytest.raises(UserError, match=r"config\.json cannot be read \(Is a directory\)"):
        configs.read(tmp_path)


def test_what_moved_never_replaces_what_is_there():
    config = configs.from_json('{"loss": {"auto_mask": true, "ssim_share": 0.5}, "reprojection": {"auto_mask": false}}')
    assert config.to_dict() == {"loss": {}, "reprojection": {"auto_mask": False, "ssim_share": 0.5}}


def test_a_missing_key_is_named():
    values = copy.deepcopy(DEFAULTS)
    del values["optimizer"]["drops"]
    with pytest.raises(UserError, match=r"config.optimizer.drops is missing"):
        configs.check(ConfigDict(values))


def test_without_source_views_no_loss_may_rebuild_the_target():
    config = tiny_config(())
    config.loss.update(truth=1.0, photometric=0.0, smoothness=0.0)
    configs.check(config)
    for term in ("photometric", "texture_consistency"):
        config.loss.update(photometric=0.0, texture_consistency=0.0)
        config.loss[term] = 0.1
        with pytest.raises(UserError, match=r"config.data.views=\(\), but a loss rebuilds the target"):
            configs.check(config)


@pytest.mark.parametrize("share", [0.05, 0.95])
def test_a_share_of_the_world_that_rounds_to_none_or_all_of_the_batch_is_refused(share):
    config = tiny_config()
    config.data.update(name="frames", root="clip", world_share=share)
    with pytest.raises(UserError, match=r"of config.batch_size=8 is [08] samples: .* from 0.125 to 0.875"):
        configs.check(config)
    config.data.world_share = 0.125
    configs.check(config)


def test_statistics_of_each_device_want_whole_batches_of_one_kind():
    config = tiny_config()
    config.sharding.statistics = "device"
    configs.check(config)
    config.optimizer.accumulate = 2
    with pytest.raises(UserError, match=r'"device" has no parts in turns: set config.optimizer.accumulate=1'):
        configs.check(config)
    config.optimizer.accumulate = 1
    config.data.update(name="frames", root="clip", world_share=0.5)
    with pytest.raises(UserError, match=r"world_share=0.5 would leave some devices only recordings"):
        configs.check(config)


def test_every_number_has_a_range_that_holds_its_default_and_every_range_a_number():
    defaults = flatten(base.get_config())
    ranges = {key: range_of(key, default, base.RANGES) for key, default in defaults.items()}
    for key, default in defaults.items():
        numbers = default if isinstance(default, tuple) else (default,)
        if any(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
            assert ranges[key] is not None, f"{key} has no range in configs/base.py"
            assert all(ranges[key].holds(number) for number in numbers), key
            assert (ranges[key].length is not None) == isinstance(default, tuple), key
    used = {key for key in base.RANGES if key in defaults or key.endswith(".*")}
    assert used == base.RANGES.keys()
    check_values(base.get_config(), base.get_config(), base.RANGES)


def test_a_range_means_what_mathematics_means():
    half_open, exact = parse_range("[0, 1)"), parse_range("2 x (-1.5, 3]")
    assert [half_open.holds(x) for x in (-1e-9, 0, 0.5, 1, float("nan"))] == [False, True, True, False, False]
    assert [exact.holds(x) for x in (-1.5, -1.4, 3, 3.01)] == [False, True, True, False]
    assert exact.length == 2
    assert not parse_range("[1, inf)").holds(float("inf"))
    assert parse_range("* x (0, 1)").length == -1
    assert parse_range("[0, 1] or a schedule").schedule
    with pytest.raises(ValueError, match="no range"):
        parse_range("0..1")


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["0:1:5", "fog(0.2-1)", "stereo", "1e9", "|", "+", "resnet18"]),
)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    key=st.sampled_from(sorted(flatten(tiny_config()))) | st.text("abcdelmot._", min_size=1, max_size=9),
    value=VALUES | st.tuples(VALUES) | st.lists(VALUES, max_size=4).map(tuple) | st.lists(VALUES, max_size=2),
)
@example(key="model", value=5)
@example(key="image_size", value=(10**400, 16))
def test_any_value_is_right_or_refused_in_one_sentence(key, value):
    try:
        config = changed(key, value)
    except (KeyError, TypeError, AttributeError, ValueError):
        return  # no config can be made of it
    try:
        configs.check(config)
    except UserError as error:
        sentence = str(error)
        assert sentence.count("\n") == 0 or "\n" in str(value)


@pytest.mark.parametrize("name", sorted(path.stem for path in (REPOSITORY / "configs").glob("*.py")))
def test_every_experiment_keeps_the_types_of_the_defaults(name):
    if name == "__init__":
        return
    config = importlib.import_module(f"configs.{name}").get_config()
    check_values(config, base.get_config(), base.RANGES)

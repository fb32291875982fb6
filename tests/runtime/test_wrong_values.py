"""Every key of a config refuses every value that it cannot have, and what was refused blocks no workdir."""

import copy
import math

import pytest
from ml_collections import ConfigDict

from configs import base
from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime.choices import choices
from robustdepth.runtime.schema import flatten, range_of
from robustdepth.runtime.workdir import MEDIAN_FILE, Workdir
from robustdepth.training import loop
from tests.tiny import tiny_config

DEFAULTS = flatten(tiny_config())


def changed(**values: object) -> ConfigDict:
    """The tiny config with values set, "a__b" standing for a.b, as no ConfigDict with types would take them."""
    config = copy.deepcopy(tiny_config().to_dict())
    for key, value in values.items():
        *sections, last = key.split("__")
        section = config
        for name in sections:
            section = section[name]
        section[last] = value
    return ConfigDict(config)


def wrong_values(key: str) -> list:
    """Values of another type, no number, out of the range, of another length, or none of the names."""
    default = DEFAULTS[key]
    limits = range_of(key, default, base.RANGES)
    if isinstance(default, bool):
        return [None, 0, 1.0, "True", (True,)]
    if isinstance(default, str):
        return [None, 1, True, ("a",), *(["", "nosuch"] if key in choices() else [])]
    if isinstance(default, tuple):
        wrong = [None, "x", 1, list(default), (None,), ((),), (math.nan,)]
        if limits is None:
            return wrong
        outside = [(value,) * max(1, limits.length) for value in out_of(limits, default[0])]
        return wrong + outside + ([default + default[:1], default[:-1]] if limits.length > 0 else [])
    other = ["1", True, None, (default,), [default], 10**400, 1e39, *(() if isinstance(default, float) else (1.5,))]
    return other + out_of(limits, default)


def out_of(limits, default) -> list:
    """Numbers just outside a range, of the default's type, and what is no number."""
    kind = type(default)
    found = [math.nan, math.inf, -math.inf]
    if limits.low > -math.inf:
        found += [kind(limits.low - 1), *([kind(limits.low)] if limits.left == "(" else [])]
    if limits.high < math.inf:
        found += [kind(limits.high + 1), *([kind(limits.high)] if limits.right == ")" else [])]
    return found


def sentence_about(config: ConfigDict) -> str:
    """What the check says; "" where it accepts."""
    try:
        configs.check(config)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("key", sorted(DEFAULTS))
def test_no_key_takes_what_it_cannot_be(key):
    place = key.replace(".", "__")
    configs.check(changed(**{place: DEFAULTS[key]}))
    for value in wrong_values(key):
        sentence = sentence_about(changed(**{place: value}))
        assert sentence, f"config.{key}={value!r} is accepted"
        assert f"config.{key}" in sentence
        assert sentence.endswith((".", "?"))
        assert "\n" not in sentence


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"model__scales": 5, "model__output_stride": 2},
            "from model.output_stride=2 on, the decoder has 1 to 4 scales",
        ),
        ({"sharding__axis": "model"}, 'config.sharding.axis="model" is unknown; known: data'),
        (
            {"sharding__rules": ((".*", ("model",)),)},
            "may hold None, and once the devices' axis, config.sharding.axis=\"d",
        ),
        ({"sharding__rules": ((".*", ("data", "data")),)}, "may hold None, and once"),
        ({"sharding__rules": ((".*", ([],)),)}, "may hold None, and once"),
        ({"optimizer__drops": (0.5, 0.5)}, "name each fraction once"),
        ({"loss__photometric": "0:1:1e300"}, 'or a schedule "start:end:steps"'),
        ({"optimizer__learning_rate": 1e-300}, "float32"),
        (
            {"health__graph_entropy": (0.85, 0.3)},
            "graph_entropy=(0.85, 0.3): the first number must be below the second",
        ),
        ({"health__mask_proxy": (0.5, 0.5)}, "the first number must be below the second"),
        ({"stereo__max_disparity": 24}, "must be a multiple of 16"),
        ({"loss__semantics_edge": 0.1, "semantics__heads": 5}, "semantics.width=128 does not divide into"),
        ({"task": "segmentation", "model__encoder": "dinov2_vits14"}, "unknown encoder 'dinov2_vits14'"),
        ({"model__encoder": "dinov2_vits14", "model__mask_decoder": "concatenated"}, "is for the U-Net decoder"),
    ],
)
def test_values_that_do_not_go_together_are_refused(values, sentence):
    with pytest.raises(UserError) as refused:
        configs.check(changed(**values))
    assert sentence in str(refused.value)


def test_the_stereo_networks_features_alone_need_pairs_but_neither_proxy_nor_masks():
    for term in ("transfer_feature", "transfer_distribution"):
        config = changed(**{f"loss__{term}": 0.1, "data__views": ("previous", "next")})
        with pytest.raises(
            UserError, match=r"needs pairs: add \"stereo\" to config\.data\.views=\('previous', 'next'\)"
        ):
            configs.check(config)
        config.data.views = ("previous", "stereo")
        for proxy in ("stereo_net", "sgm", "files", "truth"):  # none is read
            config.selective.proxy = proxy
            configs.check(config)
        config.loss.mask = 1.0
        with pytest.raises(
            UserError, match=r"config\.loss\.mask=1\.0 has no effect, since config\.loss\.proxy has none"
        ):
            configs.check(config)


@pytest.mark.parametrize(
    "values",
    [{"model__scales": 9}, {"sharding__axis": "x"}, {"optimizer__steps": 0}, {"model__encoder": "resnet19"}],
)
def test_what_the_check_refuses_leaves_no_workdir(tmp_path, values):
    with pytest.raises(UserError):
        loop.train(changed(**values), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"batch_size": 12}, "does not divide by 8 devices"),
        ({"model__pretrained": "nowhere.pth"}, "nowhere"),
        ({"data__name": "frames", "data__root": "nowhere", "data__world_share": 0.0}, "nowhere"),
        ({"sharding__rules": (("kernels", ()), (".*", ()))}, "matches no parameter"),
        (
            {"loss__semantics_edge": 0.1, "semantics__weights": "nowhere.safetensors", "semantics__stride": 16},
            "nowhere",
        ),
    ],
)
def test_what_is_refused_later_leaves_a_workdir_that_takes_the_corrected_config(
    tmp_path, monkeypatch, values, sentence
):
    monkeypatch.setattr(loop, "save_median", lambda *_: None)  # renders for longer than all else takes
    with pytest.raises(UserError, match=sentence):
        loop.train(changed(**values), tmp_path / "run")
    with Workdir(tmp_path / "run", tiny_config()):
        pass
    assert configs.read(tmp_path / "run").to_dict() == tiny_config().to_dict()


def test_nothing_of_another_recording_stays_in_a_workdir_that_has_no_checkpoint(tmp_path):
    """Where the recordings lie may change as a run goes on; a run that has not begun may have meant other ones."""
    first, second = (changed(data__name="frames", data__root=root, data__world_share=0.0) for root in "ab")
    with Workdir(tmp_path / "run", first):
        (tmp_path / "run" / MEDIAN_FILE).write_bytes(b"of a")
    with Workdir(tmp_path / "run", first):
        assert (tmp_path / "run" / MEDIAN_FILE).exists()
    with Workdir(tmp_path / "run", second):
        assert not (tmp_path / "run" / MEDIAN_FILE).exists()
    assert configs.read(tmp_path / "run").data.root == "b"

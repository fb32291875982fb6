"""Made experiment files and made overrides of configs: each ends in a config that passes the check, or in one sentence.

As tests/test_fuzz.py, it makes 60 of each in a run of the tests; ROBUSTDEPTH_FUZZ=N makes N, which differ each time.
"""

import io
import math
import sys
import types

import pytest
from absl import flags
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict, config_flags

from configs import base
from robustdepth import train
from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime.experiments import NAMES
from robustdepth.runtime.schema import flatten
from tests.made_files import WORDS, reworded
from tests.test_fuzz import MADE

pytestmark = pytest.mark.filterwarnings("ignore:the load_module")  # by which ml_collections reads a config's file
KEYS = sorted(flatten(base.get_config()))
SECTIONS = sorted({key.partition(".")[0] for key in KEYS if "." in key})
WHOLE = "from configs import base\n\ndef get_config():\n    config = base.get_config()\n    {}\n    return config\n"
RULES = dict(
    max_examples=MADE or 60,
    derandomize=not MADE,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

SOURCES = st.one_of(  # of one value, as Python writes it
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.binary(max_size=4)).map(
        lambda value: f"float('{value}')" if isinstance(value, float) and not math.isfinite(value) else repr(value)
    ),
    st.sampled_from(
        (
            "10**400",
            "1e39",
            "-0.0",
            "()",
            "[]",
            "{}",
            "{1: 2}",
            "set()",
            "object()",
            "lambda: 3",
            "print",
            "range(3)",
            "1 + 2j",
            "__import__('numpy').float32(1)",
            "__import__('numpy').zeros(2)",
            "__import__('pathlib').Path('a')",
            "config",
            "config.model",
            "config.get_ref('seed')",
            "config.get_oneway_ref('batch_size')",
            "__import__('ml_collections').config_dict.placeholder(int)",
            "__import__('ml_collections').config_dict.required_placeholder(str)",
            "__import__('ml_collections').ConfigDict()",
            "(0.1, 0.2)",
            "(192, 640)",
            "((('.*', ('data',)),))",
            "('stereo',)",
            "'0:1:100'",
            "'fog(0.2-1.0)'",
        )
    ),
)
PLACES = st.sampled_from(KEYS) | st.sampled_from(SECTIONS) | st.sampled_from(("modle", "loss.photometrc", "a.b", "_x"))
STATEMENTS = st.one_of(
    st.builds("config.{} = {}".format, PLACES, SOURCES),
    st.builds("config.{}.update({}={})".format, st.sampled_from(SECTIONS), st.sampled_from(("steps", "x")), SOURCES),
    st.builds("config.update({{{!r}: {}}})".format, PLACES, SOURCES),
    st.builds("del config.{}".format, PLACES),
    st.builds("return {}".format, SOURCES),
    st.builds("config = {}".format, SOURCES),
    st.builds("with config.unlocked():\n        config.{} = {}".format, PLACES, SOURCES),
    st.builds("with config.ignore_type():\n        config.{} = {}".format, PLACES, SOURCES),
    st.sampled_from(
        (
            "config.freeze()",
            "config.lock()",
            "raise KeyError('a')",
            "raise OSError('gone')",
            "assert False",
            "1 / 0",
            "import nosuch",
            "open('nowhere')",
            "raise Exception",
            "raise UnicodeError('a')",
            "config.nosuch.key",
            "raise TypeError",
            "int('a')",
            "def f(): return f()\n    f()",
            "raise AttributeError('a')",
            "%%",
            "\tx",
            "é = 1",
        )
    ),
)
FILES = st.one_of(
    st.lists(STATEMENTS, max_size=3)
    .map("\n    ".join)
    .map(WHOLE.format)
    .map(lambda text: text.encode("utf-8", "replace")),
    reworded(WHOLE.format("config.optimizer.steps = 5")),
    st.sampled_from(
        (
            b"",
            b"\x00",
            b"\xff\xfe",
            b"get_config = 3",
            b"def get_config(row): return row",
            b"def get_config(*, a): 1",
            b"get_config = dict",
            b"class get_config: pass",
            b"# coding: nosuch\n",
            b"from nosuch import x",
            b"import sys\ndef get_config(): return sys",
            b"(" * 300,
        )
    ),
)
VALUES = st.one_of(
    st.sampled_from(
        (
            *WORDS,
            "True",
            "nan",
            "inf",
            "None",
            "1e39",
            "(1,",
            "(1, 2)",
            "('a',)",
            "[1]",
            "{}",
            "'x'",
            '"',
            "0x10",
            "1_0",
            "lambda: 1",
            "__import__('os')",
            "(" * 200,
            "1" * 5000,
            "stereo",
            "-1",
            "0:1:9",
            "((1, 2), 3)",
            "\n",
            "a=b",
            "=",
        )
    ),
    st.text(max_size=8),
    st.integers().map(str),
    st.floats().map(str),
)
OVERRIDES = st.builds(
    "{}config.{}{}{}".format,
    st.sampled_from(("--", "--", "--", "-", "--no")),
    PLACES | st.sampled_from(("", ".", "loss.", "data.views[0]", "data.views.0", "model.scales.x")),
    st.sampled_from(("=", "=", "=", "", " ")),
    VALUES,
)
EXPERIMENTS = st.sampled_from(
    (*NAMES, "configs/world_quickstart.py", "world_structure:base", "nosuch", ":", "a:b", "é", ".")
)


def outcome(words: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the training command says to these words before it trains; "" where it would train. Any error else fails."""
    argv, said, given_flags = ["train", *words], io.StringIO(), flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, flag_values=given_flags)
    flags.DEFINE_string("workdir", "", "", flag_values=given_flags)
    with monkeypatch.context() as patch:
        patch.setattr(train, "flags", types.SimpleNamespace(FLAGS=given_flags))
        patch.setattr(sys, "argv", argv)
        patch.delitem(sys.modules, "config_config", raising=False)  # the file that was read before
        patch.setattr(sys, "stderr", said)
        try:
            train.parse_flags(argv)
        except SystemExit as end:
            return said.getvalue() if end.code == 2 else f"it ended with {end.code}"
    if given_flags.config is None:
        return ""  # the command asks for one
    try:
        configs.check(configs.at_home(given_flags.config))
    except UserError as error:
        return f"error: {error}\n"
    assert isinstance(given_flags.config, ConfigDict)
    return ""


def check(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails unless the command takes these words, or says in one sentence what is wrong with them."""
    said = outcome(words, monkeypatch)
    assert not said or (said.startswith("error: ") and len(said) > len("error: \n"))
    if not any(set("\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029") & set(word) for word in words):
        assert len(said.splitlines()) <= 1, said


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("return None", "get_config() returns nothing; it must return what base.get_config() gave it, changed"),
        ("return {}", "get_config() returns no ConfigDict"),
        ("open('nowhere')", "own.py, line 5: FileNotFoundError: [Errno 2] No such file or directory: 'nowhere'"),
        ("config.loss = None", "config.loss must be a section with options"),
        ("del config.model", "config.model must be a section with options"),
        ("del config.task", "config.task is missing: start from configs.base.get_config()"),
        ("config.loss.photometric = config", "cannot be read (maximum recursion depth exceeded"),
        (
            "config.loss.photometric = __import__('ml_collections').config_dict.required_placeholder(int)",
            "None value found in required reference",
        ),
    ],
)
def test_what_once_found_something(tmp_path, monkeypatch, line, sentence):
    (tmp_path / "own.py").write_text(WHOLE.format(line))
    words = [f"--config={tmp_path / 'own.py'}"]
    assert sentence in outcome(words, monkeypatch)
    check(words, monkeypatch)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "own.py has no get_config(): it is no experiment"),
        (b"get_config = 3", "own.py cannot be run: TypeError: 'int' object is not callable"),
        (b"\x00", "own.py cannot be run: source code"),
        (b"import sys\ndef get_config():\n    sys.exit(0)", "own.py, line 3: SystemExit: 0"),
    ],
)
def test_a_file_that_is_no_experiment_is_named(tmp_path, monkeypatch, content, sentence):
    (tmp_path / "own.py").write_bytes(content)
    said = outcome([f"--config={tmp_path / 'own.py'}"], monkeypatch)
    assert said.startswith("error: ")
    assert sentence in said
    assert "Traceback" not in said


def test_an_experiment_is_named_in_one_word_or_two(tmp_path, monkeypatch):
    assert outcome(["--config", "world_quickstart", "--config.optimizer.steps=5"], monkeypatch) == ""
    assert "there is no config ''" in outcome(["--config="], monkeypatch)
    (tmp_path / "a:b.py").touch()
    assert "has ':' in its name" in outcome([f"--config={tmp_path / 'a:b.py'}"], monkeypatch)


def test_made_experiment_files(tmp_path, monkeypatch):
    path = tmp_path / "own.py"

    @settings(**RULES)
    @given(FILES)
    def run(content: bytes) -> None:
        path.write_bytes(content)
        check([f"--config={path}"], monkeypatch)

    path.write_text(WHOLE.format("config.update(name='own')\n    config.data.world_share = 1.0"))
    assert outcome([f"--config={path}"], monkeypatch) == ""
    run()


def test_made_overrides(monkeypatch):
    @settings(**RULES)
    @given(EXPERIMENTS, st.lists(OVERRIDES, min_size=1, max_size=3))
    def run(experiment: str, overrides: list[str]) -> None:
        check([f"--config={experiment}", *overrides], monkeypatch)

    assert outcome(["--config=world_quickstart", "--config.optimizer.steps=5"], monkeypatch) == ""
    assert "no key step" in outcome(["--config=world_quickstart", "--config.optimizer.step=5"], monkeypatch)
    run()

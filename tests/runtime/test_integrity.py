"""Checksums find any change of a checkpoint's files, and without them no change ends in a traceback."""

import contextlib
import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from robustdepth.errors import UserError
from robustdepth.runtime import integrity
from robustdepth.runtime.checkpoint import ASIDE, FOLDER, Checkpointer
from tests.checkpoints import contents, restore, small_state

pytestmark = pytest.mark.usefixtures("no_pauses")


def test_every_file_written_has_a_checksum(workdir):
    folder = workdir / FOLDER / "2"
    sums = json.loads((folder / integrity.SUMS_FILE).read_text())
    written = {name for name in contents(folder) if "/" in name and not name.endswith("commit_success.txt")}
    assert written <= sums.keys()
    integrity.check_files(folder)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_change_of_any_file_is_found(saved, tmp_path_factory, data):
    folder = saved / FOLDER / "2"
    name = data.draw(st.sampled_from(sorted(json.loads((folder / integrity.SUMS_FILE).read_text()))))
    path = folder / name
    whole = path.read_bytes()
    changed = data.draw(st.binary(max_size=len(whole) + 8) | flipped(whole) | cut(whole) | st.none())
    try:
        path.unlink() if changed is None else path.write_bytes(changed)
        if changed == whole:
            integrity.check_files(folder)
        else:
            with pytest.raises(integrity.DamagedError):
                integrity.check_files(folder)
    finally:
        path.write_bytes(whole)


def test_an_array_of_zeros_without_checksums_is_damage(tmp_path):
    state = small_state(1.0)
    state.params["depth"]["kernel"] = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    with contextlib.closing(Checkpointer(tmp_path, keep=2)) as checkpointer:
        for step in (1, 2):
            checkpointer.save(state, {"step": step}, step)
    newest = tmp_path / FOLDER / "2"
    (newest / integrity.SUMS_FILE).unlink()  # as older versions wrote them
    array = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    array.write_bytes(bytes(array.stat().st_size))
    found, position = restore(tmp_path, state)
    assert position == {"step": 1}
    np.testing.assert_array_equal(found.params["depth"]["kernel"], state.params["depth"]["kernel"])
    assert (tmp_path / ASIDE / "2").is_dir()


@pytest.mark.parametrize("content", ["[]", "{}", "3", '{"step": null}'])
def test_a_position_that_is_none_is_damage(workdir, content):
    newest = workdir / FOLDER / "2"
    (newest / integrity.SUMS_FILE).unlink()
    (newest / "data" / "metadata").write_text(content)
    _, position = restore(workdir, small_state(0.0))
    assert position == {"step": 1}
    assert (workdir / ASIDE / "2").is_dir()


def flipped(whole: bytes) -> st.SearchStrategy[bytes]:
    def flip(place: int, mask: int) -> bytes:
        return whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :] if whole else b"x"

    return st.builds(flip, st.integers(0, max(0, len(whole) - 1)), st.integers(1, 255))


def cut(whole: bytes) -> st.SearchStrategy[bytes]:
    return st.integers(0, len(whole)).map(lambda length: whole[:length])


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
@example(None)
def test_whatever_happens_to_a_file_without_checksums_ends_in_a_checkpoint_or_a_sentence(saved, tmp_path_factory, data):
    workdir = shutil.copytree(saved, tmp_path_factory.mktemp("fuzzed") / "run")
    folder = workdir / FOLDER / "2"
    names = sorted(json.loads((folder / integrity.SUMS_FILE).read_text()))
    (folder / integrity.SUMS_FILE).write_text("{")  # unreadable checksums prove nothing
    if data is not None:
        path = folder / data.draw(st.sampled_from(names))
        whole = path.read_bytes()
        path.write_bytes(data.draw(st.binary(max_size=40) | flipped(whole) | cut(whole)))
    try:
        state, _ = restore(workdir, small_state(0.0))
    except UserError as error:
        sentence = str(error)
        assert "\n" not in sentence
    else:
        assert int(state.step) in (1, 2)

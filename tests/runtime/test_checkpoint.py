"""Checkpoints come back exactly or not at all: proof of damage moves one aside, and no run begins again by itself."""

import errno
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime import integrity
from robustdepth.runtime.checkpoint import ASIDE, FOLDER, latest_step, load_weights
from robustdepth.types import TrainState
from tests.checkpoints import contents, restore, save_steps, small_state
from tests.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("no_pauses")

PASSING = (
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.EMFILE, "Too many open files"),
    MemoryError(),
    jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes"),
)


def assert_is(found, step: int, like: TrainState | None = None) -> None:
    assert found is not None
    state, position = found
    assert position == {"step": step}
    jax.tree.map(np.testing.assert_array_equal, state, like or small_state(float(step), step))


def fail(monkeypatch, error: Exception, times: int) -> list[int]:
    """Makes the next `times` restores of Orbax raise; returns the list of the steps that were tried."""
    whole, tried = ocp.CheckpointManager.restore, []

    def broken(self, step, **arguments):
        tried.append(step)
        if len(tried) <= times:
            raise error
        return whole(self, step, **arguments)

    monkeypatch.setattr(ocp.CheckpointManager, "restore", broken)
    return tried


def test_checkpoints_come_back_exactly_with_the_data_position(tmp_path):
    save_steps(tmp_path, (1, 2, 3))
    assert_is(restore(tmp_path, small_state(0.0)), 3)
    assert latest_step(tmp_path) == 3
    assert latest_step(tmp_path / "nothing") is None
    assert restore(tmp_path / "nothing", small_state(0.0)) is None


def test_a_half_written_checkpoint_does_not_count(workdir):
    (workdir / FOLDER / "3.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    assert latest_step(workdir) == 2
    assert_is(restore(workdir, small_state(0.0)), 2)


def empty_arrays(folder: pathlib.Path) -> None:
    for path in folder.glob("state/**/d/*"):
        path.write_bytes(b"")


def truncate_arrays(folder: pathlib.Path) -> None:
    for path in folder.glob("state/**/d/*"):
        path.write_bytes(path.read_bytes()[:-20])


def lose_metadata(folder: pathlib.Path) -> None:
    (folder / "state" / "_METADATA").unlink()


def lose_position(folder: pathlib.Path) -> None:
    (folder / "data" / "metadata").unlink()


def flip_a_bit_of_the_position(folder: pathlib.Path) -> None:
    path = folder / "data" / "metadata"
    path.write_text(path.read_text().replace("2", "3"))  # still JSON


@pytest.mark.parametrize("with_sums", [True, False])
@pytest.mark.parametrize("damage", [empty_arrays, truncate_arrays, lose_metadata, lose_position])
def test_a_damaged_checkpoint_is_passed_over_and_kept_where_the_message_says(workdir, caplog, damage, with_sums):
    newest = workdir / FOLDER / "2"
    damage(newest)
    if not with_sums:  # as versions before them wrote it
        (newest / integrity.SUMS_FILE).unlink()
    kept = contents(newest)
    assert load_weights(workdir).step == 1
    assert contents(newest) == kept  # to look at weights moves nothing
    assert_is(restore(workdir, small_state(0.0)), 1)
    assert "checkpoint of step 2 is damaged" in caplog.text
    assert f"step 2 is kept as {workdir / ASIDE / '2'}" in caplog.text
    assert contents(workdir / ASIDE / "2") == kept
    assert latest_step(workdir) == 1


def test_numbers_that_still_decode_are_found_by_their_checksum(workdir, caplog):
    flip_a_bit_of_the_position(workdir / FOLDER / "2")
    assert_is(restore(workdir, small_state(0.0)), 1)
    assert "data/metadata is not what was written" in caplog.text


def test_a_step_damaged_again_gets_a_fresh_name(workdir, saved):
    for name in ("2", "2-2", "2-3"):
        lose_metadata(workdir / FOLDER / "2")
        assert_is(restore(workdir, small_state(0.0)), 1)
        assert (workdir / ASIDE / name).is_dir()
        shutil.copytree(saved / FOLDER / "2", workdir / FOLDER / "2")
    assert_is(restore(workdir, small_state(0.0)), 2)


@pytest.mark.parametrize("error", PASSING)
def test_an_error_that_passes_is_tried_again(workdir, monkeypatch, error):
    before = contents(workdir)
    tried = fail(monkeypatch, error, times=2)
    assert_is(restore(workdir, small_state(0.0)), 2)
    assert tried == [2, 2, 2]
    assert contents(workdir) == before


@pytest.mark.parametrize("error", PASSING)
def test_an_error_that_stays_is_one_sentence_and_nothing_moves(workdir, monkeypatch, error):
    before = contents(workdir)
    with monkeypatch.context() as patch:
        tried = fail(patch, error, times=1000)
        with pytest.raises(UserError, match=r"step 2 in .* cannot be read now .*nothing was moved") as raised:
            restore(workdir, small_state(0.0))
    assert "\n" not in str(raised.value)
    assert tried == [2] * (len(integrity.PAUSES) + 1)  # an older one would lose steps
    assert contents(workdir) == before
    assert_is(restore(workdir, small_state(0.0)), 2)  # once it has passed


def test_files_that_cannot_be_read_now_are_not_called_damaged(workdir, monkeypatch):
    whole, before = pathlib.Path.open, contents(workdir)

    def broken(self, *arguments, **options):
        if FOLDER in self.parts and "d" in self.parts:
            raise OSError(errno.EIO, "Input/output error", str(self))
        return whole(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "open", broken)
        for action in (lambda: restore(workdir, small_state(0.0)), lambda: load_weights(workdir)):
            with pytest.raises(UserError, match="Input/output error"):
                action()
    assert contents(workdir) == before
    assert load_weights(workdir).step == 2


def test_training_never_begins_again_where_every_checkpoint_is_damaged(workdir, saved):
    for step in "12":
        truncate_arrays(workdir / FOLDER / step)
    before = contents(workdir)
    for _ in range(2):
        with pytest.raises(UserError, match=r"every checkpoint .* is damaged \(steps 2, 1; .*bring back a copy"):
            restore(workdir, small_state(0.0))
    assert contents(workdir) == before
    shutil.rmtree(workdir / FOLDER)
    shutil.copytree(saved / FOLDER, workdir / FOLDER)  # a copy was brought back
    assert_is(restore(workdir, small_state(0.0)), 2)


def test_training_never_begins_again_where_all_checkpoints_were_set_aside(workdir):
    (workdir / ASIDE).mkdir()
    for step in "12":
        (workdir / FOLDER / step).rename(workdir / ASIDE / step)
    with pytest.raises(UserError, match=r"move one back to .*/STEP, or delete .* to train from scratch"):
        restore(workdir, small_state(0.0))
    (workdir / ASIDE / "1").rename(workdir / FOLDER / "1")
    assert_is(restore(workdir, small_state(0.0)), 1)
    shutil.rmtree(workdir / FOLDER)
    shutil.rmtree(workdir / ASIDE)
    assert restore(workdir, small_state(0.0)) is None


def test_a_checkpoint_of_another_model_is_refused_and_stays(workdir):
    before = contents(workdir)
    other = small_state(0.0).replace(params={"depth": {"kernel": jnp.zeros((5, 3)), "bias": jnp.zeros(3)}})
    with pytest.raises(UserError, match=r"params/depth/kernel is of shape \(4, 3\) there and of shape \(5, 3\) here;"):
        restore(workdir, other)
    more = small_state(0.0).replace(stats={"depth": {"mean": jnp.zeros(3), "var": jnp.ones(3)}})
    with pytest.raises(UserError, match="stats/depth/var is missing there"):
        restore(workdir, more)
    assert contents(workdir) == before


def test_a_full_disk_while_setting_aside_loses_nothing(workdir, monkeypatch):
    lose_metadata(workdir / FOLDER / "2")
    before = contents(workdir)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "rename", full)
        with pytest.raises(UserError, match=r"cannot be moved into checkpoints_damaged \(.*No space left"):
            restore(workdir, small_state(0.0))
    assert contents(workdir) == before
    assert_is(restore(workdir, small_state(0.0)), 1)


def test_weights_are_the_averaged_ones_where_the_run_kept_them(tmp_path):
    configs.write(tiny_config(), tmp_path)
    save_steps(tmp_path, (1,), ema=True)
    weights = load_weights(tmp_path)
    np.testing.assert_array_equal(weights.params["depth"]["kernel"], np.full((4, 3), 101.0))
    np.testing.assert_array_equal(weights.stats["depth"]["mean"], np.full(3, 100.0))
    with pytest.raises(UserError, match="no checkpoint of step 9"):
        load_weights(tmp_path, step=9)
    with pytest.raises(UserError, match="does not exist"):
        load_weights(tmp_path / "nowhere")

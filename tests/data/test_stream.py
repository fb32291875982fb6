"""The stream: what a batch holds, that its order is a pure function of (seed, step), and what bad images do."""

import functools
import json

import jax
import numpy as np
import pytest

from robustdepth.data.stream import train_stream
from robustdepth.errors import UserError
from robustdepth.geometry.depth import DepthRange
from robustdepth.methods.selective import proxy_depth
from robustdepth.runtime import config as configs
from robustdepth.types import Batch, Camera
from robustdepth.world.generate import render_examples
from tests.recordings import CAMERA, DRIVE, SIZE, config_for, picture, truncate, write_clip, write_kitti_raw
from tests.recordings import write_kitti_odometry as write_odometry
from tests.tiny import tiny_config


def images_of(path, number: int):
    return path / DRIVE / "image_02" / "data" / f"{number:010d}.jpg"


@pytest.fixture
def drive(tmp_path):
    write_kitti_raw(tmp_path, numbers=range(7), sides="l", suffix=".jpg")
    return tmp_path


def take(stream, count: int) -> list[Batch]:
    return [next(stream) for _ in range(count)]


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_a_batch_holds_what_its_types_say(tmp_path):
    write_odometry(tmp_path, "00", cameras=[0])
    write_odometry(tmp_path, "06", cameras=[0, 1])
    config = config_for("kitti_odometry", tmp_path, batch=5, views=("previous", "next", "stereo"))
    stream = train_stream(config)
    batch = next(stream)
    shapes = {name: (np.shape(leaf), leaf.dtype.name) for name, leaf in vars(batch).items() if hasattr(leaf, "dtype")}
    assert shapes == {
        "target": ((5, 32, 96, 3), "uint8"),
        "sources": ((5, 3, 32, 96, 3), "uint8"),
        "source_valid": ((5, 3), "bool"),
        "baseline": ((5,), "float32"),
        "speed": ((5, 3), "float32"),
        "index": ((5,), "int32"),
    }
    assert batch.source_names == ("previous", "next", "stereo")
    assert batch.camera.size == (32, 96)
    assert (batch.camera.focal.shape, batch.camera.focal.dtype) == ((5, 2), np.float32)


def test_labels_come_with_rendered_batches_where_the_task_needs_them():
    config = tiny_config(("stereo",))
    config.batch_size = 2
    assert next(train_stream(config)).labels is None
    config.task = "segmentation"
    batch = next(train_stream(config))
    _, truth = render_examples(np.arange(2), seed=0, split="train", size=(32, 64), views=("stereo",))
    np.testing.assert_array_equal(batch.labels, truth.labels[:, 0])


def test_true_proxies_are_the_worlds_own_depth():
    config = tiny_config()
    config.loss.proxy, config.selective.proxy, config.selective.mask = 0.1, "truth", "off"
    configs.check(config)
    batch = next(train_stream(config))
    proxy, known = proxy_depth(batch, DepthRange(0.1, 100.0))
    numbers, size = np.arange(config.batch_size), tuple(config.image_size)
    _, truth = render_examples(numbers, seed=config.seed, split="train", size=size, views=("stereo",))
    assert bool(known.all())
    np.testing.assert_allclose(proxy, np.clip(truth.depth[:, 0], 0.1, 100.0), rtol=1e-5)
    config.data.world_share, config.data.name, config.data.root = 0.5, "frames", "anywhere"
    with pytest.raises(UserError, match="recordings have none"):
        configs.check(config)


def test_every_example_comes_once_an_epoch_in_another_order(drive):
    stream = train_stream(config_for("kitti_raw", drive, batch=7))
    first, second = (next(stream).index.tolist() for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second


def test_order_depends_on_the_seed_alone(drive):
    config = config_for("kitti_raw", drive)
    reference = take(train_stream(config), 10)
    for threads in (0, 1, 5):
        config.data.threads = threads
        assert_equal(take(train_stream(config), 10), reference)
    config.seed = 4
    assert [batch.index.tolist() for batch in take(train_stream(config), 10)] != [b.index.tolist() for b in reference]


def test_resume_is_exact_at_any_step(drive):
    config = config_for("kitti_raw", drive)
    stream = train_stream(config)
    take(stream, 5)
    state = stream.get_state()
    assert state == {"step": 5, "recorded": 5 * config.batch_size, "rendered": 0}
    reference = take(stream, 6)
    fresh = train_stream(config)
    fresh.set_state(state)
    assert_equal(take(fresh, 6), reference)
    stream.set_state(state)  # back in time, in the same stream
    assert_equal(take(stream, 6), reference)


def test_another_batch_size_goes_on_with_the_next_examples_of_both_parts(drive):
    config = config_for("kitti_raw", drive, batch=4)
    config.data.world_share = 0.5
    stream = train_stream(config)
    before = take(stream, 3)
    recorded = [index for batch in before for index in batch.index[:2].tolist()]
    rendered = [index for batch in before for index in batch.index[2:].tolist()]
    config.batch_size, after = 12, []
    for shard in range(3):
        each = train_stream(config, shard, 3)
        each.set_state(stream.get_state())
        after.append(next(each))
    recorded += [index for batch in after for index in batch.index[:2].tolist()]
    rendered += [index for batch in after for index in batch.index[2:].tolist()]
    assert rendered == list(range(12))
    assert sorted(recorded[:7]) == list(range(7))  # the first epoch
    older = train_stream(config)
    older.set_state({"step": 3})  # of a version that did not count examples
    assert older.get_state() == {"step": 3, "recorded": 18, "rendered": 18}


def test_hosts_share_every_batch(drive):
    config = config_for("kitti_raw", drive, batch=6)
    whole = [batch.index.tolist() for batch in take(train_stream(config), 4)]
    shards = [[batch.index.tolist() for batch in take(train_stream(config, shard, 2), 4)] for shard in range(2)]
    assert [sorted(a + b) for a, b in zip(*shards, strict=True)] == [sorted(batch) for batch in whole]
    with pytest.raises(UserError, match="cannot be divided by 4 hosts"):
        train_stream(config, 0, 4)


def test_truncated_image_is_replaced_counted_and_logged(drive, caplog):
    config = config_for("kitti_raw", drive, views=("next",), batch=6)
    healthy = next(train_stream(config))
    expected = dict(zip(healthy.index.tolist(), healthy.target, strict=True))
    truncate(images_of(drive, 3))
    stream = train_stream(config)
    batch = next(stream)
    # Examples 2 (as its next frame) and 3 (as its target) need frame 3; example 4 is the next one that can be read.
    assert sorted(batch.index.tolist()) == [0, 1, 4, 4, 4, 5]
    for index, target in zip(batch.index, batch.target, strict=True):
        np.testing.assert_array_equal(target, expected[int(index)])
    assert stream.bad_images == 1
    assert sum(images_of(drive, 3).name in record.getMessage() for record in caplog.records) == 1
    take(stream, 3)
    assert stream.bad_images == 1  # the same image is counted once


def test_missing_image_counts_as_bad(drive):
    stream = train_stream(config_for("kitti_raw", drive, batch=7))
    images_of(drive, 6).unlink()
    next(stream)
    assert stream.bad_images == 1


def test_too_many_bad_images_stop_the_training(drive):
    for number in range(4):
        truncate(images_of(drive, number))
    stream = train_stream(config_for("kitti_raw", drive, max_bad_images=3))
    with pytest.raises(UserError, match=r"max_bad_images=3 .*\.jpg"):
        take(stream, 7)
    assert train_stream(config_for("kitti_raw", drive, max_bad_images=4, batch=7)).__next__().target.shape[0] == 7


def test_all_images_bad(drive):
    for number in range(7):
        truncate(images_of(drive, number))
    with pytest.raises(UserError, match=r"\.jpg"):
        next(train_stream(config_for("kitti_raw", drive)))


def test_small_recordings_are_decoded_once(drive):
    stream = train_stream(config_for("kitti_raw", drive, size=SIZE, batch=7))
    first = next(stream)
    for number in range(7):
        images_of(drive, number).unlink()
    second = next(stream)
    assert stream.bad_images == 0
    for batch in (first, second):
        for index, target in zip(batch.index, batch.target, strict=True):
            np.testing.assert_allclose(target.astype(float), picture(int(index)), atol=8)


def fake_render(indices, *, seed, split, size, views, devices):
    """Stands in for the renderer: every pixel is the example's index."""
    count = len(indices)
    images = np.broadcast_to(np.asarray(indices, np.uint8)[:, None, None, None], (count, *size, 3))
    batch = Batch(
        target=jax.numpy.asarray(images),
        sources=jax.numpy.asarray(np.stack([images] * len(views), axis=1)),
        source_valid=jax.numpy.ones((count, len(views)), bool),
        camera=Camera(jax.numpy.full((count, 2), 50.0), jax.numpy.full((count, 2), 15.5), size),
        baseline=jax.numpy.full(count, 0.5),
        speed=jax.numpy.ones((count, len(views))),
        index=jax.numpy.asarray(indices, jax.numpy.int32),
        source_names=views,
    )
    assert (seed, split) == (3, "train")
    return batch, None


@pytest.fixture
def renderer(monkeypatch):
    monkeypatch.setattr("robustdepth.world.generate.render_examples", fake_render)


def test_world_alone(tmp_path, renderer):
    stream = train_stream(config_for("none", tmp_path, batch=4))
    batches = take(stream, 3)
    assert [batch.index.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert isinstance(batches[0].target, jax.Array)
    stream.set_state({"step": 1})
    assert next(stream).index.tolist() == [4, 5, 6, 7]


def test_mixed_batches_hold_recordings_first(drive, renderer):
    config = config_for("kitti_raw", drive, batch=4, world_share=0.5)
    recorded = take(train_stream(config_for("kitti_raw", drive, batch=2)), 3)
    mixed = take(train_stream(config), 3)
    for step, (batch, alone) in enumerate(zip(mixed, recorded, strict=True)):
        np.testing.assert_array_equal(batch.target[:2], alone.target)
        np.testing.assert_array_equal(batch.camera.focal[:2], alone.camera.focal)
        assert batch.index[2:].tolist() == [2 * step, 2 * step + 1]
        assert batch.target.dtype == np.uint8
        assert batch.camera.size == (32, 96)
    parts = [take(train_stream(config, shard, 2), 1)[0] for shard in range(2)]
    assert sorted(int(part.index[1]) for part in parts) == [0, 1]
    with pytest.raises(UserError, match="cannot be divided by 4 hosts"):
        train_stream(config, 0, 4)


def test_rendered_and_recorded_batches_are_of_one_kind(tmp_path):
    """The true renderer's batch, traced but not compiled, has the structure, shapes and types of a recording's."""
    write_odometry(tmp_path, "06", cameras=[0, 1])
    config = config_for("kitti_odometry", tmp_path, size=(32, 64), batch=2, views=("stereo",))
    recorded = next(train_stream(config))
    render = functools.partial(render_examples, seed=0, split="train", size=(32, 64), views=("stereo",))
    rendered, _ = jax.eval_shape(render, jax.ShapeDtypeStruct((2,), jax.numpy.int32))
    kinds = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), batch) for batch in (recorded, rendered)]
    assert kinds[0] == kinds[1]


def test_unknown_recording_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="did you mean kitti_raw"):
        train_stream(config_for("kiti_raw", tmp_path))


def test_a_world_that_leaves_no_recordings_is_told(drive, renderer, caplog):
    train_stream(config_for("kitti_raw", drive, batch=4, world_share=1.0))
    assert f"nothing of config.data.root={drive} is read" in caplog.text


def test_a_velocity_loss_needs_a_speed(tmp_path):
    config = config_for("frames", tmp_path)
    config.loss.velocity = 1.0
    write_clip(tmp_path / "clip")
    with pytest.raises(UserError, match=f"velocity needs the camera's speed, and {tmp_path} has none"):
        train_stream(config)
    (tmp_path / "clip" / "camera.json").write_text(json.dumps(CAMERA | {"fps": 10, "speed": 5.0}))
    assert next(train_stream(config)).speed.max() == pytest.approx(0.5)

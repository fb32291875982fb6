"""The frozen protocols: their constants, crops, alignment names and samples."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.evaluation.protocols import PROTOCOLS, check_size, resolve_alignment, valid_pixels
from robustdepth.evaluation.samples import protocol_samples
from robustdepth.types import Camera

EVAL_DRIVES = ("2011_09_26/2011_09_26_drive_9001_sync", "2011_09_26/2011_09_26_drive_0005_sync")


def test_eigen_constants():
    eigen, improved = PROTOCOLS["kitti_eigen"], PROTOCOLS["kitti_eigen_improved"]
    assert (eigen.count, eigen.valid, eigen.clip) == (697, (1e-3, 80.0), (1e-3, 80.0))
    assert (improved.count, improved.valid, improved.clip) == (652, (0.0, float("inf")), (1e-3, 80.0))
    assert PROTOCOLS["kitti_sparse_frames"] == dataclasses.replace(
        eigen, name="kitti_sparse_frames", title=PROTOCOLS["kitti_sparse_frames"].title, count=None
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        eigen.clip = (0.0, 1.0)


@pytest.mark.parametrize(
    ("size", "rows", "columns"), [((375, 1242), (153, 371), (44, 1197)), ((370, 1226), (151, 366), (44, 1181))]
)
def test_eigen_crop(size, rows, columns):
    mask = valid_pixels(PROTOCOLS["kitti_eigen"], np.full(size, 10.0))
    assert mask.sum() == (rows[1] - rows[0]) * (columns[1] - columns[0])
    assert mask[rows[0], columns[0]]
    assert mask[rows[1] - 1, columns[1] - 1]


def test_valid_range_is_open():
    depth = np.array([[0.0, 1e-3, 0.5, 79.9, 80.0, 100.0]])
    np.testing.assert_array_equal(valid_pixels(PROTOCOLS["world"], depth)[0], [0, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(valid_pixels(PROTOCOLS["kitti_eigen_improved"], depth)[0], [0, 1, 1, 1, 1, 1])


def test_alignment_follows_the_scale_and_an_override_shows_in_the_name():
    eigen, world = PROTOCOLS["kitti_eigen"], PROTOCOLS["world"]
    assert resolve_alignment(eigen, "relative") == ("median", "kitti_eigen")
    assert resolve_alignment(eigen, "metric") == ("none", "kitti_eigen")
    assert resolve_alignment(world, "metric") == ("median", "world")
    assert resolve_alignment(world, "metric", "none") == ("none", "world[alignment=none]")
    assert resolve_alignment(eigen, "metric", "none") == ("none", "kitti_eigen")
    assert resolve_alignment(eigen, "affine") == ("least_squares", "kitti_eigen")
    assert resolve_alignment(world, "affine") == ("least_squares", "world[alignment=least_squares]")
    assert resolve_alignment(world, "affine", "median") == ("median", "world")


def test_unknown_protocol_names_the_nearest():
    with pytest.raises(UserError, match="unknown protocol 'kiti_eigen': did you mean kitti_eigen"):
        PROTOCOLS.find("kiti_eigen")


def test_sizes_that_cannot_belong_together():
    check_size(PROTOCOLS["kitti_eigen"], (192, 640), (375, 1242), "frame")
    with pytest.raises(UserError, match=r"prediction for frame has size \(640, 192\).*same view"):
        check_size(PROTOCOLS["kitti_eigen"], (640, 192), (375, 1242), "frame")
    with pytest.raises(UserError, match="needs predictions of that size"):
        check_size(PROTOCOLS["world"], (32, 64), (64, 128), "frame")


def test_what_a_protocol_needs():
    with pytest.raises(UserError, match="kitti_eigen needs --data_root"):
        protocol_samples(PROTOCOLS["kitti_eigen"])
    with pytest.raises(UserError, match="needs --split=FILE, the list of its 697 test frames"):
        protocol_samples(PROTOCOLS["kitti_eigen"], data_root="/tmp")
    with pytest.raises(UserError, match="world renders at the model's own size"):
        protocol_samples(PROTOCOLS["world"])


def test_world_samples_are_the_first_hundred_evaluation_worlds(monkeypatch):
    asked = []

    def render_examples(indices, *, seed, split, size, views, devices):
        asked.append((seed, split, size, views))
        count = len(indices)
        camera = Camera(np.ones((count, 2), np.float32), np.ones((count, 2), np.float32), size)
        depth = np.ones((count, 1, *size), np.float32) * np.asarray(indices)[:, None, None, None]
        target = np.zeros((count, *size, 3), np.uint8)
        return SimpleNamespace(target=target, camera=camera), SimpleNamespace(depth=depth)

    monkeypatch.setattr("robustdepth.world.generate.render_examples", render_examples)
    samples = protocol_samples(PROTOCOLS["world"], size=(4, 6))
    assert [sample.depth[0, 0] for sample in samples] == list(range(100))
    assert set(asked) == {(0, "evaluation", (4, 6), ())}
    assert samples[99].name == "world_00099"
    assert samples[99].camera.focal.shape == (2,)
    with pytest.raises(IndexError):
        samples[100]


def test_sparse_frames_of_the_evaluation_drives(real_data):
    samples = protocol_samples(
        PROTOCOLS["kitti_sparse_frames"], data_root=str(real_data / "kitti_raw"), drives=EVAL_DRIVES
    )
    assert len(samples) == 56
    mask = valid_pixels(PROTOCOLS["kitti_sparse_frames"], samples[0].depth)
    assert mask.sum() > 5_000
    assert 3 < np.median(samples[0].depth[mask]) < 30

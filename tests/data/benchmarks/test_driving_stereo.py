"""DrivingStereo's weather subsets: pairing, depth, and what is said about copies that are not whole."""

import shutil

import numpy as np
import pytest

from robustdepth.data.benchmarks.datasets import open_condition
from robustdepth.errors import UserError
from tests.adverse_recordings import write_driving_stereo, write_png16
from tests.recordings import picture


@pytest.mark.parametrize("nested", [False, True])
def test_frames_with_depth_in_metres(tmp_path, nested):
    depths = write_driving_stereo(tmp_path, "rainy", nested=nested)
    samples = open_condition("drivingstereo_rainy", tmp_path)
    assert [sample.name for sample in samples] == [
        f"2018-08-17-09-45-58_2018-08-17-10-11-{16 + number}-157" for number in range(3)
    ]
    for number, sample in enumerate(samples):
        np.testing.assert_array_equal(sample.depth, depths[number])
        np.testing.assert_array_equal(sample.image, picture(number, (40, 88)))
        assert sample.depth.dtype == np.float32
        assert sample.camera.size == (40, 88)
    with pytest.raises(IndexError):
        samples[3]


def test_what_is_missing_is_named(tmp_path):
    write_driving_stereo(tmp_path, "foggy")
    folder = tmp_path / "foggy"
    with pytest.raises(UserError, match=r"rainy/left-image-full-size is missing: unpack .*zip"):
        open_condition("drivingstereo_rainy", tmp_path)
    with pytest.raises(UserError, match=r"nowhere is no folder: it must hold sunny\|cloudy"):
        open_condition("drivingstereo_rainy", tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"unknown condition 'drivingstereo_fog'; did you mean drivingstereo_foggy"):
        open_condition("drivingstereo_fog", tmp_path)
    with pytest.raises(UserError, match=r"fixed set of frames: leave --split=list\.txt out"):
        open_condition("drivingstereo_foggy", tmp_path, "list.txt")
    first = min((folder / "depth-map-full-size").iterdir())
    write_png16(first, np.zeros((20, 44)))
    with pytest.raises(UserError, match="44x20 pixels, its image 88x40"):
        open_condition("drivingstereo_foggy", tmp_path)[0]
    first.unlink()
    with pytest.raises(UserError, match=r"11-16-157\.png has no ground truth \(1 such files of 3 frames"):
        open_condition("drivingstereo_foggy", tmp_path)
    shutil.rmtree(folder / "left-image-full-size")
    (folder / "left-image-full-size").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        open_condition("drivingstereo_foggy", tmp_path)

"""Cityscapes and its fog: depth from disparity, the region that counts, what is missing."""

import numpy as np
import pytest

from robustdepth.data.benchmarks.datasets import open_condition
from robustdepth.errors import UserError
from robustdepth.evaluation.protocols import PROTOCOLS, valid_pixels
from tests.adverse_recordings import write_cityscapes

DISPARITY = np.full((1024, 2048), 20.0)
DISPARITY[300] = np.nan  # unknown
DISPARITY[301] = 0.0  # infinitely far


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cityscapes")
    write_cityscapes(folder, DISPARITY)
    return folder


def test_depth_is_focal_length_times_baseline_over_disparity(root):
    (sample,) = open_condition("cityscapes_foggy", root)
    assert sample.name == "berlin/berlin_000000_000019"
    assert sample.image.shape == (768, 2048, 3)
    assert sample.depth.shape == (768, 2048)
    assert sample.depth[0, 0] == pytest.approx(2262 * 0.209 / 20)
    assert not sample.depth[300:302].any()
    assert sample.camera.size == (768, 2048)
    np.testing.assert_allclose(sample.camera.center, (1096, 513))


def test_the_fogs_are_told_apart(root):
    names = ("cityscapes_foggy", "cityscapes_foggy_0.01", "cityscapes_foggy_0.005", "cityscapes")
    dense, medium, thin, clear = (open_condition(name, root)[0].image.astype(int) for name in names)
    np.testing.assert_array_equal(dense - medium, np.full(dense.shape, 10))
    np.testing.assert_array_equal(medium - thin, np.full(dense.shape, 5))
    np.testing.assert_array_equal(clear // 2 + 20, dense)


def test_the_region_that_counts():
    mask = valid_pixels(PROTOCOLS["cityscapes_foggy"], np.full((768, 2048), 10.0))
    wanted = np.zeros((768, 2048), bool)
    wanted[256:768, 192:1856] = True
    np.testing.assert_array_equal(mask, wanted)


def test_what_is_missing_is_named(tmp_path):
    write_cityscapes(tmp_path, DISPARITY)
    camera = tmp_path / "camera/test/berlin/berlin_000000_000019_camera.json"
    camera.write_text("{}")
    with pytest.raises(UserError, match=r"_camera\.json: KeyError\('intrinsic'\)"):
        open_condition("cityscapes", tmp_path)[0]
    camera.unlink()
    with pytest.raises(UserError, match=r"000019_camera\.json is missing"):
        open_condition("cityscapes", tmp_path)
    (tmp_path / "disparity/test/berlin/berlin_000000_000019_disparity.png").unlink()
    with pytest.raises(UserError, match=r"000019_disparity\.png is missing \(1 such files of 1 frames"):
        open_condition("cityscapes", tmp_path)
    with pytest.raises(UserError, match="leftImg8bit/test is missing"):
        open_condition("cityscapes", tmp_path / "disparity")

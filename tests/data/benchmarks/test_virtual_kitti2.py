"""Virtual KITTI 2: both ways to unpack it, centimetres, one camera."""

import numpy as np
import pytest

from robustdepth.data.benchmarks.datasets import open_condition
from robustdepth.errors import UserError
from tests.adverse_recordings import write_virtual_kitti2


@pytest.mark.parametrize("apart", [False, True])
def test_frames_of_all_scenes(tmp_path, apart):
    depth = write_virtual_kitti2(tmp_path, "rain", apart=apart)
    samples = open_condition("vkitti2_rain", tmp_path)
    assert [sample.name for sample in samples] == [f"Scene{n}/rain 00000" for n in ("01", "02", "06", "18", "20")]
    np.testing.assert_allclose(samples[4].depth, depth, rtol=1e-6)
    assert samples[0].depth[0, 0] == np.float32(655.35)  # the sky
    np.testing.assert_allclose(samples[0].camera.center, (620.5, 187.0))


def test_what_is_missing_is_named(tmp_path):
    write_virtual_kitti2(tmp_path, "fog")
    with pytest.raises(UserError, match=r"Scene01/rain/frames/rgb/Camera_0 is missing: unpack vkitti_2\.0\.3_rgb"):
        open_condition("vkitti2_rain", tmp_path)
    (tmp_path / "Scene06" / "fog" / "frames" / "depth" / "Camera_0" / "depth_00000.png").unlink()
    with pytest.raises(UserError, match=r"Scene06/fog/frames/depth/Camera_0/depth_00000\.png is missing"):
        open_condition("vkitti2_fog", tmp_path)

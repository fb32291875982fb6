"""What a training shows at its end."""

import numpy as np

from robustdepth.training.progress import result_picture


def test_the_result_stands_beside_its_input_near_bright():
    target = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    disparity = np.repeat(np.linspace(0, 255, 16).astype(np.uint8)[:, None, None], 24, axis=1).repeat(3, axis=2)
    picture = result_picture({"target": target, "disparity": disparity, "error": target})
    assert picture is not None
    shown = np.asarray(picture)
    assert shown.shape == (32, 96, 3)
    np.testing.assert_array_equal(shown[:, :48], target)
    brightness = shown[:, 48:].mean(axis=(1, 2))
    assert brightness[-1] > 200 > 60 > brightness[0]


def test_other_networks_have_none():
    assert result_picture({"left": np.zeros((8, 8, 3), np.uint8)}) is None

"""Pairs that cannot be matched row by row are told from those that can."""

import cv2
import numpy as np
import pytest

from robustdepth.data.images import read_image
from robustdepth.data.stereo.pair_check import ENOUGH, check_pair, matched_shifts
from robustdepth.errors import UserError

SIZE = (120, 400)


def texture_pair(disparity: float = 8.0, rows: float = 0.0, turned: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Blobs seen `disparity` pixels further left, `rows` lower and `turned` degrees in the right view."""
    rng = np.random.default_rng(0)
    noise = sum(
        cv2.resize(rng.normal(size=(40 * k, 120 * k)), (480, 160), interpolation=cv2.INTER_CUBIC) for k in (1, 2)
    )
    canvas = np.clip(127 + 45 * noise, 0, 255).astype(np.uint8)
    left = canvas[20 : 20 + SIZE[0], 40 : 40 + SIZE[1]]
    matrix = cv2.getRotationMatrix2D((240, 80), turned, 1.0)
    matrix[:, 2] += (-disparity, rows)
    moved = cv2.warpAffine(canvas, matrix, (480, 160), borderMode=cv2.BORDER_REFLECT)
    right = moved[20 : 20 + SIZE[0], 40 : 40 + SIZE[1]]
    return tuple(np.repeat(image[..., None], 3, axis=2) for image in (left, right))


def test_shifts_are_those_of_the_images():
    shifts = matched_shifts(*texture_pair(disparity=8.0, rows=3.0))
    assert len(shifts) > 100
    np.testing.assert_allclose(np.median(shifts, axis=0), (8.0, -3.0), atol=0.2)


@pytest.mark.parametrize("disparity", [0.0, 8.0, 60.0])
def test_rectified_pairs_pass(disparity):
    check_pair(*texture_pair(disparity), "clip 3")
    check_pair(*texture_pair(disparity, rows=1.0), "clip 3")  # calibration is never perfect


@pytest.mark.parametrize("change", [{"rows": 3.0}, {"rows": -4.0}, {"turned": 3.0}])
def test_unrectified_pairs_are_refused(change):
    with pytest.raises(UserError, match=r"the pair 'clip 3' is not rectified: the rows of \d+ .*; rectify the images"):
        check_pair(*texture_pair(**change), "'clip 3'")


def test_swapped_pairs_are_refused():
    left, right = texture_pair(8.0)
    with pytest.raises(UserError, match=r"the pair 'clip 3' is swapped: \d+ matched points have a disparity of -8\.0"):
        check_pair(right, left, "'clip 3'")


def test_few_matches_say_nothing():
    plain = np.full((*SIZE, 3), 80, np.uint8)
    check_pair(plain, plain, "clip 3")
    left, right = texture_pair(8.0)
    spot = np.zeros_like(left), np.zeros_like(left)
    for view, image in zip(spot, (right, left), strict=True):  # swapped, but next to nothing is to be seen
        view[50:70, 100:140] = image[50:70, 100:140]
    assert len(matched_shifts(*spot)) < ENOUGH
    check_pair(*spot, "clip 3")


@pytest.mark.parametrize("sequence", ["06", "91"])
def test_real_pairs(real_data, sequence):
    folder = real_data / "kitti_odometry" / "sequences" / sequence
    if not (folder / "image_1").is_dir():
        pytest.skip(f"no pairs of sequence {sequence} in {folder}")
    names = sorted(path.name for path in (folder / "image_0").iterdir())
    for name in (names[0], names[len(names) // 2]):
        left, right = (read_image(folder / camera / name) for camera in ("image_0", "image_1"))
        check_pair(left, right, name)
        small = [cv2.resize(image, (416, 128), interpolation=cv2.INTER_AREA) for image in (left, right)]
        check_pair(*small, name)
        with pytest.raises(UserError, match="swapped"):
            check_pair(right, left, name)
        with pytest.raises(UserError, match="swapped"):
            check_pair(small[1], small[0], name)
        with pytest.raises(UserError, match="not rectified"):
            check_pair(left[:-3], right[3:], name)

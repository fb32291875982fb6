"""KITTI odometry: grey and colour cameras, stereo pairs, mixed sequences and poses."""

import numpy as np
import pytest

from robustdepth.data.recordings.kitti_odometry import ground_truth_poses
from robustdepth.data.source import build_source
from robustdepth.errors import UserError
from tests.recordings import CX, CY, FX, FY, config_for, picture, write_kitti_odometry

VIEWS = ("previous", "next", "stereo")


def test_mono_and_stereo_sequences_mix(tmp_path):
    write_kitti_odometry(tmp_path, "00", cameras=[0])
    write_kitti_odometry(tmp_path, "06", cameras=[0, 1], count=3)
    source = build_source(config_for("kitti_odometry", tmp_path, views=VIEWS))
    assert len(source) == 4 + 2 * 3
    examples = {
        (view.target.clip, view.target.number, view.target.side): source[i] for i, view in enumerate(source.views)
    }
    mono, left, right = (examples[key] for key in (("00", 1, "l"), ("06", 1, "l"), ("06", 2, "r")))
    assert mono.source_valid.tolist() == [True, True, False]
    assert mono.baseline == 0
    assert not mono.sources[2].any()
    assert left.source_valid.tolist() == [True, True, True]
    assert right.source_valid.tolist() == [True, False, True]
    np.testing.assert_allclose([left.baseline, right.baseline], [0.54, -0.54], rtol=1e-6)


def test_stereo_alone_leaves_out_what_has_no_second_camera(tmp_path):
    write_kitti_odometry(tmp_path, "00", cameras=[0])
    write_kitti_odometry(tmp_path, "06", cameras=[0, 1], count=3)
    source = build_source(config_for("kitti_odometry", tmp_path, views=("stereo",)))
    assert {view.target.clip for view in source.views} == {"06"}
    with pytest.raises(UserError, match="views stereo"):
        build_source(config_for("kitti_odometry", tmp_path, views=("stereo",), sequences=("00",)))


def test_colour_cameras_are_preferred(tmp_path):
    write_kitti_odometry(tmp_path, "03", cameras=[0, 1, 2, 3])
    source = build_source(config_for("kitti_odometry", tmp_path, size=(48, 160), views=VIEWS))
    np.testing.assert_array_equal(source[0].target, picture(20))
    np.testing.assert_array_equal(source[0].sources[2], picture(30))
    np.testing.assert_allclose(source[0].baseline, 0.53, rtol=1e-6)
    np.testing.assert_allclose([*source[0].focal, *source[0].center], [FX, FY, CX, CY])


def test_unknown_sequence_and_missing_images(tmp_path):
    write_kitti_odometry(tmp_path, "00", cameras=[])
    with pytest.raises(UserError, match=r"'07' is not under"):
        build_source(config_for("kitti_odometry", tmp_path, sequences=("07",)))
    with pytest.raises(UserError, match=r"no images in .*sequences/00"):
        build_source(config_for("kitti_odometry", tmp_path))


def test_damaged_calibration_and_poses(tmp_path):
    write_kitti_odometry(tmp_path, "00", cameras=[0])
    path = tmp_path / "sequences" / "00" / "calib.txt"
    whole = path.read_text()
    path.write_text(whole.replace("P1:", "P1: #"))
    with pytest.raises(UserError, match=r"calib\.txt line 2: row P1 holds something that is no number"):
        build_source(config_for("kitti_odometry", tmp_path))
    for text in ("", "1 2 3\n", "nan " * 12, "1 " * 13, "\xff"):
        (tmp_path / "poses" / "00.txt").write_text(text, encoding="latin-1")
        if text:
            with pytest.raises(UserError, match=r"cannot read poses .*00\.txt"):
                ground_truth_poses(tmp_path, "00")
        else:
            assert len(ground_truth_poses(tmp_path, "00")) == 0


def test_poses(tmp_path):
    write_kitti_odometry(tmp_path, "00", cameras=[0])
    poses = ground_truth_poses(tmp_path, "00")
    assert poses.shape == (4, 4, 4)
    assert poses.dtype == np.float64
    np.testing.assert_array_equal(poses[2], [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]])
    with pytest.raises(UserError, match=r"poses/05\.txt"):
        ground_truth_poses(tmp_path, "05")
    (tmp_path / "poses" / "05.txt").write_text("1 2 3\n")
    with pytest.raises(UserError, match=r"poses/05\.txt"):
        ground_truth_poses(tmp_path, "05")


def test_real_sequences(real_data):
    root = real_data / "kitti_odometry"
    source = build_source(config_for("kitti_odometry", root, size=(64, 208), views=VIEWS))
    assert len(source) == 200 + 2 * 51 + 2 * 51 + 2 * 150
    example = source[[view.target.name for view in source.views].index("06 0000000010 l")]
    assert example.source_valid.all()
    np.testing.assert_allclose(example.baseline, 0.537, atol=1e-3)
    poses = ground_truth_poses(root, "06")
    assert len(poses) == 51
    np.testing.assert_allclose(np.linalg.det(poses[:, :3, :3]), 1, atol=1e-5)


def test_real_right_images_are_shifted_as_the_baseline_says(real_data):
    """A positive baseline puts the other camera to the right, so the scene moves left in its image."""
    root = real_data / "kitti_odometry"
    source = build_source(config_for("kitti_odometry", root, size=(96, 320), views=("stereo",), sequences=("06",)))
    for index, view in [(i, view) for i, view in enumerate(source.views) if view.target.number == 20]:
        example = source[index]
        target, other = (image[70:, :, 0].astype(float) for image in (example.target, example.sources[0]))
        errors = {shift: np.abs(np.roll(other, shift, axis=1) - target)[:, 40:-40].mean() for shift in range(-30, 31)}
        assert np.sign(min(errors, key=errors.get)) == np.sign(example.baseline), view.target.side

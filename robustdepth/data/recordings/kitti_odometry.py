"""KITTI odometry: sequences/NN/image_{0,1,2,3}, calib.txt and poses/NN.txt (Geiger et al., CVPR 2012)."""

import pathlib

import numpy as np
from ml_collections import ConfigDict

from robustdepth.data.calibration import read_calibration
from robustdepth.data.images import image_size, numbered_images
from robustdepth.data.recordings.clips import RECORDINGS, Frame, Recording, read_file, select
from robustdepth.data.recordings.kitti_raw import right_camera_x
from robustdepth.data.text import read_text
from robustdepth.errors import UserError


@RECORDINGS.listed("kitti_odometry")
def open_recording(data: ConfigDict) -> Recording:
    """All frames of the sequences: the colour cameras 2 and 3 where a sequence has them, else the grey ones 0 and 1.

    Raises UserError where a sequence or its calibration is missing or damaged.
    """
    root = pathlib.Path(data.root)
    found = sorted(path.parent.name for path in root.glob("sequences/*/calib.txt"))
    names = select(found, data.sequences, "odometry sequence (sequences/NN/calib.txt)", root)
    frames = [frame for name in names for frame in sequence_frames(root, name)]
    return Recording(frames, read_file)


def sequence_frames(root: pathlib.Path, name: str) -> list[Frame]:
    """The frames of one sequence, left camera first."""
    folder = root / "sequences" / name
    colour = any((folder / f"image_{camera}").is_dir() for camera in (2, 3))
    cameras = {"l": 2, "r": 3} if colour else {"l": 0, "r": 1}
    rows = [f"P{camera}" for camera in cameras.values()]
    calibration = read_calibration(folder / "calib.txt", rows)
    to_right, frames = right_camera_x(calibration, *rows), []
    for side, camera in cameras.items():
        images = numbered_images(folder / f"image_{camera}")
        if not images:
            continue
        size = image_size(next(iter(images.values())))
        intrinsics = calibration.camera(f"P{camera}", size)
        baseline = to_right if side == "l" else -to_right
        frames += [Frame(name, number, side, path, intrinsics, baseline) for number, path in images.items()]
    if not frames:
        raise UserError(f"no images in {folder}/image_0 to image_3; unpack the sequence's images there.")
    return frames


def ground_truth_poses(root: str | pathlib.Path, sequence: str) -> np.ndarray:
    """Camera-to-world poses of the left camera, float64 [frame, 4, 4]. Raises UserError."""
    path = pathlib.Path(root) / "poses" / f"{sequence}.txt"
    try:
        lines = [line for line in read_text(path).split("\n") if line.strip()]
        rows = np.array([line.split() for line in lines], np.float64).reshape(-1, 3, 4)
        if not np.isfinite(rows).all():
            raise ValueError("it holds numbers that are not finite")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read poses {path}: {error}; give 12 numbers a line.") from error
    return np.concatenate([rows, np.broadcast_to([[[0.0, 0, 0, 1]]], (len(rows), 1, 4))], axis=1)

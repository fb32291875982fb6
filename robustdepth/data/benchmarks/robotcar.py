"""Oxford RobotCar (Maddern et al., IJRR 2017) by day and by night, in the form that md4all's preparation leaves.

The published numbers need steps that only md4all's public scripts define (demosaicing, undistortion, and clouds that
gather the front laser over 4 s along visual odometry), so this reads what those scripts write instead of doing
them differently. Verified against them: file names, clouds of float32 [3, point] in the camera's body frame, lines of
the test lists, the upper 768 of 960 rows. Verified against the RobotCar SDK: the camera model file.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from robustdepth.data.benchmarks.listed import DATASETS, Dataset, Listed, complete, first_folder, read_list
from robustdepth.data.benchmarks.protocol import add_protocols
from robustdepth.data.calibration import camera_of
from robustdepth.data.images import find_image, read_image
from robustdepth.data.lidar import project_lidar
from robustdepth.data.text import read_text
from robustdepth.errors import BadFile, UserError
from robustdepth.geometry.camera import crop_camera
from robustdepth.types import Camera, EvalSample

SIZE = (960, 1280)
ROWS = 768
TRAVERSALS = {"robotcar_day": "2014-12-09-13-21-02", "robotcar_night": "2014-12-16-18-44-24"}
CLOUDS = "lms_front_synchronized/vo/time_margin=+-4.0e+06"
MODEL = "models/stereo_wide_left.txt"
SPLIT_FORMAT = "TIMESTAMP (the image's name)"
_ADVICE = "prepare the traversal with md4all's precompute_rgb_images.py and precompute_depth_gt.py (docs/datasets.md)."


class _Frame(NamedTuple):
    name: str
    image: pathlib.Path
    cloud: pathlib.Path
    camera: Camera
    projection: np.ndarray


def open_traversal(root: pathlib.Path, condition: str, split: str = "") -> Sequence[EvalSample]:
    """The test frames of "robotcar_day" or "robotcar_night": those of `split`, else of splits/TRAVERSAL_test.txt.

    Raises UserError where files are missing.
    """
    traversal = TRAVERSALS[condition]
    images = first_folder([root / traversal / "stereo" / "left"], _ADVICE)
    camera, projection = read_camera_model(root / MODEL)
    lines = read_list(split or root / "splits" / f"{traversal}_test.txt", SPLIT_FORMAT)
    frames = []
    for stamp in (line.split()[0] for line in lines):
        cloud = root / traversal / CLOUDS / f"{stamp}.pcd.bin"
        image = find_image(images, stamp) or images / f"{stamp}.png"
        frames.append(_Frame(f"{traversal} {stamp}", image, cloud, camera, projection))
    complete([(frame.name, frame.image, frame.cloud) for frame in frames], images.parent, _ADVICE)
    return Listed(frames, _read)


def read_camera_model(path: pathlib.Path) -> tuple[Camera, np.ndarray]:
    """The undistorted camera, and the projection [3, 4] of points in its body frame (x ahead, y right, z down).

    The file holds fx fy cx cy, then the [4, 4] transform from the image's frame to the body's. Raises UserError.
    """
    try:
        values = np.array(read_text(path).split(), np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds numbers that are not finite")
        (fx, fy, cx, cy), body_to_image = values[:4], np.linalg.inv(values[4:20].reshape(4, 4))
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read camera model {path}: {error}; copy 'models' of the RobotCar SDK there."
        ) from error
    intrinsics = np.array([[fx, 0, cx, 0], [0, fy, cy, 0], [0, 0, 1, 0]])
    return camera_of(path, fx, fy, cx, cy, SIZE), intrinsics @ body_to_image


def read_cloud(path: pathlib.Path) -> np.ndarray:
    """Points [point, 3] of a gathered cloud: all x, then all y, then all z. Raises BadFile."""
    try:
        points = np.fromfile(path, np.float32).reshape(3, -1).T
        points = points[np.isfinite(points).all(axis=1)]
        if not len(points):
            raise ValueError("it holds no point")
        return points
    except (OSError, ValueError) as error:
        raise BadFile(f"cannot read cloud {path}: {error}; {_ADVICE}") from error


def _read(frame: _Frame) -> EvalSample:
    image = read_image(frame.image, full_size=SIZE)
    with Image.open(frame.image) as header:
        if header.mode == "L":
            raise UserError(f"{frame.image} is a raw sensor image: {_ADVICE}")
    depth = project_lidar(read_cloud(frame.cloud), frame.projection, SIZE)
    return EvalSample(image[:ROWS], depth[:ROWS], crop_camera(frame.camera, 0, 0, (ROWS, SIZE[1])), frame.name)


DATASETS.add(
    "robotcar",
    Dataset(
        title="Oxford RobotCar, day and night",
        page="https://robotcar-dataset.robots.ox.ac.uk/datasets (traversals 2014-12-09-13-21-02 and "
        "2014-12-16-18-44-24: stereo left, LMS front, VO), prepared by the scripts of https://github.com/md4all/md4all",
        layout=f"TRAVERSAL/stereo/left/*.png (RGB, undistorted), TRAVERSAL/{CLOUDS}/*.pcd.bin, {MODEL}, "
        "splits/TRAVERSAL_test.txt",
        conditions=dict.fromkeys(TRAVERSALS),
        open=open_traversal,
        split_format=SPLIT_FORMAT,
    ),
)
add_protocols("robotcar", valid=(0.1, 50.0), clip=(0.1, 50.0), resize="depth_corners")

"""Canadian Adverse Driving Conditions (Pitropov et al., IJRR 2021): front camera in snow, with LiDAR.

Verified against cadc_devkit: folders, calibration files and the direction of T_LIDAR_CAM00, undistorted images in
"labeled", scans of four floats, points nearer than 2 m left out. Verified against WeatherDepth (Wang et al., 3DV
2024): rows 234:774 of the image and of the ground truth, the lines of the test list. Assumed: one scan per image; how
WeatherDepth made its ground-truth file is not public. Snow flakes that the LiDAR hit count as depth.
"""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import yaml

from robustdepth.data.benchmarks.listed import DATASETS, Dataset, Listed, complete, read_list
from robustdepth.data.benchmarks.protocol import ANY_DEPTH, add_protocols
from robustdepth.data.calibration import camera_of
from robustdepth.data.images import find_image, read_image
from robustdepth.data.lidar import project_lidar, read_scan
from robustdepth.data.text import read_text
from robustdepth.errors import UserError
from robustdepth.geometry.camera import crop_camera
from robustdepth.types import Camera, EvalSample

TOP, ROWS = 234, 540
SPLIT_FORMAT = "DATE/SEQUENCE/labeled/image_00/data/FRAME.png"
_MIN_DEPTH = 2.0
_ADVICE = "download labeled.zip of every sequence and calib.zip of every date, and unpack them in their folders."


class _Frame(NamedTuple):
    name: str
    image: pathlib.Path
    scan: pathlib.Path
    camera: Camera
    projection: np.ndarray


def open_frames(root: pathlib.Path, condition: str = "cadc", split: str = "") -> Sequence[EvalSample]:
    """The labelled front images named in `split`. Raises UserError where files are missing, or without `split`."""
    if not split:
        raise UserError(f"cadc needs --split=FILE, WeatherDepth's list of 510 frames: lines {SPLIT_FORMAT}.")
    frames = []
    for line in read_list(split, SPLIT_FORMAT):
        image = find_image((root / line).parent, (root / line).stem) or root / line
        date, sequence, *inside = line.split("/")
        if inside[:-1] != ["labeled", "image_00", "data"]:
            raise UserError(f"{split} names '{line}'; give lines {SPLIT_FORMAT}.")
        scan = image.parent.parent.parent / "lidar_points" / "data" / f"{image.stem}.bin"
        frames.append(_Frame(f"{date}/{sequence} {image.stem}", image, scan, *read_calibration(root / date / "calib")))
    complete([(frame.name, frame.image, frame.scan) for frame in frames], root, _ADVICE)
    return Listed(frames, _read)


@functools.lru_cache
def read_calibration(folder: pathlib.Path) -> tuple[Camera, np.ndarray]:
    """The front camera of a date, and the projection scanner to image, [3, 4]. Raises UserError."""
    values, extrinsics = _read_yaml(folder / "00.yaml"), _read_yaml(folder / "extrinsics.yaml")
    try:
        size = int(values["image_height"]), int(values["image_width"])
        matrix = np.array(values["camera_matrix"]["data"], np.float64).reshape(3, 3)
        to_scanner = np.array(extrinsics["T_LIDAR_CAM00"], np.float64).reshape(4, 4)
        if not (np.isfinite(matrix).all() and np.isfinite(to_scanner).all()):
            raise ValueError("it holds numbers that are not finite")
        to_camera = np.linalg.inv(to_scanner)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"calibration in {folder} is not CADC's: {error!r}; unpack calib.zip again.") from error
    camera_file = folder / "00.yaml"
    camera = camera_of(camera_file, matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], size)
    return camera, matrix @ to_camera[:3]


def _read_yaml(path: pathlib.Path) -> Any:
    try:
        return yaml.safe_load(read_text(path))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"cannot read calibration {path}: {error}; unpack the date's calib.zip there.") from error


def _read(frame: _Frame) -> EvalSample:
    size = frame.camera.size
    image = read_image(frame.image, full_size=size)[TOP : TOP + ROWS]
    depth = project_lidar(read_scan(frame.scan), frame.projection, size, _MIN_DEPTH)[TOP : TOP + ROWS]
    return EvalSample(image, depth, crop_camera(frame.camera, TOP, 0, (ROWS, size[1])), frame.name)


DATASETS.add(
    "cadc",
    Dataset(
        title="CADC, front camera in snow",
        page="http://cadcd.uwaterloo.ca (labeled data; download_cadcd.py of https://github.com/mpitropov/cadc_devkit)",
        layout="DATE/calib/{00,extrinsics}.yaml, DATE/SEQUENCE/labeled/image_00/data/*.png, "
        "DATE/SEQUENCE/labeled/lidar_points/data/*.bin",
        conditions={"cadc": 510},
        open=open_frames,
        split_format=SPLIT_FORMAT,
        needs_split=lambda condition: True,
    ),
)
add_protocols("cadc", valid=ANY_DEPTH, alignment="median")

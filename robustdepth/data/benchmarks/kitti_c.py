"""KITTI-C (Kong et al., RoboDepth, NeurIPS 2023): the Eigen test images under 18 corruptions of 5 severities.

Verified against RoboDepth's scripts: folders NAME/SEVERITY/kitti_data/DATE/DRIVE/image_02/data/FRAME.png inside
kitti_c/ beside KITTI's dates, the names of the corruptions, images of 640x192. Ground truth is that of the clean
protocol, at the size of KITTI's own images.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from robustdepth.data.benchmarks.listed import DATASETS, Dataset, Listed, first_folder
from robustdepth.data.benchmarks.protocol import EIGEN_CROP, add_protocols
from robustdepth.data.calibration import read_calibration
from robustdepth.data.images import find_image, read_image
from robustdepth.data.lidar import project_eigen, read_scan
from robustdepth.data.recordings.clips import read_split
from robustdepth.data.recordings.kitti_raw import (
    CAMERAS,
    lidar_projection,
    rectified_camera,
    scan_path,
)
from robustdepth.errors import UserError
from robustdepth.geometry.camera import resize_camera
from robustdepth.types import EvalSample

PREFIX = "kitti_c_"
CORRUPTIONS = (
    *("brightness", "dark", "fog", "frost", "snow", "contrast"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic_transform", "color_quant"),
    *("gaussian_noise", "impulse_noise", "shot_noise", "iso_noise", "pixelate", "jpeg_compression"),
)
SEVERITIES = range(1, 6)
SPLIT_FORMAT = "DATE/DRIVE_sync FRAME l|r"
_ADVICE = "unpack RoboDepth's kitti_c.zip beside the dates of the KITTI raw recordings."


class _Frame(NamedTuple):
    root: pathlib.Path
    drive: str
    number: int
    side: str
    image: pathlib.Path
    scan: pathlib.Path


def open_corruption(root: pathlib.Path, condition: str, split: str = "") -> Sequence[EvalSample]:
    """The frames of `split` under "kitti_c_NAME_SEVERITY". Raises UserError where files are missing."""
    name, _, severity = condition.removeprefix(PREFIX).rpartition("_")
    images = first_folder([root / "kitti_c" / name / severity / "kitti_data"], _ADVICE)
    if not split:
        raise UserError(f"{condition} needs --split=FILE, the 697 Eigen test frames: lines {SPLIT_FORMAT}.")
    frames = []
    for drive, number, side in read_split(split):
        folder = images / drive / f"image_{CAMERAS[side]}" / "data"
        image, scan = find_image(folder, f"{number:010d}"), scan_path(root, drive, number)
        if not image:
            raise UserError(f"{folder / f'{number:010d}.png'} is missing: {_ADVICE}")
        if not scan:
            raise UserError(
                f"'{drive} {number} {side}' of {split} has no LiDAR scan under {root}: unpack the raw drive."
            )
        frames.append(_Frame(root, drive, number, side, image, scan))
    return Listed(frames, _read)


def _read(frame: _Frame) -> EvalSample:
    day = frame.root / frame.drive.split("/")[0]
    rows = [f"{row}_{CAMERAS[frame.side]}" for row in ("P_rect", "S_rect")]
    camera = rectified_camera(read_calibration(day / "calib_cam_to_cam.txt", rows), frame.side)
    depth = project_eigen(read_scan(frame.scan), lidar_projection(day, frame.side), camera.size)
    image = read_image(frame.image)
    camera = resize_camera(camera, (image.shape[0], image.shape[1]))
    return EvalSample(image, depth, camera, f"{frame.drive} {frame.number:010d} {frame.side}")


DATASETS.add(
    "kitti_c",
    Dataset(
        title="KITTI-C, the Eigen test split under 18 corruptions",
        page="https://github.com/ldkong1205/RoboDepth (docs/DATA_PREPARE.md, kitti_c.zip)",
        layout="kitti_c/NAME/SEVERITY/kitti_data/DATE/DRIVE_sync/image_02/data/*.png, and of KITTI raw "
        "DATE/calib_*.txt and DATE/DRIVE_sync/velodyne_points/data/*.bin",
        conditions={f"{PREFIX}{name}_{severity}": 697 for name in CORRUPTIONS for severity in SEVERITIES},
        open=open_corruption,
        split_format=SPLIT_FORMAT,
        needs_split=lambda condition: True,
    ),
)
add_protocols("kitti_c", EIGEN_CROP, valid=(1e-3, 80.0), own_size=True)

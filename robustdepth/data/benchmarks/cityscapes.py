"""Cityscapes (Cordts et al., CVPR 2016) and Foggy Cityscapes (Sakaridis et al., IJCV 2018), the 1525 test images.

Verified against cityscapesScripts, Robust-Depth and other public loaders: file names, disparity d = (p - 1) / 256 for
p > 0, depth = fx * baseline / d from the camera files, that only the upper 75% of the rows are looked at (the car's
bonnet goes), that published foggy numbers are those of beta 0.02. Assumed: that the ground truth which others evaluate
with, files handed out by ManyDepth's authors, is this depth.
"""

import json
import pathlib
from collections.abc import Sequence

import numpy as np

from robustdepth.data.benchmarks.listed import DATASETS, Dataset, Listed, complete, first_folder, images_below
from robustdepth.data.benchmarks.protocol import add_protocols
from robustdepth.data.calibration import camera_of
from robustdepth.data.images import read_image
from robustdepth.data.lidar import read_png16
from robustdepth.data.text import read_text
from robustdepth.errors import UserError
from robustdepth.geometry.camera import crop_camera
from robustdepth.types import Camera, EvalSample

SIZE = (1024, 2048)
ROWS = 768  # the upper 75%
# Protocol -> where its images lie and how their names end. Beta is the attenuation of the simulated fog, 1/m.
IMAGES = {"cityscapes": ("leftImg8bit", "_leftImg8bit")} | {
    name: ("leftImg8bit_foggy", f"_leftImg8bit_foggy_beta_{beta}")
    for name, beta in (
        ("cityscapes_foggy", "0.02"),
        ("cityscapes_foggy_0.01", "0.01"),
        ("cityscapes_foggy_0.005", "0.005"),
    )
}
_ADVICE = "unpack leftImg8bit(_foggy), disparity and camera of the package 'trainvaltest' there."

_Frame = tuple[str, pathlib.Path, pathlib.Path, pathlib.Path]


def open_test(root: pathlib.Path, condition: str, split: str = "") -> Sequence[EvalSample]:
    """The test images of a condition in all cities. Raises UserError where files are missing."""
    folder, ending = IMAGES[condition]
    cities = first_folder([root / folder / "test"], _ADVICE)
    frames: list[_Frame] = []
    for city in sorted(path for path in cities.iterdir() if path.is_dir()):
        for name, image in images_below(city, ending).items():
            truth = root / "disparity" / "test" / city.name / f"{name}_disparity.png"
            camera = root / "camera" / "test" / city.name / f"{name}_camera.json"
            frames.append((f"{city.name}/{name}", image, truth, camera))
    if not frames:
        raise UserError(f"{cities} holds no image *{ending}.png: {_ADVICE}")
    complete([(name, image, truth) for name, image, truth, _ in frames], cities, _ADVICE)
    complete([(name, image, camera) for name, image, _, camera in frames], cities, _ADVICE)
    return Listed(frames, _read)


def _read(frame: _Frame) -> EvalSample:
    name, image_path, truth, camera_path = frame
    camera, baseline = read_camera(camera_path)
    image, values = read_image(image_path, full_size=SIZE), read_png16(truth, SIZE)
    known = values > 1  # 0 is unknown, 1 would be infinitely far
    depth = np.where(known, camera.focal[0] * baseline * 256 / np.where(known, values - 1, 1), 0).astype(np.float32)
    return EvalSample(image[:ROWS], depth[:ROWS], crop_camera(camera, 0, 0, (ROWS, SIZE[1])), name)


def read_camera(path: pathlib.Path) -> tuple[Camera, float]:
    """Intrinsics and stereo baseline (metres) of a frame. Raises UserError."""
    try:
        values = json.loads(read_text(path))
        intrinsic = [float(values["intrinsic"][key]) for key in ("fx", "fy", "u0", "v0")]
        baseline = float(values["extrinsic"]["baseline"])
        if not 0 < baseline < 1e3:
            raise ValueError(f"the baseline is {baseline}")
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(f"cannot read camera {path}: {error!r}; unpack camera_trainvaltest.zip again.") from error
    fx, fy, cx, cy = intrinsic
    return camera_of(path, fx, fy, cx, cy, SIZE), baseline


DATASETS.add(
    "cityscapes",
    Dataset(
        title="Cityscapes and Foggy Cityscapes, test images with stereo depth",
        page="https://www.cityscapes-dataset.com/downloads (leftImg8bit_trainvaltest, leftImg8bit_trainvaltest_foggy, "
        "disparity_trainvaltest, camera_trainvaltest)",
        layout="leftImg8bit/test/CITY/*_leftImg8bit.png, leftImg8bit_foggy/test/CITY/*_leftImg8bit_foggy_beta_0.02.png "
        "(0.01, 0.005), disparity/test/CITY/*_disparity.png, camera/test/CITY/*_camera.json",
        conditions=dict.fromkeys(IMAGES, 1525),
        open=open_test,
    ),
)
# Of the upper 768 rows those from 256 count, and columns 192 to 1856 of 2048.
add_protocols("cityscapes", (256 / 768, 1.0, 192 / 2048, 1856 / 2048), valid=(1e-3, 80.0))

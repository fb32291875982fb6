"""DrivingStereo's four weather subsets (Yang et al., CVPR 2019): 500 full-size frames each of sun, cloud, rain and fog.

Verified against the loaders of Robust-Depth and WeatherDepth: folder names, file names that images and depth maps
share, depth = PNG / 256. Assumed: intrinsics. The subsets come without calibration, so the camera is the one of
the dataset's half-size calibration files, scaled; no metric uses it.
"""

import pathlib
from collections.abc import Sequence

from robustdepth.data.benchmarks.listed import DATASETS, Dataset, Listed, first_folder, images_below, pair
from robustdepth.data.benchmarks.protocol import ANY_DEPTH, add_protocols
from robustdepth.data.images import read_image
from robustdepth.data.lidar import read_depth_png
from robustdepth.geometry.camera import make_camera, resize_camera
from robustdepth.types import Camera, EvalSample

IMAGES, DEPTHS = "left-image-full-size", "depth-map-full-size"
WEATHERS = ("sunny", "cloudy", "rainy", "foggy")
PREFIX = "drivingstereo_"
_HALF_SIZE_CAMERA = make_camera(1003.556, 1006.938, 440.5, 200.0, (400, 881))
_ADVICE = f"unpack {IMAGES}.zip and {DEPTHS}.zip of the weather subset there (the half-size ones are another set)."


def open_weather(root: pathlib.Path, condition: str, split: str = "") -> Sequence[EvalSample]:
    """The frames of "drivingstereo_WEATHER" under `root`. Raises UserError where files are missing."""
    weather = condition.removeprefix(PREFIX)
    images, depths = (_folder(root / weather, name) for name in (IMAGES, DEPTHS))
    truths = images_below(depths)
    return Listed(pair(images_below(images), truths.get, images, _ADVICE), _read)


def _folder(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The archives hold WEATHER/NAME inside, so unpacking one into a folder of its name nests it."""
    nested = folder / name / folder.name / name
    return nested if nested.is_dir() else first_folder([folder / name], _ADVICE)


def _read(frame: tuple[str, pathlib.Path, pathlib.Path]) -> EvalSample:
    name, image_path, truth = frame
    image = read_image(image_path)
    size = image.shape[0], image.shape[1]
    return EvalSample(image, read_depth_png(truth, size), nominal_camera(size), name)


def nominal_camera(size: tuple[int, int]) -> Camera:
    """The dataset's usual camera at `size` (height, width)."""
    return resize_camera(_HALF_SIZE_CAMERA, size)


DATASETS.add(
    "driving_stereo",
    Dataset(
        title="DrivingStereo, weather subsets",
        page="https://drivingstereo-dataset.github.io (section 'Different weathers')",
        layout=f"sunny|cloudy|rainy|foggy/{IMAGES}/*.png and .../{DEPTHS}/*.png, from the archives of those names",
        conditions={f"{PREFIX}{weather}": 500 for weather in WEATHERS},
        open=open_weather,
    ),
)
add_protocols("driving_stereo", valid=ANY_DEPTH, alignment="median")

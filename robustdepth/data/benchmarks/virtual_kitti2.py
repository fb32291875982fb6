"""Virtual KITTI 2 (Cabon et al., arXiv 2001.10773): five rendered drives in six weathers and lights, dense depth.

Verified against several public loaders: folders and file names, 16-bit depth in centimetres (65535 is the sky), one
camera for all (725.0087, 620.5, 187), ten variations of 2126 frames for each of two cameras. Here: Camera_0, and the
variations that change the weather, not those that turn the camera.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from robustdepth.data.benchmarks.listed import DATASETS, Dataset, Listed, first_folder, images_below, pair
from robustdepth.data.benchmarks.protocol import add_protocols
from robustdepth.data.images import read_image
from robustdepth.data.lidar import read_png16
from robustdepth.geometry.camera import make_camera
from robustdepth.types import EvalSample

SCENES = ("Scene01", "Scene02", "Scene06", "Scene18", "Scene20")
CONDITIONS = ("clone", "fog", "morning", "overcast", "rain", "sunset")
PREFIX, RELEASE = "vkitti2_", "vkitti_2.0.3"
CAMERA = make_camera(725.0087, 725.0087, 620.5, 187.0, (375, 1242))
_ADVICE = f"unpack {RELEASE}_rgb.tar and {RELEASE}_depth.tar (Virtual KITTI 1 is packed otherwise, and another set)."


def open_condition(root: pathlib.Path, condition: str, split: str = "") -> Sequence[EvalSample]:
    """The frames of "vkitti2_CONDITION" in all scenes. Raises UserError where files are missing."""
    variation = condition.removeprefix(PREFIX)
    frames = []
    for scene in SCENES:
        images, depths = (_folder(root, f"{scene}/{variation}", kind) for kind in ("rgb", "depth"))
        found = {name.removeprefix("rgb_"): path for name, path in images_below(images).items()}
        pairs = pair(found, lambda number, depths=depths: depths / f"depth_{number}.png", images, _ADVICE)  # type: ignore[misc]
        frames += [(f"{scene}/{variation} {number}", image, depth) for number, image, depth in pairs]
    return Listed(frames, _read)


def _folder(root: pathlib.Path, variation: str, kind: str) -> pathlib.Path:
    """The archives are unpacked over one another, or each into a folder of its name."""
    inside = f"{variation}/frames/{kind}/Camera_0"
    return first_folder([root / inside, root / f"{RELEASE}_{kind}" / inside], _ADVICE)


def _read(frame: tuple[str, pathlib.Path, pathlib.Path]) -> EvalSample:
    name, image, truth = frame
    depth = read_png16(truth, CAMERA.size) / np.float32(100)
    return EvalSample(read_image(image, full_size=CAMERA.size), depth, CAMERA, name)


DATASETS.add(
    "virtual_kitti2",
    Dataset(
        title="Virtual KITTI 2, weather variations",
        page="https://europe.naverlabs.com/proxy-virtual-worlds-vkitti-2",
        layout="Scene01|02|06|18|20/CONDITION/frames/rgb/Camera_0/rgb_*.jpg and .../depth/Camera_0/depth_*.png, "
        f"or the same inside {RELEASE}_rgb/ and {RELEASE}_depth/",
        conditions={f"{PREFIX}{condition}": 2126 for condition in CONDITIONS},
        open=open_condition,
    ),
)
add_protocols("virtual_kitti2", valid=(1e-3, 80.0))

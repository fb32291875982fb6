"""KITTI stereo 2015 (Menze & Geiger, CVPR 2015) as depth: 200 street scenes from all over the city, with dense truth.

A scene is image_2/NUMBER_10.png (left), image_3/NUMBER_10.png (right) and disp_occ_0/NUMBER_10.png: 256 times the left
image's disparity in pixels, 0 where unknown, from accumulated LiDAR and car models. Depth is fx b / disparity. The
camera is that of calib_cam_to_cam/NUMBER.txt where this file is there, else that of the day: each of KITTI's five days
has images of its own size.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from robustdepth.data.benchmarks.listed import DATASETS, Dataset, Listed, first_folder, images_below, pair
from robustdepth.data.benchmarks.protocol import ANY_DEPTH, EIGEN_CROP, add_protocols
from robustdepth.data.images import image_size, read_image
from robustdepth.data.lidar import read_png16
from robustdepth.data.recordings.kitti_raw import read_calibration, rectified_camera, right_camera_x
from robustdepth.errors import UserError
from robustdepth.geometry.camera import make_camera
from robustdepth.types import Camera, EvalSample

TRUTH, ENDING = "disp_occ_0", "_10"
# By (height, width): fx = fy, cx, cy of the rectified cameras 2 and 3, and the metres between them.
DAYS = {
    (375, 1242): (721.5377, 609.5593, 172.8540, 0.53272),  # 2011_09_26
    (370, 1224): (707.0493, 604.0814, 180.5066, 0.53726),  # 2011_09_28
    (374, 1238): (718.3351, 600.3891, 181.5122, 0.53014),  # 2011_09_29
    (370, 1226): (707.0912, 601.8873, 183.1104, 0.53790),  # 2011_09_30
    (376, 1241): (718.8560, 607.1928, 185.2157, 0.53233),  # 2011_10_03
}
_ADVICE = "unpack data_scene_flow.zip (and data_scene_flow_calib.zip beside it)."


class StereoScene(NamedTuple):
    """The files of one scene, its left camera, and the distance to the right one in metres."""

    name: str
    left: pathlib.Path
    right: pathlib.Path | None  # None: there is no image_3
    truth: pathlib.Path
    camera: Camera
    baseline: float


def is_there(root: pathlib.Path) -> bool:
    """Whether `root` is a folder of this dataset."""
    return any((root / folder / TRUTH).is_dir() for folder in ("", "training"))


def open_scenes(root: pathlib.Path) -> list[StereoScene]:
    """The scenes under `root`, or under `root`/training, by number.

    Raises UserError: a folder, the truth or the right image of a scene is missing, a calibration is damaged, or there
    is none and the image has the size of none of KITTI's days.
    """
    left = first_folder([root / "image_2", root / "training" / "image_2"], _ADVICE)
    base = left.parent
    truths = pair(images_below(left, ENDING), lambda name: base / TRUTH / f"{name}{ENDING}.png", left, _ADVICE)
    rights = images_below(base / "image_3", ENDING) if (base / "image_3").is_dir() else {}
    scenes = []
    for name, image, truth in truths:
        camera, baseline = _camera(base, name, image)
        scenes.append(StereoScene(name, image, rights.get(name), truth, camera, baseline))
    return scenes


def _camera(base: pathlib.Path, name: str, image: pathlib.Path) -> tuple[Camera, float]:
    calibration, size = base / "calib_cam_to_cam" / f"{name}.txt", image_size(image)
    if calibration.is_file():
        rows = read_calibration(calibration, ("P_rect_02", "P_rect_03", "S_rect_02"))
        return rectified_camera(rows, "l"), right_camera_x(rows, "P_rect_02", "P_rect_03")
    if size not in DAYS:
        raise UserError(
            f"{image} has {size[1]}x{size[0]} pixels, as no day of KITTI, and {calibration} is missing: {_ADVICE}"
        )
    focal, cx, cy, baseline = DAYS[size]
    return make_camera(focal, focal, cx, cy, size), baseline


def right_image(scene: StereoScene) -> pathlib.Path:
    """The right image's path. Raises UserError where there is none."""
    if scene.right is None:
        raise UserError(f"{scene.left} has no right image in image_3: unpack data_scene_flow.zip whole.")
    return scene.right


def read_disparity(scene: StereoScene) -> np.ndarray:
    """True disparity of the left image in pixels, float32 [height, width], 0 where unknown. Raises UserError."""
    return read_png16(scene.truth, scene.camera.size) / np.float32(256)


def _open(root: pathlib.Path, condition: str, split: str = "") -> Sequence[EvalSample]:
    return Listed(open_scenes(root), _read)


def _read(scene: StereoScene) -> EvalSample:
    disparity, reach = read_disparity(scene), float(scene.camera.focal[0]) * scene.baseline
    depth = np.divide(reach, disparity, out=np.zeros_like(disparity), where=disparity > 0)
    return EvalSample(read_image(scene.left, full_size=scene.camera.size), depth, scene.camera, scene.name)


DATASETS.add(
    "kitti_2015",
    Dataset(
        title="KITTI stereo 2015",
        page="https://www.cvlibs.net/datasets/kitti/eval_scene_flow.php?benchmark=stereo",
        layout="training/image_2|image_3|disp_occ_0/NUMBER_10.png and training/calib_cam_to_cam/NUMBER.txt, or the "
        "same without training/",
        conditions={"kitti_2015": 200, "kitti_2015_whole": 200},
        open=_open,
    ),
)
add_protocols(
    "kitti_2015",
    EIGEN_CROP,
    ["kitti_2015"],
    title="KITTI stereo 2015 inside the Eigen crop and its cap",
    valid=(1e-3, 80.0),
)
add_protocols(
    "kitti_2015",
    conditions=["kitti_2015_whole"],
    title="KITTI stereo 2015, every known pixel",
    valid=ANY_DEPTH,
    clip=(1e-3, 200.0),
)

"""Tiny copies of the public evaluation datasets in their true on-disk formats, with known geometry."""

import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.io
from PIL import Image

from robustdepth.data.benchmarks.nuscenes import VERSION, val_scenes
from tests.recordings import picture, write_image


def write_png16(path: pathlib.Path, values: np.ndarray) -> None:
    write_image(path, np.asarray(values, np.uint16))


# DrivingStereo -------------------------------------------------------------------------------------------------------


def write_driving_stereo(root: pathlib.Path, weather: str, count: int = 3, nested: bool = False) -> list[np.ndarray]:
    """One weather subset; returns the depth maps (multiples of 1/256 m). `nested` as the archives unpack."""
    rng, depths = np.random.default_rng(0), []
    for number in range(count):
        values = rng.integers(0, 80 * 256, (40, 88))
        values[:10] = 0
        for kind in ("left-image-full-size", "depth-map-full-size"):
            folder = root / weather / kind / (f"{weather}/{kind}" if nested else "")
            path = folder / f"2018-08-17-09-45-58_2018-08-17-10-11-{16 + number}-157.png"
            write_image(path, picture(number, (40, 88))) if "image" in kind else write_png16(path, values)
        depths.append(values / 256)
    return depths


# Make3D --------------------------------------------------------------------------------------------------------------


def write_make3d(root: pathlib.Path, names: Sequence[str] = ("op57-p-016t000",)) -> None:
    """Portraits of 2272x1704 whose rows tell their number (row // 10), laser grids of depth row + column / 1000."""
    rows = np.repeat((np.arange(2272) // 10).astype(np.uint8)[:, None], 1704, axis=1)
    grid = np.zeros((55, 305, 4))
    grid[..., 3] = np.arange(55)[:, None] + np.arange(305) / 1000
    grid[..., 0] = -5
    (root / "Gridlaserdata").mkdir(parents=True)
    for name in names:
        write_image(root / "Test134" / f"img-{name}.jpg", np.stack([rows] * 3, -1))
        scipy.io.savemat(root / "Gridlaserdata" / f"depth_sph_corr-{name}.mat", {"Position3DGrid": grid})


# Virtual KITTI 2 -----------------------------------------------------------------------------------------------------


def write_virtual_kitti2(root: pathlib.Path, condition: str, count: int = 1, apart: bool = False) -> np.ndarray:
    """All five scenes; returns the depth of every frame in metres. `apart`: each archive in a folder of its own."""
    centimetres = np.full((375, 1242), 1234)
    centimetres[0] = 65535
    for scene in ("Scene01", "Scene02", "Scene06", "Scene18", "Scene20"):
        for kind, name in (("rgb", "rgb_{:05d}.jpg"), ("depth", "depth_{:05d}.png")):
            folder = root / (f"vkitti_2.0.3_{kind}" if apart else "") / scene / condition / "frames" / kind / "Camera_0"
            for number in range(count):
                path = folder / name.format(number)
                write_image(path, picture(number, (375, 1242))) if kind == "rgb" else write_png16(path, centimetres)
    return centimetres / 100


# Cityscapes ----------------------------------------------------------------------------------------------------------


def write_cityscapes(root: pathlib.Path, disparity: np.ndarray, names: Sequence[str] = ("berlin_000000_000019",)):
    """Clear and foggy test images; `disparity` in pixels, NaN where unknown; focal 2262 pixels, baseline 0.209 m."""
    values = np.where(np.isnan(disparity), 0, np.round(np.nan_to_num(disparity) * 256) + 1)
    camera = {
        "extrinsic": {"baseline": 0.209, "pitch": 0.038, "roll": 0.0, "x": 1.7, "y": 0.1, "yaw": -0.02, "z": 1.22},
        "intrinsic": {"fx": 2262.0, "fy": 2265.0, "u0": 1096.0, "v0": 513.0},
    }
    image = picture(1, (1024, 2048))
    for name in names:
        city = name.split("_")[0]
        write_image(root / "leftImg8bit" / "test" / city / f"{name}_leftImg8bit.png", image)
        for beta in ("0.005", "0.01", "0.02"):
            fog = root / "leftImg8bit_foggy" / "test" / city / f"{name}_leftImg8bit_foggy_beta_{beta}.png"
            write_image(fog, image // 2 + np.uint8(1000 * float(beta)))
        write_png16(root / "disparity" / "test" / city / f"{name}_disparity.png", values)
        path = root / "camera" / "test" / city / f"{name}_camera.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(camera))


# nuScenes ------------------------------------------------------------------------------------------------------------

NUSCENES_SIZE = (90, 160)
NUSCENES_INTRINSIC = [[126.0, 0.0, 81.5], [0.0, 127.0, 48.5], [0.0, 0.0, 1.0]]
# Quaternions w, x, y, z. The camera looks along the car's x; the scanner's x points to the car's right.
CAMERA_TO_CAR = {"rotation": [0.5, -0.5, 0.5, -0.5], "translation": [1.7, 0.0, 1.5]}
SCANNER_TO_CAR = {"rotation": [np.sqrt(0.5), 0.0, 0.0, -np.sqrt(0.5)], "translation": [0.9, 0.0, 1.8]}
# The car heads along the world's y, and drives half a metre from the scan to the image.
CAR_AT_SCAN = {"rotation": [np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)], "translation": [600.0, 1600.0, 0.0]}
CAR_AT_IMAGE = {"rotation": [np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)], "translation": [600.0, 1600.5, 0.0]}


def write_nuscenes(root: pathlib.Path, points: np.ndarray, descriptions: Mapping[str, str]) -> None:
    """All validation scenes and the training scene scene-0001, two keyframes in those of `descriptions`, one in others.

    Every scan holds `points` [point, 3] in the scanner's frame.
    """
    tables: dict[str, list] = {name: [] for name in ("scene", "sample", "sample_data", "ego_pose")}
    tables["sensor"] = [
        {"token": f"sensor{name}", "channel": name, "modality": kind}
        for name, kind in (("CAM_FRONT", "camera"), ("CAM_BACK", "camera"), ("LIDAR_TOP", "lidar"))
    ]
    tables["calibrated_sensor"] = [
        {"token": "cal_front", "sensor_token": "sensorCAM_FRONT", "camera_intrinsic": NUSCENES_INTRINSIC}
        | CAMERA_TO_CAR,
        {"token": "cal_back", "sensor_token": "sensorCAM_BACK", "camera_intrinsic": NUSCENES_INTRINSIC} | CAMERA_TO_CAR,
        {"token": "cal_lidar", "sensor_token": "sensorLIDAR_TOP", "camera_intrinsic": []} | SCANNER_TO_CAR,
    ]
    for scene in ["scene-0001", *val_scenes()]:
        description = descriptions.get(scene, "Parked cars")
        tables["scene"].append({"token": scene, "name": scene, "description": description, "log_token": "log"})
        for number in range(2 if scene in descriptions else 1):
            _write_keyframe(root, tables, scene, number, points)
    (root / VERSION).mkdir(parents=True)
    for name, rows in tables.items():
        (root / VERSION / f"{name}.json").write_text(json.dumps(rows, indent=0))


def _write_keyframe(root: pathlib.Path, tables: dict, scene: str, number: int, points: np.ndarray) -> None:
    token, stamp = f"{scene}_{number}", f"n015-2018__{{}}__{scene[-4:]}{number:04d}"
    tables["sample"].append({"token": token, "scene_token": scene, "timestamp": number, "prev": "", "next": ""})
    readings = (
        ("CAM_FRONT", "cal_front", CAR_AT_IMAGE, ".jpg", True),
        ("CAM_BACK", "cal_back", CAR_AT_IMAGE, ".jpg", True),
        ("LIDAR_TOP", "cal_lidar", CAR_AT_SCAN, ".pcd.bin", True),
        ("LIDAR_TOP", "cal_lidar", CAR_AT_SCAN, ".pcd.bin", False),  # a sweep between keyframes
    )
    for channel, calibration, pose, suffix, is_key in readings:
        folder = "samples" if is_key else "sweeps"
        row = {"token": f"{token}{channel}{is_key}", "sample_token": token, "calibrated_sensor_token": calibration}
        row |= {"filename": f"{folder}/{channel}/{stamp.format(channel)}{suffix}", "is_key_frame": is_key}
        row |= dict(zip(("height", "width"), NUSCENES_SIZE if suffix == ".jpg" else (0, 0), strict=True))
        row |= {"ego_pose_token": f"pose{row['token']}"}
        tables["sample_data"].append(row)
        tables["ego_pose"].append({"token": row["ego_pose_token"], "timestamp": number} | pose)
    path = root / "samples" / "CAM_FRONT" / f"{stamp.format('CAM_FRONT')}.jpg"
    write_image(path, picture(number, NUSCENES_SIZE))
    path = root / "samples" / "LIDAR_TOP" / f"{stamp.format('LIDAR_TOP')}.pcd.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    extra = np.tile([7.0, 3.0], (len(points), 1))  # intensity, ring
    np.column_stack([points, extra]).astype(np.float32).tofile(path)


# Oxford RobotCar -----------------------------------------------------------------------------------------------------


def write_robotcar(root: pathlib.Path, traversal: str, stamps: Sequence[str], points: np.ndarray) -> None:
    """One traversal as md4all's scripts leave it; `points` [point, 3] are x ahead, y right, z down."""
    (root / "models").mkdir(parents=True)
    body = "0 -0 1 0\n1 0 -0 0\n0 1 0 0\n0 0 0 1\n"
    (root / "models" / "stereo_wide_left.txt").write_text(f"983.044006 983.044006 643.646973 493.378998\n{body}")
    clouds = root / traversal / "lms_front_synchronized" / "vo" / "time_margin=+-4.0e+06"
    clouds.mkdir(parents=True)
    (root / "splits").mkdir()
    (root / "splits" / f"{traversal}_test.txt").write_text("".join(f"{stamp}\n" for stamp in stamps))
    for stamp in stamps:
        write_image(root / traversal / "stereo" / "left" / f"{stamp}.png", picture(3, (960, 1280)))
        np.ascontiguousarray(points.T, np.float32).tofile(clouds / f"{stamp}.pcd.bin")


# CADC ----------------------------------------------------------------------------------------------------------------

CADC_CAMERA = """image_width: 1280
image_height: 1024
camera_name: camera_F
camera_matrix:
  rows: 3
  cols: 3
  data: [653.956, 0.0, 653.222, 0.0, 655.540, 508.732, 0.0, 0.0, 1.0]
distortion_model: plumb_bob
"""
CADC_EXTRINSICS = """# From the camera to the scanner: x ahead, y left, z up
T_LIDAR_CAM00:
  - [0.0, 0.0, 1.0, 0.5]
  - [-1.0, 0.0, 0.0, 0.0]
  - [0.0, -1.0, 0.0, -0.6]
  - [0.0, 0.0, 0.0, 1.0]
"""


def write_cadc(root: pathlib.Path, frames: Sequence[str], points: np.ndarray) -> pathlib.Path:
    """Frames "DATE/SEQUENCE NUMBER"; returns their list. `points` [point, 3] in the scanner's frame."""
    lines = []
    for frame in frames:
        sequence, number = frame.split()
        calibration = root / sequence.split("/")[0] / "calib"
        calibration.mkdir(parents=True, exist_ok=True)
        (calibration / "00.yaml").write_text(CADC_CAMERA)
        (calibration / "extrinsics.yaml").write_text(CADC_EXTRINSICS)
        lines.append(f"{sequence}/labeled/image_00/data/{int(number):010d}.png")
        write_image(root / lines[-1], picture(int(number), (1024, 1280)))
        scan = root / sequence / "labeled" / "lidar_points" / "data" / f"{int(number):010d}.bin"
        scan.parent.mkdir(parents=True, exist_ok=True)
        np.column_stack([points, np.ones(len(points))]).astype(np.float32).tofile(scan)
    (root / "list.txt").write_text("\n".join(lines))
    return root / "list.txt"


# KITTI-C -------------------------------------------------------------------------------------------------------------


def write_kitti_c(root: pathlib.Path, corruption: str, severity: int, drive: str, number: int) -> np.ndarray:
    """One corrupted image beside KITTI raw, at RoboDepth's 640x192; returns it."""
    image = picture(60 + number, (192, 640))
    inside = f"kitti_c/{corruption}/{severity}/kitti_data/{drive}/image_02/data/{number:010d}.png"
    write_image(root / inside, image)
    return image


def make_grey(path: pathlib.Path) -> None:
    """Replaces an image by its brightness alone, one channel."""
    with Image.open(path) as image:
        image.convert("L").save(path)

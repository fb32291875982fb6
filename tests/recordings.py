"""Tiny recordings in the true on-disk formats, with known calibration, for the tests of the data room."""

import json
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from configs import base

DAY = "2011_09_26"
DRIVE = f"{DAY}/{DAY}_drive_0001_sync"
SIZE = (48, 160)  # height, width
FX, FY, CX, CY = 90.0, 80.0, 79.0, 23.0
LEFT_X, RIGHT_X = -0.06, 0.48  # the cameras' positions in the frame of camera 0, metres

# Axes of the scanner (x ahead, y left, z up) in the camera's (x right, y down, z ahead).
SCANNER_TO_CAMERA = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
SCANNER_POSITION = np.array([0.0, -0.08, -0.27])


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A smooth random image, so that JPEG hardly changes it; its mean tells the seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 100, (4, 8, 3), np.uint8) + np.uint8(seed % 100))
    return np.array(coarse.resize(size[::-1], Image.Resampling.BICUBIC))


def write_image(path: pathlib.Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)


def truncate(path: pathlib.Path) -> None:
    """Cuts a file to half its length."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def projection(x: float, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    """P = K [I | -c] of a rectified camera at c."""
    intrinsics = np.array([[FX, 0, CX], [0, FY, CY], [0, 0, 1]])
    return intrinsics @ np.column_stack([np.eye(3), [-x, -y, -z]])


def row(name: str, values: np.ndarray | Sequence[float]) -> str:
    return f"{name}: " + " ".join(f"{value:.12e}" for value in np.ravel(values)) + "\n"


def write_kitti_raw(
    root: pathlib.Path, numbers: Iterable[int] = range(4), sides: str = "lr", suffix: str = ".png", drive: str = DRIVE
) -> None:
    """One drive with calibration; camera 2 stands at LEFT_X, camera 3 at RIGHT_X, 1 cm lower."""
    day = root / drive.split("/")[0]
    day.mkdir(parents=True, exist_ok=True)
    cameras = "calib_time: 09-Jan-2012 13:57:47\n" + row("R_rect_00", np.eye(3))
    for name, x, y in (("02", LEFT_X, 0.0), ("03", RIGHT_X, 0.01)):
        cameras += row(f"S_rect_{name}", [SIZE[1], SIZE[0]]) + row(f"P_rect_{name}", projection(x, y))
    (day / "calib_cam_to_cam.txt").write_text(cameras)
    scanner = row("R", SCANNER_TO_CAMERA) + row("T", SCANNER_POSITION)
    (day / "calib_velo_to_cam.txt").write_text("calib_time: 15-Mar-2012 11:37:16\n" + scanner)
    for side in sides:
        folder = root / drive / ("image_02" if side == "l" else "image_03") / "data"
        for number in numbers:
            write_image(folder / f"{number:010d}{suffix}", picture(number + (50 if side == "r" else 0)))


def write_oxts(root: pathlib.Path, speeds: Sequence[float], seconds: Sequence[float], drive: str = DRIVE) -> None:
    """Forward speeds and their times within a minute."""
    folder = root / drive / "oxts" / "data"
    folder.mkdir(parents=True)
    for number, speed in enumerate(speeds):
        values = np.zeros(30)
        values[8] = speed
        (folder / f"{number:010d}.txt").write_text(" ".join(str(value) for value in values))
    stamps = (f"2011-09-26 13:04:{second:012.9f}\n" for second in seconds)
    (folder.parent / "timestamps.txt").write_text("".join(stamps))


def write_scan(root: pathlib.Path, number: int, points: np.ndarray, drive: str = DRIVE) -> None:
    """A LiDAR scan from points [point, 3] in the frame of camera 0."""
    folder = root / drive / "velodyne_points" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    scanner = (np.asarray(points, np.float64) - SCANNER_POSITION) @ SCANNER_TO_CAMERA
    values = np.column_stack([scanner, np.full(len(scanner), 0.5)]).astype(np.float32)
    values.tofile(folder / f"{number:010d}.bin")


def point_at(u: float, v: float, depth: float, x: float = LEFT_X) -> np.ndarray:
    """The point, in the frame of camera 0, that the camera at `x` sees at pixel (u, v) and depth z."""
    return np.array([x + (u - CX) / FX * depth, (v - CY) / FY * depth, depth])


def write_kitti_odometry(root: pathlib.Path, sequence: str, cameras: Sequence[int], count: int = 4) -> None:
    """One sequence with grey cameras 0, 1 at x = 0 and 0.54 m, colour cameras 2, 3 at -0.06 and 0.47 m, and poses."""
    folder = root / "sequences" / sequence
    folder.mkdir(parents=True)
    positions = (0.0, 0.54, -0.06, 0.47)
    (folder / "calib.txt").write_text("".join(row(f"P{i}", projection(x)) for i, x in enumerate(positions)))
    for camera in cameras:
        for number in range(count):
            image = picture(number + 10 * camera)
            write_image(folder / f"image_{camera}" / f"{number:06d}.png", image if camera > 1 else image[..., 0])
    (root / "poses").mkdir(exist_ok=True)
    poses = (np.column_stack([np.eye(3), [0, 0, float(number)]]).ravel() for number in range(count))
    (root / "poses" / f"{sequence}.txt").write_text("".join(" ".join(map(str, pose)) + "\n" for pose in poses))


CAMERA = {"width": SIZE[1], "height": SIZE[0], "fx": FX, "fy": FY, "cx": CX, "cy": CY}


def write_clip(folder: pathlib.Path, count: int = 4, camera: dict = CAMERA, right: bool = False) -> None:
    """A folder of images named frame_8, frame_9, frame_10, ... with a camera.json."""
    folder.mkdir(parents=True)
    (folder / "camera.json").write_text(json.dumps(camera))
    for number in range(count):
        write_image(folder / f"frame_{number + 8}.png", picture(number))
        if right:
            write_image(folder / "right" / f"frame_{number + 8}.png", picture(number + 50))


def data_options(name: str, root: pathlib.Path, **changes) -> ConfigDict:
    """The `data` section of a config."""
    values = dict(name=name, root=str(root), split="", sequences=(), views=("previous", "next"), world_share=0.0)
    return ConfigDict(values | dict(frame_step=1, threads=2, max_bad_images=3) | changes)


def config_for(
    name: str, root: pathlib.Path, size: tuple[int, int] = (32, 96), batch: int = 2, **changes
) -> ConfigDict:
    """A config of a recording; `changes` are those of its `data` section."""
    config = base.get_config()
    config.update(dict(seed=3, image_size=size, batch_size=batch))
    config.data = data_options(name, root, **changes)
    return config

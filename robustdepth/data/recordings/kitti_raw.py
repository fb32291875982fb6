"""KITTI raw: date/drive/image_0X/data, the day's calibration, oxts speed and LiDAR (Geiger et al., IJRR 2013)."""

import datetime
import pathlib
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from robustdepth.data.calibration import ADVICE, Calibration, read_calibration
from robustdepth.data.images import find_image, numbered_images, read_image
from robustdepth.data.lidar import project_eigen, read_depth_png, read_scan
from robustdepth.data.recordings.clips import RECORDINGS, Frame, Recording, read_file, read_split, select
from robustdepth.data.text import read_text
from robustdepth.errors import UserError
from robustdepth.types import Camera, EvalSample

CAMERAS = {"l": "02", "r": "03"}
DRIVE = "drive (DATE/DRIVE_sync)"
_CAMERA_ROWS = ("R_rect_00", "P_rect_02", "P_rect_03", "S_rect_02", "S_rect_03")
FORWARD_SPEED = 8  # column of vf in an oxts file
FASTEST = 1000.0  # metres per second that no car drives


@RECORDINGS.listed("kitti_raw")
def open_recording(data: ConfigDict) -> Recording:
    """All colour frames of the drives, left camera first.

    Raises UserError where a drive or its calibration is missing or damaged.
    """
    root = pathlib.Path(data.root)
    drives = select(find_drives(root), data.sequences, DRIVE, root)
    frames = [frame for drive in drives for frame in drive_frames(root, drive)]
    return Recording(frames, read_file)


def find_drives(root: pathlib.Path) -> list[str]:
    """Names "date/drive" of the drives under `root`."""
    return sorted({str(path.parent.relative_to(root)) for path in root.glob("*/*_sync/image_0[23]")})


def drive_frames(root: pathlib.Path, drive: str) -> list[Frame]:
    """The colour frames of one drive, with speed and time where the drive has oxts."""
    calibration = _read_cameras(root / drive.split("/")[0])
    motion = _read_motion(root / drive)
    to_right, frames = right_camera_x(calibration, "P_rect_02", "P_rect_03"), []
    for side, name in CAMERAS.items():
        camera, baseline = rectified_camera(calibration, side), to_right if side == "l" else -to_right
        for number, path in numbered_images(root / drive / f"image_{name}" / "data").items():
            frames.append(Frame(drive, number, side, path, camera, baseline, *motion.get(number, (0.0, 0.0))))
    return frames


def _read_cameras(day: pathlib.Path) -> Calibration:
    """The colour cameras of a day. Raises UserError, also where left and right are swapped."""
    calibration = read_calibration(day / "calib_cam_to_cam.txt", _CAMERA_ROWS)
    right_camera_x(calibration, "P_rect_02", "P_rect_03")
    return calibration


def rectified_camera(calibration: Calibration, side: str) -> Camera:
    """The camera of a day's rectified colour images. KITTI's pixel coordinates follow our pixel-centre rule."""
    return calibration.camera(f"P_rect_{CAMERAS[side]}", calibration.size(f"S_rect_{CAMERAS[side]}"))


def _read_motion(folder: pathlib.Path) -> dict[int, tuple[float, float]]:
    """Forward speed and time by frame number; scans come ten times a second where there are no timestamps."""
    motion = {}
    times = _read_times(folder / "oxts" / "timestamps.txt")
    for path in (folder / "oxts" / "data").glob("*.txt"):
        if not path.stem.isdecimal():
            continue  # hidden files of other systems
        number = int(path.stem)
        try:
            speed = float(read_text(path).split()[FORWARD_SPEED])
            if not abs(speed) < FASTEST:
                raise ValueError(f"{speed} m/s")
        except (OSError, ValueError, IndexError) as error:
            raise UserError(f"cannot read the speed in {path}: {error}; replace or remove it.") from error
        motion[number] = speed, times[number] if number < len(times) else 0.1 * number
    return motion


def _read_times(path: pathlib.Path) -> list[float]:
    if not path.is_file():
        return []
    try:
        lines = [line.strip() for line in read_text(path).split("\n") if line.strip()]
        stamps = [datetime.datetime.fromisoformat(line) for line in lines]
        return [(stamp - stamps[0]).total_seconds() for stamp in stamps]
    except (OSError, ValueError, TypeError) as error:  # TypeError: some have a time zone, some have none
        raise UserError(f"cannot read {path}: {error}; replace or remove it.") from error


def right_camera_x(calibration: Calibration, left: str, right: str) -> float:
    """x of the right rectified camera in the left one's frame, metres, by the rows of their projections.

    A projection P = K [I | -c] puts the camera at c, so P[0, 3] = -fx c_x - cx c_z.

    Raises UserError where it does not stand to the right.
    """
    x = float(_camera_position(calibration[right])[0] - _camera_position(calibration[left])[0])
    if x < 0:
        raise UserError(
            f"calibration {calibration.path}: the camera of row {right} stands {-x:.3g} m to the left of that of "
            f"{left}, so the rows may be swapped; {ADVICE}."
        )
    return x


def _camera_position(matrix: np.ndarray) -> np.ndarray:
    return -np.linalg.solve(matrix[:, :3], matrix[:, 3])


def lidar_projection(day: pathlib.Path, side: str) -> np.ndarray:
    """Scanner to rectified image, [3, 4]: P_rect_0X R_rect_00 [R | T]. Raises UserError."""
    cameras = _read_cameras(day)
    scanner = read_calibration(day / "calib_velo_to_cam.txt", ("R", "T"))
    rectify, mount = np.eye(4), np.eye(4)
    rectify[:3, :3] = cameras["R_rect_00"]
    mount[:3] = np.column_stack([scanner["R"], scanner["T"]])
    return cameras[f"P_rect_{CAMERAS[side]}"] @ rectify @ mount


def lidar_samples(
    root: str | pathlib.Path, drives: Sequence[str] = (), split: str = "", improved: bool = False
) -> Sequence[EvalSample]:
    """Images with ground truth at full size, read when they are asked for.

    The frames are those of `split` (lines "date/drive frame l|r"), else every left image that has ground truth;
    `drives` narrows both. Ground truth is the frame's own raw scan, projected (as in the Eigen protocol), or with
    `improved` the benchmark's accumulated depth (16-bit PNG in 1/256 m, Uhrig et al., 3DV 2017), looked for inside the
    drive as proj_depth/groundtruth/image_02/FRAME.png and in train/DRIVE or val/DRIVE beside the dates.

    Raises:
      UserError: unknown drive, or a frame of the split lacks its image or ground truth.
    """
    root = pathlib.Path(root)
    names = select(find_drives(root), drives, DRIVE, root)
    if split:
        keys = [key for key in read_split(split) if not drives or key[0] in names]
    else:
        keys = [(name, number, "l") for name in names for number in numbered_images(_image_folder(root, name, "l"))]
    truth = _improved_path if improved else scan_path
    samples = []
    for drive, number, side in keys:
        image = find_image(_image_folder(root, drive, side), f"{number:010d}")
        depth = truth(root, drive, number, side)
        if image and depth:
            samples.append((drive, number, side, image, depth))
        elif split:
            lacking = "ground truth" if image else "image"
            raise UserError(f"'{drive} {number} {side}' of {split} has no {lacking} under {root}; download it.")
    return LidarSamples(root, samples)


def _image_folder(root: pathlib.Path, drive: str, side: str) -> pathlib.Path:
    return root / drive / f"image_{CAMERAS[side]}" / "data"


def scan_path(root: pathlib.Path, drive: str, number: int, side: str = "l") -> pathlib.Path | None:
    """The LiDAR scan of a frame, None where there is none; one scan serves both sides."""
    path = root / drive / "velodyne_points" / "data" / f"{number:010d}.bin"
    return path if path.is_file() else None


def _improved_path(root: pathlib.Path, drive: str, number: int, side: str) -> pathlib.Path | None:
    inside = pathlib.Path("proj_depth", "groundtruth", f"image_{CAMERAS[side]}", f"{number:010d}.png")
    folders = (root / drive, *(root / part / drive.split("/")[-1] for part in ("train", "val")))
    return next((folder / inside for folder in folders if (folder / inside).is_file()), None)


class LidarSamples(Sequence[EvalSample]):
    """`lidar_samples`: reads image and ground truth of a frame when it is asked for; safe to use from threads."""

    def __init__(self, root: pathlib.Path, samples: Sequence[tuple[str, int, str, pathlib.Path, pathlib.Path]]):
        self._samples = samples
        days = {(drive.split("/")[0], side) for drive, _, side, _, _ in samples}
        self._projections = {(day, side): lidar_projection(root / day, side) for day, side in days}
        self._cameras = {(day, side): rectified_camera(_read_cameras(root / day), side) for day, side in days}

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> EvalSample:  # type: ignore[override]  # single frames only
        drive, number, side, image_path, truth_path = self._samples[index]
        day = drive.split("/")[0], side
        camera = self._cameras[day]
        image = read_image(image_path, full_size=camera.size)
        if truth_path.suffix == ".bin":
            depth = project_eigen(read_scan(truth_path), self._projections[day], camera.size)
        else:
            depth = read_depth_png(truth_path, camera.size)
        return EvalSample(image, depth, camera, f"{drive} {number:010d} {side}")

"""nuScenes (Caesar et al., CVPR 2020): front camera with projected LiDAR, by condition, read from its JSON tables.

Verified against nuscenes-devkit: tables and their fields, scans of five floats a point, the 150 scenes of the official
validation split, the chain scanner -> car -> world -> car at the camera's time -> camera, which points are left out.
Verified against md4all (Gasperini et al., ICCV 2023): conditions by the words "night" and "rain" in the scenes'
descriptions, every keyframe of the validation scenes, 900x1600, on which pixel a point falls.
"""

import functools
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from robustdepth.data.benchmarks.listed import DATASETS, Dataset, Listed, complete, read_list
from robustdepth.data.benchmarks.protocol import ANY_DEPTH, add_protocols
from robustdepth.data.calibration import camera_of
from robustdepth.data.images import read_image
from robustdepth.data.lidar import read_scan
from robustdepth.errors import UserError
from robustdepth.types import EvalSample

VERSION = "v1.0-trainval"
CAMERA, SCANNER = "CAM_FRONT", "LIDAR_TOP"
NIGHT_LIST = "nuscenes_night_500"
SPLIT_FORMAT = "CAM_FRONT image name, sample token, or position in sample.json"
_NIGHT, _DAY_RAIN, _DAY_CLEAR = "nuscenes_night", "nuscenes_day_rain", "nuscenes_day_clear"
# The official validation split: scene-0003, scene-0012 and so on.
_VAL = (
    "3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 632-638 770-771 775 "
    "777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 1059-1073"
)
_ADVICE = f"unpack the metadata ({VERSION}_meta) and all ten file blobs of the trainval set there."


def val_scenes() -> list[str]:
    """Names of the 150 official validation scenes."""
    ranges = [[int(number) for number in part.split("-")] for part in _VAL.split()]
    return [f"scene-{number:04d}" for first, *last in ranges for number in range(first, (last or [first])[0] + 1)]


class Pose(NamedTuple):
    """A rigid motion from the frame named by its table to that frame's parent."""

    rotation: Sequence[float]  # quaternion w, x, y, z
    translation: Sequence[float]  # metres

    def matrix(self) -> np.ndarray:
        """[4, 4], float64."""
        w, x, y, z = np.asarray(self.rotation, np.float64) / np.linalg.norm(self.rotation)
        result = np.eye(4)
        result[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        result[:3, 3] = self.translation
        return result


class Reading(NamedTuple):
    """One sensor's file of a keyframe."""

    path: pathlib.Path
    size: tuple[int, int]  # of an image
    sensor_to_car: Pose
    car_to_world: Pose
    intrinsic: Sequence[Sequence[float]]  # of a camera


class Keyframe(NamedTuple):
    """An annotated moment of a scene."""

    token: str
    position: int  # in sample.json, by which published lists number frames
    scene: str
    description: str
    camera: Reading
    scanner: Reading

    @property
    def condition(self) -> str:
        words = self.description.lower()
        return _NIGHT if "night" in words else _DAY_RAIN if "rain" in words else _DAY_CLEAR


def open_condition(root: pathlib.Path, condition: str, split: str = "") -> Sequence[EvalSample]:
    """The keyframes of "nuscenes_day_clear", "..._day_rain", "..._night", or those listed in `split`.

    Raises UserError where tables or files are missing, a validation scene is not in the tables, or `split` names a
    frame that is not.
    """
    frames = read_keyframes(root)
    if split:
        chosen = _listed(frames, split)
    elif condition == NIGHT_LIST:
        raise UserError(f"{NIGHT_LIST} needs --split=FILE, Robust-Depth's list of 500 frames: lines {SPLIT_FORMAT}.")
    else:
        wanted = set(val_scenes())
        if lacking := wanted - {frame.scene for frame in frames}:
            raise UserError(
                f"{root / VERSION} lacks {len(lacking)} of the 150 validation scenes, first {min(lacking)}."
            )
        chosen = [frame for frame in frames if frame.scene in wanted and frame.condition == condition]
    if not chosen:
        raise UserError(f"no frame of {condition} in {root / VERSION}: its scenes have other descriptions; {_ADVICE}")
    complete([(frame.token, frame.camera.path, frame.scanner.path) for frame in chosen], root, _ADVICE)
    return Listed(chosen, _read)


def _listed(frames: Sequence[Keyframe], split: str) -> list[Keyframe]:
    table = {name: frame for frame in frames for name in (frame.token, str(frame.position), frame.camera.path.stem)}
    names = read_list(split, SPLIT_FORMAT)
    if unknown := [name for name in names if name not in table]:
        raise UserError(f"{split} names '{unknown[0]}', which is no keyframe of {VERSION}; give lines {SPLIT_FORMAT}.")
    return [table[name] for name in names]


@functools.lru_cache(maxsize=1)  # three protocols read the same tables, which takes a minute
def read_keyframes(root: pathlib.Path) -> tuple[Keyframe, ...]:
    """All keyframes with front camera and scan, in the order of sample.json. Raises UserError."""
    folder = root / VERSION
    if not folder.is_dir():
        others = ", ".join(sorted(path.name for path in root.glob("v1.0-*"))) or "no version at all"
        raise UserError(f"{folder} is missing ({root} holds {others}): {_ADVICE}")
    try:
        return tuple(_join_tables(root, folder))
    except KeyError as error:
        raise UserError(f"the tables in {folder} do not belong together ({error} is not found): {_ADVICE}") from error


def _join_tables(root: pathlib.Path, folder: pathlib.Path) -> Iterator[Keyframe]:
    """The keyframes, with what the tables say about their two files."""
    scenes = {row["token"]: row for row in read_table(folder / "scene.json")}
    channels = {row["token"]: row["channel"] for row in read_table(folder / "sensor.json")}
    sensors = {row["token"]: row for row in read_table(folder / "calibrated_sensor.json")}
    data: dict[tuple[str, str], Any] = {}
    for row in read_table(folder / "sample_data.json"):
        channel = channels[sensors[row["calibrated_sensor_token"]]["sensor_token"]]
        if row["is_key_frame"] and channel in (CAMERA, SCANNER):
            data[row["sample_token"], channel] = row
    needed = {row["ego_pose_token"] for row in data.values()}
    poses = {row["token"]: _pose(row) for row in read_table(folder / "ego_pose.json") if row["token"] in needed}

    def reading(row: Any) -> Reading:
        sensor = sensors[row["calibrated_sensor_token"]]
        size, pose = (row["height"], row["width"]), poses[row["ego_pose_token"]]
        return Reading(root / row["filename"], size, _pose(sensor), pose, sensor["camera_intrinsic"])

    for position, row in enumerate(read_table(folder / "sample.json")):
        scene, token = scenes[row["scene_token"]], row["token"]
        camera, scanner = data.get((token, CAMERA)), data.get((token, SCANNER))
        if camera and scanner:
            texts = scene["name"], scene["description"]
            yield Keyframe(token, position, *texts, reading(camera), reading(scanner))


def _pose(row: Any) -> Pose:
    return Pose(row["rotation"], row["translation"])


def read_table(path: pathlib.Path, chunk: int = 2**20) -> Iterator[Any]:
    """The rows of a JSON table one by one (sample_data.json has 2.6 million, more than fit into memory at once).

    Raises UserError where the file is missing or ends early.
    """
    decoder, buffer = json.JSONDecoder(), ""
    try:
        with path.open(encoding="utf-8") as file:
            while text := file.read(chunk):
                buffer, position = buffer + text, 0
                while (start := buffer.find("{", position)) >= 0:
                    try:
                        row, position = decoder.raw_decode(buffer, start)
                    except json.JSONDecodeError:
                        break  # the row goes on in the next chunk
                    yield row
                buffer = buffer[max(start, position) :]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read table {path}: {error}; {_ADVICE}") from error
    if buffer.strip().removeprefix("[").strip() != "]":
        raise UserError(f"table {path} ends early; {_ADVICE}")


def _read(frame: Keyframe) -> EvalSample:
    (fx, _, cx), (_, fy, cy), _ = frame.camera.intrinsic
    camera = camera_of(f"the tables, sample {frame.token}", fx, fy, cx, cy, frame.camera.size)
    image = read_image(frame.camera.path, full_size=camera.size)
    depth = project_points(read_scan(frame.scanner.path, floats=5), projection(frame), camera.size)
    return EvalSample(image, depth, camera, f"{frame.scene} {frame.camera.path.stem}")


def project_points(scan: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Depth of a scan as the tools behind the published numbers make it, float32 [height, width], 0 where unknown.

    Pixel coordinates are cut off, not rounded, and of several points on one pixel the last of the scan counts. Points
    within 1 m (on the car itself) and those on the image's outermost pixels are left out.
    """
    u, v, depth = matrix[:, :3] @ scan.T.astype(np.float64) + matrix[:, 3:]
    front = depth > 1
    column, row, depth = u[front] / depth[front], v[front] / depth[front], depth[front]
    inside = (column > 1) & (column < size[1] - 1) & (row > 1) & (row < size[0] - 1)
    result = np.zeros(size, np.float32)
    result[row[inside].astype(int), column[inside].astype(int)] = depth[inside]
    return result


def projection(frame: Keyframe) -> np.ndarray:
    """Scanner to image, [3, 4]; the car moves between the two sensors' times."""
    camera, scanner = frame.camera, frame.scanner
    to_world = scanner.car_to_world.matrix() @ scanner.sensor_to_car.matrix()
    to_camera = np.linalg.solve(camera.car_to_world.matrix() @ camera.sensor_to_car.matrix(), to_world)
    return np.asarray(camera.intrinsic, np.float64) @ to_camera[:3]


DATASETS.add(
    "nuscenes",
    Dataset(
        title="nuScenes, front camera with LiDAR, by condition",
        page="https://www.nuscenes.org/nuscenes#download (Full dataset v1.0, Trainval)",
        layout=f"{VERSION}/*.json, samples/{CAMERA}/*.jpg, samples/{SCANNER}/*.pcd.bin",
        conditions={_DAY_CLEAR: None, _DAY_RAIN: None, _NIGHT: None, NIGHT_LIST: 500},
        open=open_condition,
        split_format=SPLIT_FORMAT,
        needs_split=lambda condition: condition == NIGHT_LIST,
    ),
)
# The conditions as in md4all, the list of night frames as in Robust-Depth.
add_protocols(
    "nuscenes",
    conditions=[_DAY_CLEAR, _DAY_RAIN, _NIGHT],
    valid=(0.1, 80.0),
    clip=(0.1, 80.0),
    resize="depth_corners",
)
add_protocols("nuscenes", conditions=[NIGHT_LIST], valid=ANY_DEPTH, alignment="median")

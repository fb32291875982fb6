"""Files of every kind that people bring, mutated: a reader answers, or says in a sentence what is wrong.

Each reader sees the same made inputs every time; ROBUSTDEPTH_FUZZ=500 makes that many new ones for each. What once
found something stays in FOUND.
"""

import contextlib
import functools
import json
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from robustdepth.data.benchmarks import cadc, cityscapes, make3d, nuscenes, robotcar
from robustdepth.data.images import image_size, read_image
from robustdepth.data.lidar import project_eigen, project_lidar, read_depth_png, read_scan
from robustdepth.data.recordings import kitti_odometry, kitti_raw
from robustdepth.data.recordings.clips import read_split
from robustdepth.data.recordings.frames import make_clip_camera, read_camera_file
from robustdepth.data.stereo.pairs import read_disparity
from robustdepth.data.stereo.proxies import read_metadata
from robustdepth.data.video import VideoReader
from robustdepth.errors import UserError
from robustdepth.evaluation.baselines import find_median_map
from robustdepth.evaluation.predictors import ForeignPredictor
from robustdepth.interop.torch_file import read_weights
from robustdepth.runtime.bundle import read_bundle
from robustdepth.runtime.inference import load_model
from robustdepth.types import Camera, EvalSample
from tests import made_files
from tests.made_files import MAPS, POINTS, image_bytes, mat_bytes, numpy_bytes
from tests.recordings import CAMERA, DRIVE, SIZE, projection
from tests.tiny import tiny_config

MADE = int(os.environ.get("ROBUSTDEPTH_FUZZ", "0"))
FIXTURES = pathlib.Path(__file__).parent / "fixtures"


def read_any_image(path: pathlib.Path) -> None:
    size = image_size(path)
    assert read_image(path).shape == (*size, 3)
    assert read_image(path, (8, 16)).shape == (8, 16, 3)


def read_points(path: pathlib.Path) -> None:
    points = read_scan(path)
    for project in (project_lidar, project_eigen):
        assert np.isfinite(project(points, projection(0.0), SIZE)).all()


def read_film(path: pathlib.Path) -> None:
    reader = VideoReader(path)
    assert len(reader) >= 0 <= reader.rate
    for count, frame in enumerate(reader):
        assert frame.shape[2] == 3
        if count > 50:
            break
    reader.close()


def read_predictions(path: pathlib.Path) -> None:
    """As a file, and as the only one of a folder; the sample asks for one that is there."""
    camera = Camera(np.ones(2, np.float32), np.ones(2, np.float32), (8, 10))
    sample = EvalSample(np.zeros((8, 10, 3), np.uint8), np.ones((8, 10), np.float32), camera, path.stem)
    for place, count in ((path, 3), (path.parent, 1)):
        if place == path and path.suffix == ".png":
            continue
        for kind in ("depth", "inverse_depth"):
            with contextlib.suppress(UserError):
                assert ForeignPredictor(place, kind, count, path.stem).prepare(0, sample).ndim == 2


def load_described(path: pathlib.Path) -> None:
    """The model of two arrays that has this config: whatever it describes, the arrays are not its."""
    bundle = path.with_suffix(".safetensors")
    bundle.write_bytes(made_files.model_bytes(path.read_text(encoding="utf-8", errors="replace")))
    with pytest.raises(UserError):
        load_model(bundle)


class Reader(NamedTuple):
    """A file's place, its whole content (text is reworded, bytes are mutated), and what reads it."""

    place: str
    whole: str | bytes
    read: Callable[[pathlib.Path], object]
    beside: tuple[str, str] = ("", "")  # another file that must be there, and its content


def within(levels: int, read: Callable, *arguments: object) -> Callable[[pathlib.Path], object]:
    """`read` for the folder that many levels above the file."""
    return lambda path: read(path.parents[levels - 1], *arguments)


DAY = DRIVE.split("/")[0]
DEEP = np.full((8, 10), 999, np.uint16)
FRONT, EXTRINSICS = made_files.FRONT, made_files.EXTRINSICS
calibrated = within(1, cadc.read_calibration.__wrapped__)
open_predictions = functools.partial(ForeignPredictor, kind="depth", count=0, first_name="a")
READERS = {
    "camera": Reader("camera.json", json.dumps(CAMERA), lambda path: make_clip_camera(read_camera_file(path), path)),
    "split": Reader("split.txt", f"{DRIVE} 0000000005 l\n\nday 1 7\n", read_split),
    "calibration": Reader(
        f"{DAY}/calib_cam_to_cam.txt",
        made_files.CALIBRATION,
        within(2, kitti_raw.drive_frames, DRIVE),
        (f"{DRIVE}/image_02/data/0.png", ""),
    ),
    "speeds": Reader("oxts/data/0000000000.txt", "1.5 " * 30, within(3, kitti_raw._read_motion)),
    "times": Reader("times.txt", "2011-09-26 13:02:25.1\n2011-09-26 13:02:25.2\n", kitti_raw._read_times),
    "poses": Reader(
        "poses/00.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n" * 2, within(2, kitti_odometry.ground_truth_poses, "00")
    ),
    "odometry": Reader("sequences/00/calib.txt", made_files.ODOMETRY, within(3, kitti_odometry.sequence_frames, "00")),
    "cadc camera": Reader("00.yaml", FRONT, calibrated, ("extrinsics.yaml", EXTRINSICS)),
    "cadc scanner": Reader("extrinsics.yaml", EXTRINSICS, calibrated, ("00.yaml", FRONT)),
    "cityscapes": Reader("camera.json", made_files.CITY, cityscapes.read_camera),
    "robotcar": Reader("model.txt", made_files.MODEL, robotcar.read_camera_model),
    "nuscenes": Reader("sample.json", made_files.TABLE, lambda path: list(nuscenes.read_table(path))),
    "proxies": Reader("metadata.json", made_files.PROXIES, within(1, read_metadata)),
    "make3d": Reader("grid.mat", mat_bytes(), make3d.read_grid),
    "make3d compressed": Reader("grid.mat", mat_bytes(do_compression=True), make3d.read_grid),
    **{
        f"image {place} {number}": Reader(place, whole, read_any_image)
        for number, (place, whole) in enumerate(made_files.images())
    },
    "avi": Reader("a.avi", made_files.film(), read_film),
    "scan": Reader("0.bin", POINTS.tobytes(), read_points),
    "cloud": Reader("0.pcd.bin", POINTS[:, :3].tobytes(), robotcar.read_cloud),
    "depth png": Reader("0.png", image_bytes("PNG", DEEP), lambda path: read_depth_png(path, DEEP.shape)),
    "pfm": Reader("0.pfm", made_files.PFM, read_disparity),
    "disparity": Reader("0.npz", numpy_bytes(np.savez, MAPS[0]), read_disparity),
    "maps npy": Reader("maps/a.npy", numpy_bytes(np.save, MAPS), read_predictions),
    "maps npz": Reader("maps/a.npz", numpy_bytes(np.savez, depth=MAPS[0], scale=np.array("metric")), read_predictions),
    "maps png": Reader("maps/a.png", image_bytes("PNG", DEEP), read_predictions),
    "summary": Reader("maps/predictions.json", '{"scale": "metric", "images": 4}', within(1, open_predictions)),
    "median": Reader(
        "median.npz", numpy_bytes(np.savez, depth=MAPS[0], origin="x"), lambda path: find_median_map(str(path), None)
    ),
    "safetensors": Reader("a.safetensors", made_files.model_bytes(), read_weights),
    "model": Reader("a.safetensors", made_files.model_bytes(), read_bundle),
    "model config": Reader("config.json", json.dumps(tiny_config().to_dict()), load_described),
    "zip pth": Reader("a.pth", (FIXTURES / "zip.pth").read_bytes(), read_weights),
    "legacy pth": Reader("a.pth", (FIXTURES / "legacy.pth").read_bytes(), read_weights),
}

# By reader.
FOUND: dict[str, tuple[bytes, ...]] = {
    "times": (b"2011-09-26 2011-09-26 13:02:25.1",),
    "robotcar": (b"983 643 983 643 493 " + b"1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", b"1e400 983 643 493 " + b"1 " * 16),
    "make3d": (b"MATLAB 5.0 MAT-file ",),
    "proxies": (b"[" * 20_000,),
    "model": (
        *(
            made_files.renamed(made_files.model_bytes(), b"depth/params/a/kernel", name)
            for name in (b"depth/batch_stats/a", b"depth", b"")
        ),
        *(
            made_files.model_bytes(config)
            for config in ("{}", '{"task": "depth"}', '{"task": "depth", "model": 3}', "[" * 99_999)
        ),
        made_files.model_bytes('{"task": "depth", "model": {"freeze_encoder": true, "pretrained": "package"}}'),
    ),
    "model config": (b'{"task": "depth", "model": {"freeze_encoder": false}}', b'{"image_size": [1]}'),
}


def check(reader: Reader, content: bytes, folder: pathlib.Path) -> None:
    """Fails for anything but an answer or a sentence."""
    for place, data in ((reader.place, content), (reader.beside[0], reader.beside[1].encode())):
        if place:
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_bytes(data)
    sentence = "answered"
    try:
        reader.read(folder / reader.place)
    except UserError as error:
        sentence = str(error)
    assert sentence


@pytest.mark.parametrize("name", READERS)
def test_made_files_end_in_an_answer_or_a_sentence(name, tmp_path):
    reader = READERS[name]
    text = isinstance(reader.whole, str)
    reader_says = functools.partial(check, reader, folder=tmp_path)
    reader_says(reader.whole.encode() if text else reader.whole)
    rules = dict(max_examples=MADE or 60, derandomize=not MADE, suppress_health_check=list(HealthCheck))

    @settings(**rules, deadline=None, database=None)
    @given(made_files.reworded(reader.whole) if text else made_files.mutated(reader.whole))
    def run(content: bytes) -> None:
        reader_says(content)

    run()


@pytest.mark.parametrize(("name", "content"), [(name, content) for name in FOUND for content in FOUND[name]])
def test_what_once_found_something(name, content, tmp_path):
    check(READERS[name], content, tmp_path)

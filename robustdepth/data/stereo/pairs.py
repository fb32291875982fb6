"""Rectified stereo pairs with true disparity, for evaluation: rendered worlds, KITTI raw, folders of pairs."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging
from jaxtyping import Float, UInt8
from PIL import Image

from robustdepth.data.arrays import read_array
from robustdepth.data.benchmarks import kitti_2015
from robustdepth.data.images import find_image, list_images, natural_sort, read_image
from robustdepth.data.lidar import project_lidar, read_png16, read_scan
from robustdepth.data.recordings.clips import Frame, select
from robustdepth.data.recordings.kitti_raw import DRIVE, drive_frames, find_drives, lidar_projection, scan_path
from robustdepth.data.stereo.pair_check import check_pair
from robustdepth.errors import BadFile, UserError
from robustdepth.types import STEREO

# How the files of a pair are called: any prefix (often none), then these; the truth is the first of them that exists.
NAMES = (
    ("im0", "im1", ("disp0", "disp0GT")),  # Middlebury 2014
    ("left", "right", ("disparity", "disp")),  # scikit-image: motorcycle_left, motorcycle_right, motorcycle_disp
    ("L", "R", ("GT",)),  # OpenCV: aloeL, aloeR, aloeGT
)
TRUTH_SUFFIXES = (".pfm", ".npz", ".npy", ".png")
CALIBRATION = "calib.txt"
PNG16_SCALE = 256  # a 16-bit PNG holds 256 times the disparity, as KITTI's benchmark writes it
_PFM_HEADER = re.compile(rb"Pf\s+(\d{1,6})\s+(\d{1,6})\s+([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s")


@dataclasses.dataclass(frozen=True)
class StereoPair:
    """A rectified pair at its full size; a pixel (x, y) of `left` is seen at (x - disparity, y) of `right`."""

    left: UInt8[np.ndarray, "height width 3"]
    right: UInt8[np.ndarray, "height width 3"]
    disparity: Float[np.ndarray, "height width"]  # true, of the left image, pixels; 0 where unknown
    name: str
    max_disparity: int  # pixels that a search must reach: what the calibration says, else what the truth holds


@dataclasses.dataclass(frozen=True)
class StereoPairs:
    """Pairs that are read, or rendered, one after another."""

    title: str
    count: int
    read_some: Callable[[range], Iterator[StereoPair]]
    rendered: int = 1  # at a time, from the first one on

    def read(self, chosen: range | None = None) -> Iterator[StereoPair]:
        """Some neighbours, by their numbers, or all; of what is rendered at a time, the first must be chosen."""
        return self.read_some(range(self.count) if chosen is None else chosen)


def world_pairs(size: tuple[int, int], count: int, seed: int, batch_size: int) -> StereoPairs:
    """The first `count` evaluation worlds of a seed at `size` (height, width), rendered `batch_size` at a time.

    True disparity is focal length times baseline over depth; the sky at the far plane has a small one, which counts.
    Pixels that the right camera does not see have a true disparity too.
    """

    def read(chosen: range) -> Iterator[StereoPair]:
        from robustdepth.world.generate import render_examples  # compiles nothing for those who bring their own pairs

        for first in chosen[::batch_size]:
            indices = np.arange(first, first + batch_size)  # the last batch is rendered whole: one compilation
            batch, scene = render_examples(indices, seed=seed, split="evaluation", size=size, views=(STEREO,))
            focal, baseline, depth = (np.asarray(x) for x in (batch.camera.focal, batch.baseline, scene.depth[:, 0]))
            disparity = (focal[:, 0] * baseline)[:, None, None] / depth
            left, right = np.asarray(batch.target), np.asarray(batch.sources[:, 0])
            for i in range(min(batch_size, chosen.stop - first)):
                yield _pair(left[i], right[i], disparity[i], f"world_{first + i:05d}")

    return StereoPairs("unseen procedural worlds", count, read, batch_size)


def open_pairs(root: str | pathlib.Path, names: Sequence[str] = ()) -> StereoPairs:
    """The pairs of a folder of KITTI raw (it holds DATE/DRIVE_sync) or of KITTI stereo 2015, else of named pairs.

    `names` narrows them down. Raises UserError, see `kitti_pairs`, `kitti_2015_pairs` and `folder_pairs`.
    """
    root = pathlib.Path(root)
    if kitti_2015.is_there(root):
        return kitti_2015_pairs(root, names)
    return kitti_pairs(root, names) if find_drives(root) else folder_pairs(root, names)


def kitti_pairs(root: pathlib.Path, drives: Sequence[str] = ()) -> StereoPairs:
    """Frames of KITTI raw that have both colour images and a Velodyne scan.

    True disparity is focal length times baseline over the depth of the frame's own scan in camera 2, at the nearest
    pixel, so it is sparse. The scanner stands above the cameras and sees some points that they do not.

    Pairs with a damaged file are left out when they are read, with a warning.

    Raises UserError: no such frame, unknown drive, or, when read, a pair that is not rectified.
    """
    frames = []
    for drive in select(find_drives(root), drives, DRIVE, root):
        found = {frame.key: frame for frame in drive_frames(root, drive)}
        frames += [
            (frame, found[drive, number, "r"])
            for (_, number, side), frame in found.items()
            if side == "l" and (drive, number, "r") in found and scan_path(root, drive, number)
        ]
    if not frames:
        raise UserError(f"no frame of the drives under {root} has image_02, image_03 and a scan: download all three.")

    def read(chosen: range) -> Iterator[StereoPair]:
        for left, right in frames[chosen.start : chosen.stop]:
            try:
                pair = _kitti_pair(root, left, right)
            except BadFile as error:
                logging.warning("%s This pair is left out.", error)
            else:
                yield pair

    return StereoPairs("KITTI raw, projected LiDAR", len(frames), read)


def _kitti_pair(root: pathlib.Path, left: Frame, right: Frame) -> StereoPair:
    scan = scan_path(root, left.clip, left.number)
    if scan is None:
        raise UserError(f"'{left.name}' under {root} has no LiDAR scan: leave it out, or download velodyne_points.")
    size = left.camera.size
    depth = project_lidar(read_scan(scan), lidar_projection(root / left.clip.split("/")[0], "l"), size)
    reach = float(left.camera.focal[0]) * left.baseline
    disparity = np.divide(reach, depth, out=np.zeros_like(depth), where=depth > 0)
    images = read_image(left.file, full_size=size), read_image(right.file, full_size=size)
    name = f"{left.clip} {left.number:010d}"
    check_pair(*images, name)
    return _pair(*images, disparity, name)


def kitti_2015_pairs(root: pathlib.Path, names: Sequence[str] = ()) -> StereoPairs:
    """The scenes of KITTI stereo 2015. Raises UserError: no right image, an unknown name, a damaged file."""
    found = {scene.name: scene for scene in kitti_2015.open_scenes(root)}
    scenes = [found[name] for name in select(list(found), names, "scene", root)]
    files = [(scene, kitti_2015.right_image(scene)) for scene in scenes]

    def read(chosen: range) -> Iterator[StereoPair]:
        for scene, other in files[chosen.start : chosen.stop]:
            left, right = (read_image(path, full_size=scene.camera.size) for path in (scene.left, other))
            yield _pair(left, right, kitti_2015.read_disparity(scene), scene.name)

    return StereoPairs("KITTI stereo 2015", len(scenes), read)


class _Files(NamedTuple):
    """The files of one pair."""

    left: pathlib.Path
    right: pathlib.Path
    truth: pathlib.Path
    name: str


def folder_pairs(root: pathlib.Path, names: Sequence[str] = ()) -> StereoPairs:
    """The pairs that lie in a folder or in its subfolders, found by the names in NAMES.

    A pair is called after its subfolder and prefix: aloe/aloeL.jpg belongs to "aloe/aloe". Images are PNG or JPEG.
    The truth is read by `read_disparity`. A calib.txt beside a pair may say ndisp=NUMBER, the disparities it needs.

    Raises UserError: no pair, a left image without its right one or its truth, an unknown name; and when read: damaged
    files, images or truth of another size, a pair that is not rectified.
    """
    below = (
        [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")] if root.is_dir() else []
    )
    folders = [root, *natural_sort(below)]
    files = {pair.name: pair for folder in folders for pair in _find_files(root, folder)}
    if not files:
        examples = " or ".join(f"{left}/{right}/{truths[0]}" for left, right, truths in NAMES)
        raise UserError(f"no stereo pair found under {root}: its files must be called {examples} (docs/evaluation.md).")
    chosen = [files[name] for name in select(list(files), names, "pair", root)]

    def read(numbers: range) -> Iterator[StereoPair]:
        return map(_folder_pair, chosen[numbers.start : numbers.stop])

    return StereoPairs("pairs of a folder", len(chosen), read)


def _find_files(root: pathlib.Path, folder: pathlib.Path) -> Iterator[_Files]:
    for path in list_images(folder):
        for left, right, truths in NAMES:
            if not path.stem.endswith(left):
                continue
            prefix = path.stem.removesuffix(left)
            parts = [*folder.relative_to(root).parts, prefix.strip("_-. ")]
            name = "/".join(part for part in parts if part) or root.resolve().name
            other = find_image(folder, prefix + right)
            if other is None:
                raise UserError(f"stereo pair {name} has no right image {folder / (prefix + right)}.png: add it.")
            written = [*TRUTH_SUFFIXES, *map(str.upper, TRUTH_SUFFIXES)]
            candidates = (folder / f"{prefix}{truth}{suffix}" for truth in truths for suffix in written)
            truth = next((candidate for candidate in candidates if candidate.is_file()), None)
            if truth is None:
                wanted = f"{prefix}{truths[0]}.pfm, .npz, .npy or .png"
                raise UserError(f"stereo pair {name} has no true disparity in {folder}: add {wanted}.")
            yield _Files(path, other, truth, name)


def _folder_pair(files: _Files) -> StereoPair:
    left, right, disparity = read_image(files.left), read_image(files.right), read_disparity(files.truth)
    for what, size in (("right image", right.shape[:2]), ("true disparity", disparity.shape)):
        if size != left.shape[:2]:
            raise UserError(
                f"stereo pair {files.name}: the {what} has {size[1]}x{size[0]} pixels, the left image "
                f"{left.shape[1]}x{left.shape[0]}; give all of them at one size."
            )
    check_pair(left, right, files.name)
    return _pair(left, right, disparity, files.name, _read_reach(files.left.parent / CALIBRATION))


def _read_reach(path: pathlib.Path) -> int:
    """ndisp of a calibration file, 0 where it says none. Raises UserError."""
    if not path.is_file():
        return 0
    found = re.search(r"^\s*ndisp\s*=\s*(.*?)\s*$", path.read_text(errors="replace"), re.MULTILINE)
    if found is None:
        return 0
    if not re.fullmatch(r"[1-9]\d{0,4}", found[1]):
        raise UserError(f"{path} says ndisp={found[1]}, which is no number of disparities: correct it.")
    return int(found[1])


def _pair(left: np.ndarray, right: np.ndarray, disparity: np.ndarray, name: str, reach: int = 0) -> StereoPair:
    if not disparity.any():
        raise UserError(f"stereo pair {name} has no pixel of known disparity: leave it out.")
    return StereoPair(left, right, disparity.astype(np.float32), name, reach or int(disparity.max()) + 1)


def read_disparity(path: pathlib.Path) -> Float[np.ndarray, "height width"]:
    """A disparity map in pixels, float32, 0 where unknown: wherever the file holds nothing finite and positive.

    PFM, .npy and .npz (its only array) hold pixels. An 8-bit PNG holds whole pixels, as the full-size maps of
    Middlebury 2005 and 2006 do; a 16-bit PNG holds 256 times the disparity, as KITTI's do.

    Raises UserError: a damaged file, or one of another kind.
    """
    readers = {".pfm": read_pfm, ".npz": _read_numpy, ".npy": _read_numpy, ".png": _read_png}
    disparity = readers[path.suffix.lower()](path).astype(np.float32)
    return np.where(np.isfinite(disparity) & (disparity > 0), disparity, np.float32(0))


def read_pfm(path: pathlib.Path) -> Float[np.ndarray, "height width"]:
    """A portable float map with one channel, top row first.

    The header's scale says the byte order by its sign; its size is a unit, which Middlebury's files fill with 1/255
    though their numbers are pixels, so it is left aside (OpenCV divides by it).

    Raises UserError: no PFM, or not as many numbers as its header says.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read disparity {path} ({error.strerror}).") from error
    header = _PFM_HEADER.match(data)
    if header is None or not float(header[3]):
        raise UserError(f"{path} is no portable float map with one channel (Pf, width, height, scale): replace it.")
    width, height, pixels = int(header[1]), int(header[2]), data[header.end() :]
    if not width * height or len(pixels) != 4 * width * height:
        raise UserError(f"{path} is damaged: its header says {width}x{height} pixels, it holds {len(pixels) / 4:g}.")
    order = "<f4" if float(header[3]) < 0 else ">f4"
    return np.frombuffer(pixels, order).reshape(height, width)[::-1].astype(np.float32)


def _read_numpy(path: pathlib.Path) -> np.ndarray:
    loaded = read_array(path)
    if loaded.ndim != 2:
        raise BadFile(f"disparity {path} holds {loaded.dtype}{list(loaded.shape)}: it must hold one [height, width].")
    return loaded


def _read_png(path: pathlib.Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            if image.mode == "L":
                return np.array(image)
    except Exception as error:  # Pillow's readers raise whatever they run into in a damaged file
        raise BadFile(f"cannot read disparity {path}: {error}; replace it.") from error
    return read_png16(path, None) / PNG16_SCALE

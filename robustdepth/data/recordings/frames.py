"""Your own footage: folders of images, or videos, each with a camera.json beside them (docs/own_footage.md)."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from robustdepth.data.calibration import camera_of
from robustdepth.data.images import FORMATS, files_in, folders_below, image_size, list_images
from robustdepth.data.numbering import places
from robustdepth.data.recordings.clips import RECORDINGS, Frame, Recording, read_file, select
from robustdepth.data.text import read_text
from robustdepth.data.video import list_videos, unpack
from robustdepth.errors import UserError, nearest
from robustdepth.geometry.camera import resize_camera
from robustdepth.types import Camera

CAMERA_FILE = "camera.json"
REQUIRED = ("width", "height", "fx", "fy", "cx", "cy")
OPTIONAL = ("baseline", "fps", "speed")
LARGEST = 1_000_000  # no number of a camera is beyond: pixels, metres, frames or metres per second
SLOWEST = 1e-3  # frames per second
WIDEST = 0.1  # focal length over width or height; a smaller one sees 157 degrees, as no camera without distortion
EXAMPLE = '{"width": 1280, "height": 720, "fx": 900, "fy": 900, "cx": 639.5, "cy": 359.5}'


@RECORDINGS.listed("frames")
def open_recording(data: ConfigDict) -> Recording:
    """All frames under `data.root`: a video, a folder with camera.json, or a folder of such folders.

    Every folder of images and every video is one clip. Images in a subfolder right/ are the right views of the images
    of the same name. Raises UserError for what cannot be right.
    """
    root = pathlib.Path(data.root)
    clips = find_clips(root)
    names = select(list(clips), data.sequences, "clip", root)
    frames = [frame for name in names for frame in clip_frames(name, clips[name])]
    return Recording(frames, read_file)


def find_clips(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Folders of images, and videos, that have a camera.json; by their name within `root`. Raises UserError."""
    if root.is_file():
        return {root.name: root}
    if not root.is_dir():
        raise UserError(f"{root} does not exist; give a video, or a folder with images and a {CAMERA_FILE}.")
    clips = {}
    for folder in sorted(folder for folder in folders_below(root) if _has_camera(folder)):
        name = root.absolute().name if folder == root else folder.relative_to(root).as_posix()
        videos = list_videos(folder)
        if list_images(folder) or not videos:
            clips[name] = folder
        clips.update({f"{name}/{video.name}": video for video in videos})
    if not clips:
        raise UserError(f"no {CAMERA_FILE} in {root} or below; put one beside the images, such as {EXAMPLE}.")
    return clips


def _has_camera(folder: pathlib.Path) -> bool:
    """Also where it is a link to a file that is gone, or a folder: who reads it says so."""
    path = folder / CAMERA_FILE
    return path.is_file() or path.is_dir() or (path.is_symlink() and not path.exists())


def clip_frames(name: str, path: pathlib.Path) -> list[Frame]:
    """The frames of one clip, left camera first. Raises UserError."""
    camera_file = (path.parent if path.is_file() else path) / CAMERA_FILE
    values = read_camera_file(camera_file)
    camera = make_clip_camera(values, camera_file)
    fps = values.get("fps", 0.0)
    left, right = path, path / "right"
    if path.is_file():
        left, video_fps = unpack(path, camera.size)
        fps = fps or video_fps
    images = list_images(left)
    if len(images) < 2:
        others = "" if images or path.is_file() else f" of the kinds that are read ({FORMATS}{_found_instead(left)})"
        remedy = "or remove it" if images or path.is_file() else f"or put its {CAMERA_FILE} beside the images"
        raise UserError(
            f"{path} holds {len(images)} images{others}, but a clip needs two at least; add frames, {remedy}."
        )
    if "speed" in values and not fps:
        raise UserError(f'{camera_file} gives "speed" but no "fps"; add the frames per second.')
    if not path.is_file():
        _check_size(images[0], camera, camera_file)
    camera = resize_camera(camera, image_size(images[0]))
    baseline = values.get("baseline", 0.0)
    stands = dict(zip((image.stem for image in images), places(images), strict=True))
    first = stands[images[0].stem].place

    def frame(side: str, image: pathlib.Path) -> Frame:
        number, place = stands[image.stem]
        time, to_other = (place - first) / fps if fps else 0.0, baseline if side == "l" else -baseline
        return Frame(name, number, side, image, camera, to_other, values.get("speed", 0.0), time, place)

    frames = [frame("l", image) for image in images]
    if path.is_dir() and baseline:
        pairs = [image for image in list_images(right) if image.stem in stands]
        if not pairs:
            raise UserError(f'{camera_file} gives a "baseline", but {right} holds no image named like one in {path}.')
        _check_size(pairs[0], camera, camera_file)
        frames += [frame("r", image) for image in pairs]
    return frames


def _found_instead(folder: pathlib.Path) -> str:
    """What a folder without images holds, as part of a sentence: "; there are .heic, .gif"."""
    suffixes = sorted({path.suffix.lower() for path in files_in(folder) if path.name != CAMERA_FILE} - {""})
    return f"; there are {', '.join(suffixes)}" if suffixes else ""


def read_camera_file(path: pathlib.Path) -> Mapping[str, float]:
    """The numbers of a camera.json. Raises UserError for missing, unknown or impossible ones."""
    try:
        values = json.loads(read_text(path), object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}; it must look like {EXAMPLE}.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no object; it must look like {EXAMPLE}.")
    for name in values:
        if name not in REQUIRED + OPTIONAL:
            raise UserError(f'{path} has an unknown entry "{name:.40}"; {nearest(name, REQUIRED + OPTIONAL)}')
    for name in REQUIRED:
        if name not in values:
            raise UserError(f'{path} lacks "{name}"; it must look like {EXAMPLE}.')
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise UserError(f'{path}: "{name}" is {value!r:.40}, but must be a number.')
        if name in ("width", "height", "baseline", "fps") and value <= 0:
            raise UserError(f'{path}: "{name}" is {value!r:.40}, but must be positive.')
        if abs(value) > LARGEST or (name == "fps" and value < SLOWEST):
            raise UserError(f'{path}: "{name}" is {value!r:.40}, which no camera has (at most {LARGEST:,}).')
        if name in ("width", "height") and value != int(value):
            raise UserError(f'{path}: "{name}" is {value}, but must be a whole number of pixels.')
    return {name: float(value) for name, value in values.items()}


def _once(entries: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose entries stand there once. Raises ValueError where one is given twice."""
    names = [name for name, _ in entries]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f'"{twice[0]:.40}" is given twice')
    return dict(entries)


def make_clip_camera(values: Mapping[str, float], path: pathlib.Path) -> Camera:
    """The camera of a camera.json. Raises UserError that names the file."""
    fx, fy, cx, cy = (values[name] for name in ("fx", "fy", "cx", "cy"))
    width, height = int(values["width"]), int(values["height"])
    camera = camera_of(path, fx, fy, cx, cy, (height, width))
    if fx < WIDEST * width or fy < WIDEST * height:
        raise UserError(
            f"{path}: fx={fx:g} and fy={fy:g} are too short for {width}x{height} pixels; give pixels, not shares of "
            "the size (fx = width * share, cx = width * share - 0.5) or millimetres."
        )
    return camera


def _check_size(image: pathlib.Path, camera: Camera, camera_file: pathlib.Path) -> None:
    size = height, width = image_size(image)
    if size != camera.size:
        if size == camera.size[::-1]:
            raise UserError(
                f"{image} has {width}x{height} pixels, but {camera_file} is for {height}x{width}: width and height are "
                "swapped, or the image was turned; then the intrinsics must be turned, too."
            )
        resized = resize_camera(camera, size)
        (fx, fy), (cx, cy) = resized.focal, resized.center
        raise UserError(
            f"{image} has {width}x{height} pixels, but {camera_file} is for {camera.size[1]}x{camera.size[0]}: if the "
            f"images were resized, give width={width}, height={height}, fx={fx:.2f}, fy={fy:.2f}, cx={cx:.2f}, "
            f"cy={cy:.2f}; if they were cropped, subtract the window's left and top edge from cx and cy."
        )

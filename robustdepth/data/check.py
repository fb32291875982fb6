"""What a recording looks like before one trains on it: field of view, frames that stand still, parallax."""

import concurrent.futures
import dataclasses
import itertools
import math
from collections.abc import Sequence

import cv2
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from robustdepth.data.images import BadImage
from robustdepth.data.recordings.clips import Frame, Key, Recording
from robustdepth.data.source import open_recording
from robustdepth.errors import UserError
from robustdepth.geometry.camera import resize_camera
from robustdepth.types import Camera

WIDTH = 640  # images are compared at this width
PAIRS = 60  # consecutive frames looked at in each clip, evenly spread
STATIC = 0.3  # median motion in pixels below which the camera stands still
FLAT = 1.5  # grey levels (of 255) by which the pixels of a black or constant image deviate at most
SHOWN = 5  # gaps that are named
STRETCHED = 1.25  # ratio of fx and fy (either way) from which the two are doubted
LOW_PARALLAX = 0.3  # pixels; below it depth can hardly be learned from the motion


@dataclasses.dataclass(frozen=True)
class ClipReport:
    """What `check` found in one clip; motion and parallax are medians over pairs of frames, in pixels of WIDTH."""

    name: str
    frames: int
    size: tuple[int, int]
    field_of_view: tuple[float, float]  # horizontal, vertical, degrees
    stretch: float  # fy / fx
    pairs: int  # pairs of consecutive frames looked at
    static: int  # of them, those in which the camera stands still
    motion: float
    parallax: float  # motion that no rotation of the camera explains
    stereo: int  # frames with a right view
    baseline: float
    gaps: tuple[str, ...]  # "12 to 400": numbers between which frames are missing
    flat: int  # frames that are black, or of one colour

    def __str__(self) -> str:
        (height, width), (horizontal, vertical) = self.size, self.field_of_view
        text = f"{self.name}: {self.frames} frames of {width}x{height}"
        text += f", {self.stereo} of them with a right view {self.baseline:.3f} m away" if self.stereo else ""
        text += f"\n  field of view {horizontal:.1f} x {vertical:.1f} degrees (horizontal x vertical)"
        if not 1 / STRETCHED < self.stretch < STRETCHED:
            text += f"\n  warning: fy is {self.stretch:.3g} times fx, which is right for stretched images only."
        text += f"\n  static: {self.static} of {self.pairs} pairs of consecutive frames"
        text += f"\n  motion {self.motion:.1f} px, parallax {self.parallax:.1f} px at {WIDTH} px width (medians)"
        if self.gaps:
            text += f"\n  {len(self.gaps)} gaps in the numbering, over which no views are paired: {_some(self.gaps)}"
        if self.flat:
            text += f"\n  warning: {self.flat} frames are black or of one colour; nothing can be learned from them."
        if self.pairs and self.static > 0.2 * self.pairs:
            text += "\n  warning: the camera often stands still; leave such parts out."
        elif self.pairs and self.parallax < LOW_PARALLAX:
            text += "\n  warning: hardly any parallax; the camera must move, not only turn (or raise data.frame_step)."
        return text


def check(data: ConfigDict) -> list[ClipReport]:
    """Reads every image of a recording and reports on each of its clips.

    Raises:
      UserError: what cannot be right: unreadable images, a clip of one frame, impossible or unfitting intrinsics.
    """
    recording = open_recording(data)
    flat = _read_all(recording)
    by_clip = sorted(recording.frames, key=lambda frame: (frame.clip, frame.place))
    clips = itertools.groupby(by_clip, key=lambda frame: frame.clip)
    return [_report(name, recording, list(frames), flat) for name, frames in clips]


def _read_all(recording: Recording) -> set[Key]:
    """Decodes every image, and returns those that are flat."""

    def read(frame: Frame) -> BadImage | bool:
        try:
            size = max(1, frame.camera.size[0] // 8), max(1, frame.camera.size[1] // 8)
            return bool(recording.read(frame, size).std(axis=(0, 1)).max() < FLAT)
        except BadImage as error:
            return error

    with concurrent.futures.ThreadPoolExecutor() as pool:
        frames = recording.frames
        results = list(tqdm(pool.map(read, frames), total=len(frames), desc="reading", unit="frame", leave=False))
    if errors := [result for result in results if isinstance(result, BadImage)]:
        raise UserError(f"{len(errors)} of {len(results)} images are bad, the first: {errors[0]}")
    return {frame.key for frame, is_flat in zip(frames, results, strict=True) if is_flat}


def _report(name: str, recording: Recording, frames: Sequence[Frame], flat: set[Key]) -> ClipReport:
    left = [frame for frame in frames if frame.side == "l"] or list(frames)
    right = {frame.number for frame in frames if frame.side == "r"} & {frame.number for frame in left if frame.baseline}
    if len(left) < 2 and not right:
        raise UserError(f"{name} has one frame only; depth is learned from two at least: add frames or remove it.")
    pairs = [pair for pair in itertools.pairwise(left) if pair[1].place == pair[0].place + 1]
    gaps = [pair for pair in itertools.pairwise(left) if pair[1].place != pair[0].place + 1]
    chosen = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, PAIRS).astype(int))] if pairs else []
    motions = np.array([_motion(recording, *pair) for pair in chosen]).reshape(-1, 2)
    motion, parallax = np.median(motions, axis=0) if chosen else (0.0, 0.0)
    camera = left[0].camera
    return ClipReport(
        name=name,
        frames=len(left),
        size=camera.size,
        field_of_view=field_of_view(camera),
        stretch=float(camera.focal[1] / camera.focal[0]),
        pairs=len(chosen),
        static=int((motions[:, 0] < STATIC).sum()),
        motion=float(motion),
        parallax=float(parallax),
        stereo=len(right),
        baseline=abs(left[0].baseline),
        gaps=tuple(f"{before.number} to {after.number}" for before, after in gaps),
        flat=sum(frame.key in flat for frame in frames),
    )


def _some(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def field_of_view(camera: Camera) -> tuple[float, float]:
    """Horizontal and vertical angle in degrees between the outer edges of the image."""
    angles = []
    for focal, center, length in zip(camera.focal, camera.center, camera.size[::-1], strict=True):
        angles.append(math.degrees(math.atan((center + 0.5) / focal) + math.atan((length - 0.5 - center) / focal)))
    return angles[0], angles[1]


def _motion(recording: Recording, first: Frame, second: Frame) -> tuple[float, float]:
    """Median motion and parallax in pixels between two frames, from tracked corners; 0 where nothing can be tracked."""
    size = (max(1, round(first.camera.size[0] * WIDTH / first.camera.size[1])), WIDTH)
    before, after = (cv2.cvtColor(recording.read(frame, size), cv2.COLOR_RGB2GRAY) for frame in (first, second))
    corners = cv2.goodFeaturesToTrack(before, maxCorners=400, qualityLevel=0.01, minDistance=8)
    if corners is None:
        return 0.0, 0.0
    tracked, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, corners.copy())
    points, moved = (array[found[:, 0] == 1].reshape(-1, 2) for array in (corners, tracked))
    if len(points) < 8:
        return 0.0, 0.0
    motion = np.linalg.norm(moved - points, axis=1)
    return float(np.median(motion)), parallax_of(points, moved, resize_camera(first.camera, size))


def parallax_of(points: np.ndarray, moved: np.ndarray, camera: Camera) -> float:
    """Median motion in pixels left after the best rotation of the camera is taken out.

    The rotation is the least-squares one between the viewing rays (Kabsch, 1976).
    """
    rays = [np.column_stack([(p - camera.center) / camera.focal, np.ones(len(p))]) for p in (points, moved)]
    before, after = (ray / np.linalg.norm(ray, axis=1, keepdims=True) for ray in rays)
    u, _, vt = np.linalg.svd(before.T @ after)
    rotation = vt.T @ np.diag([1, 1, np.linalg.det(vt.T @ u.T)]) @ u.T
    rotated = before @ rotation.T
    rotated = camera.focal * rotated[:, :2] / rotated[:, 2:] + camera.center
    return float(np.median(np.linalg.norm(rotated - moved, axis=1)))

"""Where the videos of the video protocols come from: the rendered world, KITTI odometry, and own footage.

Long recordings are cut into videos of PAIRS pairs of frames, neighbours sharing one frame so that no pair is lost.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from robustdepth.errors import UserError
from robustdepth.evaluation.protocols import WORLD_SEED
from robustdepth.evaluation.tasks.odometry import open_sequence
from robustdepth.types import NEXT, PREVIOUS, Camera, EvalSample

PAIRS = 100  # of consecutive frames in one video, which has one alignment; published videos have up to 200 frames
WORLD_VIDEOS = 50


@dataclasses.dataclass(frozen=True)
class Video:
    """Consecutive frames of one camera."""

    recording: str  # the world, sequence or clip that it is cut from
    name: str
    camera: Camera  # of all frames, unbatched
    frames: Sequence[EvalSample]  # read when asked for
    first: int = 0  # which sample of the whole evaluation the first frame is
    motions: Float[np.ndarray, "pair 4 4"] | None = None  # true T_{i -> i+1}, metres; None where unknown
    truth: Float[np.ndarray, "frame height width"] | None = None  # true depth in metres; None where unknown
    moving: Bool[np.ndarray, "frame height width"] | None = None  # pixels of moving objects, where truth is known

    @property
    def true_motions(self) -> Float[np.ndarray, "pair 4 4"]:
        """`motions`. Raises UserError where they are unknown."""
        if self.motions is None:
            raise UserError(f"the true motion of {self.name} is unknown: only flicker can be measured there.")
        return self.motions


class WorldVideos(Sequence[list[Video]]):
    """Three frames each of the first `count` evaluation worlds, with true depth, motion and moving objects.

    They are rendered when asked for, in groups of `chunk`, whose frames together nearly fill the network's usual batch
    of 16.
    """

    chunk = 5

    def __init__(self, size: tuple[int, int], count: int = WORLD_VIDEOS):
        self.size, self._count = size, count

    def __len__(self) -> int:
        return -(-self._count // self.chunk)

    def __getitem__(self, group: int) -> list[Video]:  # type: ignore[override]
        if not 0 <= group < len(self):
            raise IndexError(group)
        first = group * self.chunk
        return self._render(first)[: self._count - first]

    def _render(self, first: int) -> list[Video]:
        from robustdepth.world.generate import render_examples

        indices = np.arange(first, first + self.chunk)
        batch, scene = jax.device_get(
            render_examples(indices, seed=WORLD_SEED, split="evaluation", size=self.size, views=(PREVIOUS, NEXT))
        )
        return [_world_video(batch, scene, i, f"world_{first + i:05d}") for i in range(self.chunk)]


def _world_video(batch: Any, scene: Any, index: int, name: str) -> Video:
    """Example `index` in the order of time; the renderer gives target, previous and next, and poses from the target."""
    in_time = [1, 0, 2]
    images = np.concatenate([batch.target[index][None], batch.sources[index]])[in_time]
    depth = scene.depth[index][in_time]
    camera = jax.tree.map(lambda leaf: leaf[index], batch.camera)
    to_previous, to_next = scene.pose[index].astype(np.float64)
    return Video(
        name,
        name,
        camera,
        [EvalSample(images[time], depth[time], camera, f"{name}_{time}") for time in range(len(in_time))],
        motions=np.stack([np.linalg.inv(to_previous), to_next]),
        truth=depth,
        moving=scene.moving[index][in_time],
    )


def odometry_videos(root: str, name: str) -> tuple[list[Video], int]:
    """The left images of a KITTI odometry sequence with true motions, and their number; true depth is unknown.

    Raises UserError where images, calibration or poses are missing.
    """
    from robustdepth.data.recordings.kitti_odometry import sequence_frames

    if not root or not name:
        raise UserError("protocol video_odometry needs --data_root=FOLDER (KITTI odometry) and --sequence=NN.")
    sequence = open_sequence(root, name)
    known = set(sequence.numbers)
    frames = [frame for frame in sequence_frames(pathlib.Path(root), name) if frame.side == "l"]
    motions = np.linalg.inv(sequence.poses[1:]) @ sequence.poses[:-1]
    frames = [frame for frame in frames if frame.number in known]
    return list(_cut(name, frames, 0, motions)), len(frames)


def footage_videos(root: str, clips: Sequence[str] = ()) -> tuple[list[Video], int]:
    """Own footage (left camera), and how many frames it has; `clips` chooses some. It has neither poses nor depth.

    Raises UserError where nothing is found or a clip is damaged.
    """
    from robustdepth.data.recordings.clips import select
    from robustdepth.data.recordings.frames import clip_frames, find_clips

    if not root:
        raise UserError("protocol flicker needs --data_root=FOLDER or VIDEO with a camera.json beside the images.")
    found = find_clips(pathlib.Path(root))
    videos: list[Video] = []
    count = 0
    for name in select(list(found), clips, "clip", pathlib.Path(root)):
        frames = [frame for frame in clip_frames(name, found[name]) if frame.side == "l"]
        videos += _cut(name, frames, count)
        count += len(frames)
    if not videos:
        raise UserError(f"no two frames under {root} follow each other by the numbers in their names.")
    return videos, count


def _cut(name: str, frames: Sequence[Any], offset: int, motions: np.ndarray | None = None) -> Iterable[Video]:
    """Videos of a recording's frames (data.clips.Frame), whose first is sample `offset` of the evaluation.

    None of them reaches over missing frames.
    """
    gaps = [i for i in range(1, len(frames)) if frames[i].place != frames[i - 1].place + 1]
    for start, end in zip([0, *gaps], [*gaps, len(frames)], strict=True):
        for first in range(start, end - 1, PAIRS):
            last = min(first + PAIRS, end - 1)
            yield Video(
                name,
                f"{name} {frames[first].number:06d}",
                frames[first].camera,
                FrameSamples(frames[first : last + 1]),
                offset + first,
                None if motions is None else motions[first:last],
            )


class FrameSamples(Sequence[EvalSample]):
    """Frames of a recording as samples without ground truth; each is read when it is asked for."""

    def __init__(self, frames: Sequence[Any]):
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> EvalSample:  # type: ignore[override]
        from robustdepth.data.images import read_image

        frame = self._frames[index]
        image = read_image(frame.image)
        return EvalSample(image, np.zeros(image.shape[:2], np.float32), frame.camera, frame.name)

"""Random access to training examples at the network's size."""

import dataclasses
import functools
from typing import Protocol

import numpy as np
from ml_collections import ConfigDict

from robustdepth.data.recordings.clips import RECORDINGS, Frame, Recording, pair_views
from robustdepth.data.stereo.proxies import Proxies, open_proxies
from robustdepth.errors import UserError
from robustdepth.geometry.camera import resize_camera
from robustdepth.switches import uses, uses_proxy
from robustdepth.types import STEREO

CACHE_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class Example:
    """One target with its source views at network size; a view that is missing holds zeros and False."""

    target: np.ndarray  # uint8 [height, width, 3]
    sources: np.ndarray  # uint8 [source, height, width, 3]
    source_valid: np.ndarray  # bool [source]
    focal: np.ndarray  # float32 [2], pixels after the resize
    center: np.ndarray  # float32 [2]
    baseline: np.ndarray  # float32 [], x of the stereo camera in the target camera's frame, metres; 0 without one
    speed: np.ndarray  # float32 [source], metres between target and temporal source; 0 where unknown
    index: np.ndarray  # int32 []
    disparity: np.ndarray | None = None  # float32 [height, width], pixels, 0 where unknown: the target's stored proxy
    disparity_failed: np.ndarray | None = None  # bool [height, width], where it fails the left/right check


class Source(Protocol):
    """Training examples by index. `__getitem__` raises BadImage where a file cannot be read."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class ViewSource:
    """The examples of a recording: every target that has at least one of the wanted views."""

    def __init__(
        self,
        recording: Recording,
        data: ConfigDict,
        size: tuple[int, int],
        proxies: Proxies | None = None,
        keep: bool = True,
    ):
        """The targets and views that `data` describes, at `size` (height, width).

        Footage that fits into memory is decoded once, unless `keep` is off: all views of one frame then cost nothing.
        """
        self._proxies = proxies
        self.views = pair_views(recording, data)
        self.fits = len(recording.frames) * size[0] * size[1] * 3 <= CACHE_BYTES
        self._read = functools.cache(recording.read) if keep and self.fits else recording.read
        self._names = data.views
        self._size = size

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> Example:
        target, sources = self.views[index]
        camera = resize_camera(target.camera, self._size)
        missing = np.zeros((*self._size, 3), np.uint8)
        stereo = any(name == STEREO and frame for name, frame in zip(self._names, sources, strict=True))
        proxy = self._proxy(self._proxies, target, stereo) if self._proxies else (None, None)
        return Example(
            target=self._read(target, self._size),
            sources=np.stack([self._read(frame, self._size) if frame else missing for frame in sources]),
            source_valid=np.array([frame is not None for frame in sources]),
            focal=np.asarray(camera.focal),
            center=np.asarray(camera.center),
            baseline=np.asarray(target.baseline if stereo else 0, np.float32),
            speed=np.array([_distance(target, frame) for frame in sources], np.float32),
            index=np.asarray(index, np.int32),
            disparity=proxy[0],
            disparity_failed=proxy[1],
        )

    def _proxy(self, proxies: Proxies, target: Frame, stereo: bool) -> tuple[np.ndarray, np.ndarray]:
        """The target's stored disparity and where it fails its check; nothing is known of a target without a pair."""
        if not stereo:
            return np.zeros(self._size, np.float32), np.zeros(self._size, bool)
        return proxies.read(target, self._size)


def _distance(target: Frame, source: Frame | None) -> float:
    """Metres between two frames of one camera: speed times time, 0 where unknown (and between stereo views)."""
    return abs(target.velocity * (source.time - target.time)) if source else 0.0


def open_recording(data: ConfigDict) -> Recording:
    """The frames of `data.name` under `data.root`. Raises UserError."""
    return RECORDINGS.find(data.name)(data)


def world_count(config: ConfigDict) -> int:
    """How many examples of a batch the procedural world renders."""
    share = 1.0 if config.data.name == "none" else config.data.world_share
    return round(share * config.batch_size)


def build_source(config: ConfigDict, keep: bool = True) -> ViewSource:
    """The examples that `config.data` describes, at `config.image_size`. Raises UserError where there are none."""
    proxies = open_proxies(config.selective.folder) if disparity_from(config) == FILES else None
    source = ViewSource(open_recording(config.data), config.data, tuple(config.image_size), proxies, keep)
    if uses(config, "velocity") and not any(target.velocity for target, _ in source.views):
        raise UserError(
            f"config.loss.velocity needs the camera's speed, and {config.data.root} has none: give it "
            "(docs/own_footage.md, docs/data.md), or set config.loss.velocity=0."
        )
    return source


TRUTH, SGM, FILES = "truth", "sgm", "files"


def disparity_from(config: ConfigDict) -> str:
    """What fills `Batch.disparity` while data are loaded: TRUTH of the world, SGM, FILES, or nothing ("")."""
    if config.task == "stereo" and uses(config, "disparity"):
        return TRUTH
    wanted = uses(config, "hints") if config.task == "stereo" else uses_proxy(config)
    return config.selective.proxy if wanted and config.selective.proxy in (TRUTH, SGM, FILES) else ""

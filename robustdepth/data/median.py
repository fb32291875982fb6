"""The training set's median depth map: the better one of the trivial baselines that every model must beat."""

import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from robustdepth.data.lidar import project_lidar, read_scan
from robustdepth.data.recordings.clips import Recording, Views, pair_views
from robustdepth.data.recordings.kitti_raw import lidar_projection, scan_path
from robustdepth.data.source import open_recording, world_count
from robustdepth.errors import BadFile
from robustdepth.geometry.camera import resize_camera
from robustdepth.types import STEREO

# Enough for a stable median in a few seconds.
LIDAR_SCANS = 200
STEREO_PAIRS = 48
WORLD_SCENES = 128
STEREO_WIDTH = 640  # images are matched at this width
DISPARITIES = 96
_LEFT_OUT = "%s It is left out of the median depth."


def median_depth_map(config: ConfigDict, size: tuple[int, int]) -> tuple[np.ndarray, str]:
    """The median depth of every pixel over the training set, float32 [height, width] in metres, and where it is from.

    From the recording's LiDAR, else from semi-global matching of its stereo pairs (OpenCV), else from the procedural
    world's true depth. Pixels without any depth take the nearest pixel's. Deterministic.
    """
    if config.data.name != "none" and config.data.world_share < 1:
        recording = open_recording(config.data)
        views = pair_views(recording, config.data)
        for origin, measure in (("LiDAR", _lidar_depths), ("stereo matching", _stereo_depths)):
            if depths := measure(config.data, recording, views, size):
                return _median(depths), f"{origin} of {len(depths)} training frames"
    depths = _world_depths(config, size)
    return _median(depths), f"true depth of {len(depths)} training worlds"


def _median(depths: Sequence[np.ndarray]) -> np.ndarray:
    """Median over depth maps of their known values (depth > 0); holes filled, then smoothed by a 5x5 median."""
    stack = np.sort(np.where(np.stack(depths) > 0, depths, np.inf), axis=0)
    count = np.isfinite(stack).sum(axis=0)
    lower, upper = (np.take_along_axis(stack, middle[None], axis=0)[0] for middle in ((count - 1) // 2, count // 2))
    median = (lower + upper) / 2
    # Every hole takes the value of the known pixel that the distance transform finds nearest.
    _, labels = cv2.distanceTransformWithLabels(
        (count == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    by_label = np.zeros(labels.max() + 1, np.float32)
    by_label[labels[count > 0]] = median[count > 0]
    return cv2.medianBlur(by_label[labels], 5)  # where only few frames measured a pixel, its neighbours help


def _spread(items: Sequence, count: int) -> list:
    """At most `count` items, evenly spread."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))]


def _lidar_depths(data: ConfigDict, recording: Recording, views: Sequence[Views], size: tuple[int, int]) -> list:
    if data.name != "kitti_raw":
        return []
    root = pathlib.Path(data.root)
    targets = [(view.target, scan_path(root, view.target.clip, view.target.number)) for view in views]
    depths = []
    for frame, path in _spread([target for target in targets if target[1]], LIDAR_SCANS):
        projection = lidar_projection(root / frame.clip.split("/")[0], frame.side)
        (height, width), (full_height, full_width) = size, frame.camera.size
        x, y = width / full_width, height / full_height
        resize = np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1]])
        try:
            depths.append(project_lidar(read_scan(path), resize @ projection, size))
        except BadFile as error:
            logging.warning(_LEFT_OUT, error)
    return [depth for depth in depths if depth.any()]


def _stereo_depths(data: ConfigDict, recording: Recording, views: Sequence[Views], size: tuple[int, int]) -> list:
    if STEREO not in data.views:
        return []
    source = data.views.index(STEREO)
    pairs = [(view.target, view.sources[source]) for view in views if view.sources[source]]
    matcher = cv2.StereoSGBM.create(
        numDisparities=DISPARITIES,
        blockSize=5,
        P1=8 * 25,
        P2=32 * 25,
        disp12MaxDiff=1,
        uniquenessRatio=5,
        speckleWindowSize=60,
        speckleRange=2,
    )
    depths = []
    for target, other in _spread(pairs, STEREO_PAIRS):
        shape = (round(target.camera.size[0] * STEREO_WIDTH / target.camera.size[1]), STEREO_WIDTH)
        # The matcher wants the other view to stand to the right; mirrored, a left one does.
        mirror = slice(None, None, -1 if target.baseline < 0 else 1)
        try:
            images = [recording.read(frame, shape)[:, mirror] for frame in (target, other)]
        except BadFile as error:
            logging.warning(_LEFT_OUT, error)
            continue
        disparity = matcher.compute(*(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images))[:, mirror] / 16
        focal = resize_camera(target.camera, shape).focal[0]
        depth = np.where(disparity > 0.5, focal * abs(target.baseline) / np.maximum(disparity, 0.5), 0)
        depths.append(cv2.resize(depth.astype(np.float32), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT))
    return depths


def _world_depths(config: ConfigDict, size: tuple[int, int]) -> list:
    # Imported here because it compiles nothing for those who train on recordings alone.
    from robustdepth.world.generate import render_examples
    from robustdepth.world.layout import CLASSES

    # Batches and views as in training (if it renders at all), so that the renderer is compiled only once.
    count, views = world_count(config), tuple(config.data.views)
    if not count:
        count, views = 16, ()
    depths: list[np.ndarray] = []
    while len(depths) < WORLD_SCENES:
        indices = len(depths) + np.arange(count)
        _, scene = render_examples(indices, seed=config.seed, split="train", size=size, views=views)
        sky = scene.labels[:, 0] == CLASSES.index("sky")
        depths.extend(np.where(sky, 0, scene.depth[:, 0]))
    return depths

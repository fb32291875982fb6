"""The video protocols: TAE of the world and of KITTI odometry, flicker of own footage."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from robustdepth.errors import UserError
from robustdepth.evaluation.alignment import Alignment, apply_alignment, check_alignment, fit_alignment
from robustdepth.evaluation.predictors import NetworkPredictor, Predictor, Prepared
from robustdepth.evaluation.result import Metrics, Result, mean_metrics
from robustdepth.evaluation.video.sources import WORLD_VIDEOS, Video, WorldVideos, footage_videos, odometry_videos
from robustdepth.evaluation.video.temporal import covisible, flicker, path_scale, temporal_alignment_error, track
from robustdepth.geometry.camera import resize_camera
from robustdepth.runtime import distributed
from robustdepth.types import Camera

VIDEO_WORLD, VIDEO_ODOMETRY, FLICKER = VIDEO_PROTOCOLS = ("video_world", "video_odometry", "flicker")
VALID = CLIP = (1e-3, 80.0)  # metres: true depth that counts, and the range of aligned predictions, as in `world`
THREADS = 4  # of the host, which read and prepare images
CUT = 0.1  # share of followed pixels below which two frames are taken for a cut
PATH_SCALE = "path"  # how relative predictions get metres where no true depth is known


@dataclasses.dataclass(frozen=True)
class VideoSet:
    """The videos of one protocol, in groups that are predicted together."""

    protocol: str
    title: str
    groups: Sequence[list[Video]]
    frames: int  # distinct ones
    first_name: str = ""  # of the first sample, which predictions from files are matched by


def open_videos(
    protocol: str,
    *,
    data_root: str = "",
    sequence: str = "",
    clips: Sequence[str] = (),
    size: tuple[int, int] | None = None,
) -> VideoSet:
    """The videos of a protocol; `size` is the model's, for rendered worlds, and None for predictions from files.

    Raises UserError where the protocol needs something that was not given, or finds nothing.
    """
    if protocol == VIDEO_WORLD:
        if size is None:
            raise UserError("protocol video_world renders at the model's own size: give --workdir or --checkpoint.")
        title = f"{WORLD_VIDEOS} unseen procedural worlds, 3 frames each, true poses and depth"
        return VideoSet(protocol, title, WorldVideos(size), 3 * WORLD_VIDEOS)
    odometry = protocol == VIDEO_ODOMETRY
    videos, count = odometry_videos(data_root, sequence) if odometry else footage_videos(data_root, clips)
    what = f"KITTI odometry {sequence}, true poses" if odometry else f"own footage in {data_root}"
    title = f"{what}, {count} frames"
    return VideoSet(protocol, title, [[video] for video in videos], count, videos[0].frames[0].name)


def evaluate_videos(
    opened: VideoSet,
    predictor: Predictor,
    median_map: Float[np.ndarray, "map_height map_width"],
    *,
    alignment: str = "",
) -> Result:
    """Scores a predictor and the trivial baselines on all videos, each of which counts once (in `flicker`: each clip).

    Args:
        median_map: per-pixel median depth of the training set, metres, at any size; its median is the other baseline.
        alignment: overrides that of `video_world`; "none" declares predictions metric in `video_odometry`.

    Raises:
        UserError: predictions that are not positive and finite, or that cannot be brought to metres.
    """
    default, rule = choose_rule(opened.protocol, predictor, alignment)
    inverse_median = (1 / np.asarray(median_map)).astype(np.float32)
    score = _score_flicker if opened.protocol == FLICKER else _score_tae
    started, network_seconds = time.perf_counter(), 0.0

    def measure(own: range) -> list[tuple[str, dict[str, list[Metrics]]]]:
        nonlocal network_seconds
        found = []
        for number in tqdm(own, desc=opened.protocol, unit="group of videos", disable=not distributed.is_first()):
            group = opened.groups[number]
            prepared, inverse, seconds = _predict(predictor, group)
            network_seconds += seconds
            for video in group:
                count = len(video.frames)
                images, prepared, maps, inverse = prepared[:count], prepared[count:], inverse[:count], inverse[count:]
                unit = np.float32(_path_unit(predictor, video, images) if rule == PATH_SCALE else 1)
                name = video.recording if opened.protocol == FLICKER else video.name
                found.append((name, score(video, _stack(video, maps) / unit, inverse_median, rule)))
        return found

    rows: dict[str, dict[str, list[Metrics]]] = {}  # by video or clip: metrics of model and baselines, to be averaged
    for name, scored in distributed.shared(len(opened.groups), measure, opened.frames):
        for key, measured in scored.items():
            rows.setdefault(name, {}).setdefault(key, []).extend(measured)
    for name, row in rows.items():
        if not row["model"]:
            raise UserError(f"optical flow can follow nothing between any two frames of {name}: leave it out.")
    means = {name: {key: mean_metrics(measured) for key, measured in row.items()} for name, row in rows.items()}
    mean_of = lambda key: mean_metrics([row[key] for row in means.values()])  # noqa: E731
    return Result(
        name=opened.protocol if rule == default else f"{opened.protocol}[alignment={rule}]",
        title=opened.title,
        alignment=rule if rule == "none" else f"{rule}, one per video",
        metrics=mean_of("model"),
        baselines={key: mean_of(key) for key in next(iter(means.values())) if key != "model"},
        per_image=[{"name": name, **row["model"]} for name, row in means.items()],
        seconds=time.perf_counter() - started,
        network_seconds=network_seconds,
        counted="clips" if opened.protocol == FLICKER else "videos",
    )


def choose_rule(protocol: str, predictor: Predictor, alignment: str) -> tuple[str, str]:
    """The protocol's own alignment for such a predictor, and the one to use.

    `video_world` fits scale and shift of inverse depth. `video_odometry` takes metric predictions as they are; relative
    ones are multiplied by the length of the true path over that of the network's own path. Flicker needs none.

    Raises UserError where relative predictions have no path of their own, or an alignment asks for depth nobody knows.
    """
    if protocol == FLICKER:
        return "none", "none"
    if alignment:
        check_alignment(alignment)
    if protocol == VIDEO_WORLD:
        return "least_squares", alignment or "least_squares"
    if alignment not in ("", "none"):
        raise UserError(f"video_odometry knows no true depth for --alignment={alignment}: leave it out, or give none.")
    default = "none" if predictor.scale == "metric" else PATH_SCALE
    if default == PATH_SCALE and not alignment and not isinstance(predictor, NetworkPredictor):
        raise UserError("video_odometry cannot scale these predictions: give --alignment=none if they are in metres.")
    return default, alignment or default


def _predict(predictor: Predictor, group: Sequence[Video]) -> tuple[list[Any], list[Any], float]:
    """What all frames of the videos were prepared to, their inverse depth, and the seconds the network took."""
    work = [(video, place) for video in group for place in range(len(video.frames))]
    with ThreadPoolExecutor(THREADS) as pool:
        prepare = lambda item: predictor.prepare(item[0].first + item[1], item[0].frames[item[1]])  # noqa: E731
        prepared = list(pool.map(prepare, work))
    asked, step = time.perf_counter(), predictor.batch_size
    inverse = [values for first in range(0, len(work), step) for values in predictor.infer(prepared[first:][:step])]
    return prepared, inverse, time.perf_counter() - asked


def _stack(video: Video, maps: Sequence[np.ndarray]) -> Float[np.ndarray, "frame height width"]:
    """The inverse depth of a video. Raises UserError where frames differ in size or hold impossible values."""
    if len({values.shape for values in maps}) > 1:
        raise UserError(f"the predictions for {video.name} differ in size from frame to frame: give them one size.")
    inverse = np.stack(maps)
    if not (np.isfinite(inverse).all() and inverse.min() > 0):
        raise UserError(f"a prediction for {video.name} is not positive and finite everywhere.")
    return inverse


def _path_unit(predictor: Any, video: Video, prepared: Sequence[Prepared]) -> float:
    """Metres in one unit of the predicted depth, from the path that the pose network sees."""
    step, motions = predictor.batch_size, []
    images = [item.image for item in prepared]
    for first in range(0, len(images) - 1, step):
        window = images[first : first + step + 1]
        padded = np.stack([*window, *[window[-1]] * (step + 1 - len(window))])
        motions.append(np.asarray(predictor.model.relative_pose(padded[:-1], padded[1:]))[: len(window) - 1])
    return path_scale(np.concatenate(motions), video.true_motions) / prepared[0].factor


def _score_tae(
    video: Video,
    inverse: Float[np.ndarray, "frame height width"],
    inverse_median: Float[np.ndarray, "map_height map_width"],
    rule: str,
) -> dict[str, list[Metrics]]:
    """TAE of model and baselines from inverse depth, which `rule` aligns where depth is known and which else is in
    1/metres. Without truth all pixels count."""
    height, width = inverse.shape[1:]
    camera = resize_camera(video.camera, (height, width))
    maps = {"model": inverse, **_blind(inverse.shape, inverse_median)}
    if video.truth is not None:
        return _score_against_truth(video, video.truth, camera, maps, rule)
    everywhere = np.ones(inverse.shape, bool)
    depths = {name: apply_alignment(Alignment(1.0, 0.0), values, CLIP) for name, values in maps.items()}
    motions = video.true_motions
    tae = {name: temporal_alignment_error(depth, camera, motions, everywhere) for name, depth in depths.items()}
    return {name: [{"tae": value}] for name, value in tae.items()}


def _score_against_truth(
    video: Video,
    depth: Float[np.ndarray, "frame height width"],
    camera: Camera,
    maps: Mapping[str, Float[np.ndarray, "frame height width"]],
    rule: str,
) -> dict[str, list[Metrics]]:
    """TAE, the same over pixels that both frames see, that of true depth as the floor, and the accuracy of depth.

    Sky and other depth outside VALID do not count, moving objects only in the accuracy.
    """
    truth, motions = depth.astype(np.float64), video.true_motions
    valid = (truth > VALID[0]) & (truth < VALID[1])
    static = valid if video.moving is None else valid & ~video.moving
    seen = covisible(truth, camera, motions, static)
    floor = temporal_alignment_error(truth, camera, motions, static)
    rows = {}
    for name, values in maps.items():
        inverse = values.astype(np.float64)
        depth = apply_alignment(fit_alignment(rule, inverse[valid], truth[valid]), inverse, CLIP)
        metrics = {
            "tae": temporal_alignment_error(depth, camera, motions, static),
            "tae_seen": temporal_alignment_error(depth, camera, motions, static, seen),
            "tae_truth": floor,
            "abs_rel": float(np.mean(np.abs(depth - truth)[valid] / truth[valid])),
        }
        rows[name] = [metrics]
    return rows


def _score_flicker(
    video: Video,
    inverse: Float[np.ndarray, "frame height width"],
    inverse_median: Float[np.ndarray, "map_height map_width"],
    rule: str,
) -> dict[str, list[Metrics]]:
    """Flicker of model and baselines for each pair of frames, but not across cuts: hardly a pixel can be followed."""
    height, width = inverse.shape[1:]
    maps = {"model": inverse, **_blind(inverse.shape, inverse_median)}
    rows: dict[str, list[Metrics]] = {name: [] for name in maps}
    shown = (cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_AREA) for sample in video.frames)
    for pair, (first, second) in enumerate(itertools.pairwise(shown)):
        forward, trusted = track(first, second)
        if trusted.mean() < CUT:
            continue
        for name, values in maps.items():
            measured = flicker(values[pair], values[pair + 1], forward, trusted)
            rows[name].append(
                {"flicker": measured.shape, "scale_flicker": measured.scale, "followed": measured.followed}
            )
    return rows


def _blind(
    shape: tuple[int, ...], inverse_median: Float[np.ndarray, "map_height map_width"]
) -> dict[str, Float[np.ndarray, "frame height width"]]:
    """Inverse depth of the trivial baselines for all frames of a video."""
    resized = cv2.resize(inverse_median, (shape[2], shape[1]))
    return {
        "constant": np.full(shape, np.median(inverse_median), np.float32),
        "train_median": np.broadcast_to(resized, shape),
    }

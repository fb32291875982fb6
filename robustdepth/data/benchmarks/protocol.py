"""Frozen, named evaluation protocols: the list of all, and the rules of those that need no public dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from robustdepth.data.benchmarks.listed import DATASETS
from robustdepth.errors import UserError, nearest
from robustdepth.registry import Registry

# Garg et al. (ECCV 2016), as fractions of the image: first row, end row, first column, end column.
EIGEN_CROP = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
WHOLE_IMAGE = (0.0, 1.0, 0.0, 1.0)
ANY_DEPTH = (0.0, float("inf"))

Truth = Literal["lidar", "improved", "world", "dataset"]  # "dataset": what the dataset brings along
# "inverse_bilinear": inverse depth, half-pixel centres. "depth_corners": depth, bilinear, the corner pixels' centres
# coincide. "depth_nearest": depth of the nearest pixel. "none": predictions must have that size.
Resize = Literal["inverse_bilinear", "depth_corners", "depth_nearest", "none"]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Everything that must be equal before two numbers may be compared."""

    name: str
    title: str
    truth: Truth
    crop: tuple[float, float, float, float]
    valid: tuple[float, float]  # ground truth counts where valid[0] < depth < valid[1], metres
    clip: tuple[float, float] = (1e-3, 80.0)  # predictions are clipped to this after alignment, metres
    alignment: str = "by scale"  # "by scale": median for relative models, none for metric ones
    resize: Resize = "inverse_bilinear"  # how predictions reach the ground truth's size
    count: int | None = None  # images the published protocol has; None: any number, stated in the report
    dataset: str = ""  # of DATASETS, for truth "dataset"; the protocol's name is that of its condition
    own_size: bool = False  # ground truth of another size than the image
    outlines: bool = False  # ground truth is dense, so that outlines are scored too, at every pixel


# Protocols that are no `Protocol`: of videos, motion, stereo networks and masks.
OTHER_PROTOCOLS = ("odometry", "video_world", "video_odometry", "flicker", "stereo", "masks")
PROTOCOLS: Registry[Protocol] = Registry("protocol", taken=OTHER_PROTOCOLS)


for _protocol in (
    Protocol("kitti_eigen", "KITTI Eigen test split, projected LiDAR", "lidar", EIGEN_CROP, (1e-3, 80.0), count=697),
    Protocol(
        "kitti_eigen_improved",
        "KITTI Eigen test split, accumulated ground truth of the depth benchmark",
        "improved",
        WHOLE_IMAGE,
        ANY_DEPTH,
        count=652,
    ),
    Protocol("kitti_sparse_frames", "a few KITTI frames with LiDAR", "lidar", EIGEN_CROP, (1e-3, 80.0)),
    Protocol(
        "world",
        "unseen procedural worlds at the model's own size",
        "world",
        WHOLE_IMAGE,
        (1e-3, 80.0),
        alignment="median",
        resize="none",
        count=100,
        outlines=True,
    ),
):
    PROTOCOLS.add(_protocol.name, _protocol)


def add_protocols(
    dataset: str, crop: tuple[float, float, float, float] = WHOLE_IMAGE, conditions: Sequence[str] = (), **rules: Any
) -> None:
    """Adds a protocol of the same rules for each of the dataset's `conditions`, or for all where none are named.

    `rules` are fields of `Protocol`: `valid`, and others where its defaults are not right.

    Raises:
      UserError: an unknown dataset or condition, or a name that another protocol has.
    """
    data = DATASETS.find(dataset)
    for name in conditions or data.conditions:
        if name not in data.conditions:
            raise UserError(f"dataset {dataset!r} has no condition {name!r}: {nearest(name, data.conditions)}")
        given = {"title": f"{data.title}: {name}", "count": data.conditions[name], "dataset": dataset} | rules
        PROTOCOLS.add(name, Protocol(name=name, truth="dataset", crop=crop, **given))

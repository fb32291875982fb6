"""Frozen, named evaluation protocols. Numbers are comparable only under one protocol and one alignment."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from robustdepth.data.benchmarks.datasets import DATASETS
from robustdepth.errors import UserError, nearest
from robustdepth.evaluation.alignment import check_alignment, default_alignment

# Garg et al. (ECCV 2016), as fractions of the image: first row, end row, first column, end column.
EIGEN_CROP = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
WHOLE_IMAGE = (0.0, 1.0, 0.0, 1.0)
WORLD_SEED = 0  # of the evaluation worlds, which are another split than the training worlds, whatever the seed

# "inverse_bilinear": inverse depth, half-pixel centres. "depth_corners": depth, bilinear, the corner pixels' centres
# coincide. "depth_nearest": depth of the nearest pixel. "none": predictions must have that size.
Resize = Literal["inverse_bilinear", "depth_corners", "depth_nearest", "none"]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Everything that must be equal before two numbers may be compared."""

    name: str
    title: str
    truth: Literal["lidar", "improved", "world", "dataset"]  # "dataset": what `dataset` brings along
    crop: tuple[float, float, float, float]
    valid: tuple[float, float]  # ground truth counts where valid[0] < depth < valid[1], metres
    clip: tuple[float, float] = (1e-3, 80.0)  # predictions are clipped to this after alignment, metres
    alignment: str = "by scale"  # "by scale": median for relative models, none for metric ones
    resize: Resize = "inverse_bilinear"  # how predictions reach the ground truth's size
    count: int | None = None  # images the published protocol has; None: any number, stated in the report
    dataset: str = ""  # of data.benchmarks.datasets, for truth "dataset"; the protocol's name is that of its condition
    own_size: bool = False  # ground truth of another size than the image
    outlines: bool = False  # ground truth is dense, so that outlines are scored too, at every pixel


def _conditions(dataset: str, crop: tuple[float, float, float, float] = WHOLE_IMAGE, **rules: Any) -> list[Protocol]:
    """One protocol, under the same rules, for each condition of a dataset; `rules` override Protocol's defaults."""
    data = DATASETS[dataset]
    return [
        Protocol(name, f"{data.title}: {name}", "dataset", crop, count=count, dataset=dataset, **rules)
        for name, count in data.conditions.items()
    ]


ANY_DEPTH = (0.0, float("inf"))
# Region of Cityscapes' upper 768 rows that counts: rows from 256, columns 192 to 1856 of 2048.
CITYSCAPES_REGION = (256 / 768, 1.0, 192 / 2048, 1856 / 2048)
KITTI_2015 = (
    Protocol(
        "kitti_2015",
        "KITTI stereo 2015 inside the Eigen crop and its cap",
        "dataset",
        EIGEN_CROP,
        (1e-3, 80.0),
        count=200,
        dataset="kitti_2015",
    ),
    Protocol(
        "kitti_2015_whole",
        "KITTI stereo 2015, every known pixel",
        "dataset",
        WHOLE_IMAGE,
        ANY_DEPTH,
        clip=(1e-3, 200.0),
        count=200,
        dataset="kitti_2015",
    ),
)
ADVERSE = (
    *_conditions("driving_stereo", valid=ANY_DEPTH, alignment="median"),
    *(  # Robust-Depth's night list follows that paper, the other conditions md4all
        dataclasses.replace(protocol, valid=ANY_DEPTH, clip=(1e-3, 80.0), alignment="median", resize="inverse_bilinear")
        if protocol.name == "nuscenes_night_500"
        else protocol
        for protocol in _conditions("nuscenes", valid=(0.1, 80.0), clip=(0.1, 80.0), resize="depth_corners")
    ),
    *_conditions("robotcar", valid=(0.1, 50.0), clip=(0.1, 50.0), resize="depth_corners"),
    *_conditions("cityscapes", CITYSCAPES_REGION, valid=(1e-3, 80.0)),
    *_conditions("cadc", valid=ANY_DEPTH, alignment="median"),
    *_conditions(
        "make3d", valid=(0.0, 70.0), clip=(1e-3, 70.0), alignment="median", resize="depth_nearest", own_size=True
    ),
    *_conditions("kitti_c", EIGEN_CROP, valid=(1e-3, 80.0), own_size=True),
    *_conditions("virtual_kitti2", valid=(1e-3, 80.0)),
)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "kitti_eigen", "KITTI Eigen test split, projected LiDAR", "lidar", EIGEN_CROP, (1e-3, 80.0), count=697
        ),
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
        *KITTI_2015,
        *ADVERSE,
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name. Raises UserError with the nearest names if there is none."""
    if name not in PROTOCOLS:
        raise UserError(f"unknown protocol {name!r}: {nearest(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def resolve_alignment(protocol: Protocol, scale_kind: str, override: str = "") -> tuple[str, str]:
    """The alignment to use, and the name under which the numbers are reported.

    `override` replaces the protocol's own rule; where that changes it, the reported name says so.
    """
    own = default_alignment(scale_kind) if protocol.alignment == "by scale" else protocol.alignment
    if not override or check_alignment(override) == own:
        return own, protocol.name
    return override, f"{protocol.name}[alignment={override}]"


def valid_pixels(protocol: Protocol, truth: Float[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The pixels that count: ground truth within the protocol's range, inside its crop."""
    height, width = truth.shape
    top, bottom, left, right = protocol.crop
    crop = slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))
    mask = np.zeros(truth.shape, bool)
    mask[crop] = (truth[crop] > protocol.valid[0]) & (truth[crop] < protocol.valid[1])
    return mask


def check_size(protocol: Protocol, size: tuple[int, ...], wanted: tuple[int, ...], name: str) -> None:
    """Raises UserError where a prediction's size cannot belong to the `wanted` one of image and ground truth.

    That is any difference if the protocol resizes nothing; otherwise an aspect ratio off by more than two (networks
    squash images, but not that much).
    """
    stretch = (size[0] * wanted[1]) / (size[1] * wanted[0])
    if size != wanted and (protocol.resize == "none" or not 0.5 <= stretch <= 2):
        raise UserError(
            f"the prediction for {name} has size {size}, its ground truth {wanted} (height, width): {protocol.name} "
            f"needs predictions of {'that size' if protocol.resize == 'none' else 'the same view'}."
        )

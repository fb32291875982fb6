"""The smallest real experiment, and made-up batches, for tests."""

import numpy as np
from ml_collections import ConfigDict

from configs import base
from robustdepth.data.source import disparity_from
from robustdepth.switches import uses_truth
from robustdepth.types import STEREO, Batch, Camera


def shrink(config: ConfigDict, steps: int = 2) -> ConfigDict:
    """The same experiment with images of 32x64, compact networks and a batch of 8 (one per fake device)."""
    config.image_size = (32, 64)
    config.batch_size = 8
    config.init_from, config.loss.start, config.model.freeze_statistics = "", 0.0, False
    if not config.model.encoder.startswith("dinov2"):  # those have a decoder of their own
        config.model.encoder = "resnet_tiny"
    config.model.pose_encoder = "resnet_tiny"
    config.model.pretrained = config.model.pose_pretrained = ""
    config.model.decoder_width = 0.25
    config.weather.spec = "|".join(config.weather.spec.split("|")[:2])  # the others have tests of their own
    config.semantics.expert, config.semantics.weights = "world", ""
    config.selective.teacher, config.stereo.network = "", "light"
    config.optimizer.steps, config.optimizer.epochs = steps, 0.0
    config.log.every = config.checkpoint.every = 1
    return config


def tiny_config(views: tuple[str, ...] = ("stereo",), steps: int = 2) -> ConfigDict:
    """A shrunken experiment on the procedural world."""
    config = shrink(base.get_config(), steps)
    config.data.world_share = 1.0
    config.data.views = views
    return config


def random_batch(config: ConfigDict, seed: int = 0) -> Batch:
    """Noise images with a plausible camera."""
    draw = np.random.default_rng(seed)
    size, views, (height, width) = config.batch_size, tuple(config.data.views), config.image_size
    focal = np.full((size, 2), 0.6 * width, np.float32)
    center = np.tile(np.array([width / 2 - 0.5, height / 2 - 0.5], np.float32), (size, 1))
    return Batch(
        target=draw.integers(0, 256, (size, height, width, 3), dtype=np.uint8),
        sources=draw.integers(0, 256, (size, len(views), height, width, 3), dtype=np.uint8),
        source_valid=np.ones((size, len(views)), bool),
        camera=Camera(focal, center, (height, width)),
        baseline=np.full(size, 0.5 if STEREO in views else 0.0, np.float32),
        speed=np.zeros((size, len(views)), np.float32),
        index=np.arange(size, dtype=np.int32),
        source_names=views,
        labels=draw.integers(0, 12, (size, height, width)) if config.task == "segmentation" else None,
        depth=draw.uniform(3, 60, (size, height, width)).astype(np.float32) if uses_truth(config) else None,
        motion=np.tile(np.eye(4, dtype=np.float32), (size, len(views), 1, 1)) if uses_truth(config) else None,
        disparity=draw.uniform(1, 8, (size, height, width)).astype(np.float32) if disparity_from(config) else None,
    )

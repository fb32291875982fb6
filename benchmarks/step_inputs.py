"""What both sides of the comparison with PyTorch get: images, disparities, motions and a camera from one seed."""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

PARTS = ("loss", "inference", "step")
DTYPES, DEVICES = ("float32", "bfloat16"), ("cpu", "cuda")
SCALES, SSIM_SHARE, SMOOTHNESS, MIN_DEPTH, MAX_DEPTH = 4, 0.85, 1e-3, 0.1, 100.0
LEARNING_RATE = 1e-4


class Inputs(NamedTuple):
    images: np.ndarray  # float32 [3, batch, height, width, 3]: target, previous, next
    disparities: list[np.ndarray]  # float32 [batch, height / 2^k, width / 2^k]
    vectors: np.ndarray  # float32 [2, batch, 6]: axis-angle and translation, target -> previous and target -> next
    camera: tuple[float, float, float, float]  # fx, fy, cx, cy


def draw(batch: int, height: int, width: int) -> Inputs:
    """Smooth images that move by a few pixels from view to view, and disparities of 5 to 50 metres."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    images = np.zeros((3, batch, height, width, 3), np.float32)
    for view, shift in enumerate((0.0, -2.0, 2.0)):
        for b in range(batch):
            for channel in range(3):
                waves = np.random.default_rng((b, channel)).uniform(0.02, 0.6, (8, 3))
                tone = sum(np.sin(u * (x + shift) + v * y + 9 * w) for u, v, w in waves)
                images[view, b, :, :, channel] = 0.5 + 0.06 * tone
    disparities = [rng.uniform(0.002, 0.02, (batch, height >> k, width >> k)).astype(np.float32) for k in range(SCALES)]
    vectors = 0.01 * rng.standard_normal((2, batch, 6)).astype(np.float32)
    vectors[:, :, 5] += np.array([[0.5], [-0.5]], np.float32)
    return Inputs(images.clip(0, 1), disparities, vectors, (0.58 * width, 1.92 * height, width / 2, height / 2))


def worker(sides: Callable[[argparse.Namespace], Callable[[], Any]]) -> None:
    """The main function of one side: times one part and prints {"seconds", "value"} as JSON.

    Seconds are the median over blocks of steps. The host waits for the device at the end of a block only, so that it
    can prepare a step while the device works on the one before, as in training.

    Args:
      sides: options -> function that begins the part once and returns its value (a scalar, a loss or a mean).
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=PARTS)
    for name, default in (("batch", 4), ("height", 192), ("width", 640), ("blocks", 5), ("block", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0], help="of the networks; losses stay in float32")
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[0])
    parser.add_argument("--compile", action="store_true", help="the whole of PyTorch's step, by torch.compile")
    options = parser.parse_args()
    run = sides(options)
    value = float(run())  # compiles, or warms up
    float(run())
    seconds = []
    for _ in range(options.blocks):
        start = time.perf_counter()
        for _ in range(options.block):
            last = run()
        float(last)
        seconds.append((time.perf_counter() - start) / options.block)
    print(json.dumps({"seconds": statistics.median(seconds), "value": value}))

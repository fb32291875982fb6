"""A rig of known disparity on disk, and `prepare proxies` run on it."""

import numpy as np
from PIL import Image

from robustdepth.data.recordings.clips import Frame
from robustdepth.data.source import open_recording
from tests.prepare_command import run_prepare
from tests.recordings import CAMERA, SIZE, data_options, write_clip, write_image

DISPARITY = 6


def write_rig(folder, count: int = 4, camera: dict = CAMERA, swapped: bool = False) -> None:
    """A clip whose right views show everything `DISPARITY` pixels further left."""
    write_clip(folder, count=0, camera=camera | {"baseline": 0.5})
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 255, (SIZE[0] // 4, SIZE[1] // 4 + 4, 3), np.uint8)
        canvas = np.array(Image.fromarray(noise).resize((SIZE[1] + 16, SIZE[0]), Image.Resampling.BICUBIC))
        views = canvas[:, : SIZE[1]], canvas[:, DISPARITY : SIZE[1] + DISPARITY]
        for name, view in zip(("right", ".") if swapped else (".", "right"), views, strict=True):
            write_image(folder / name / f"{number}.png", view)


def run_proxies(monkeypatch, source, output, *arguments, data: str = "frames", method: str = "sgm") -> None:
    words = ["proxies", f"--source={source}", f"--output={output}", f"--data={data}", f"--method={method}", *arguments]
    run_prepare(monkeypatch, *words)


def frames_of(root, name: str = "frames") -> list[Frame]:
    return list(open_recording(data_options(name, root)).frames)

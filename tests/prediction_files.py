"""Pictures and films of known red values, and prediction runs on them, for the tests of prediction."""

import json
import pathlib

import cv2
import numpy as np
from PIL import Image

from robustdepth.prediction import run
from robustdepth.prediction.mesh import EDGE
from robustdepth.prediction.results import USUAL, Results

SIZE = (32, 64)  # of the made-up model, and of most pictures here: then nothing is resized


def red(*columns: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A picture of vertical stripes with these red values, green 40 and blue 90."""
    image = np.full((*size, 3), (0, 40, 90), np.uint8)
    image[..., 0] = np.repeat(columns, size[1] // len(columns))
    return image


def save(path: pathlib.Path, image: np.ndarray) -> pathlib.Path:
    Image.fromarray(image).save(path)
    return path


def save_video(path: pathlib.Path, frames: list[np.ndarray], rate: float = 12.0) -> pathlib.Path:
    """Motion JPEG in AVI: close to lossless for pictures of few colours."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, frames[0].shape[1::-1])
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def predict(inputs, output: pathlib.Path, *, kinds=USUAL, thin: int = 1, edge: float = EDGE, **options) -> dict:
    """Runs a prediction and returns its summary."""
    results = Results(kinds, thin, edge)
    run.predict_files("made-up", [str(path) for path in inputs], str(output), results=results, **options)
    return json.loads((output / "predictions.json").read_text())


def written(folder: pathlib.Path) -> set[str]:
    """Files below a folder, but for the summary."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"predictions.json"}

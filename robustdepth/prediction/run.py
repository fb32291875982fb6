"""Predicts files: reads, batches, calls the network, writes; one bad input never costs the others."""

from __future__ import annotations

import collections
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence

from tqdm import tqdm

from robustdepth.data.recordings.frames import CAMERA_FILE, make_clip_camera, read_camera_file
from robustdepth.errors import UserError
from robustdepth.prediction.inputs import Input, InputImage, find_inputs
from robustdepth.prediction.pointcloud import (
    camera_from_field_of_view,
    camera_from_focal_length,
    describe_focal_length,
)
from robustdepth.prediction.predictor import Predictor, check_camera
from robustdepth.prediction.results import Results, ResultWriter
from robustdepth.types import AFFINE, METRIC, Camera

ASSUMED_FIELD_OF_VIEW = 70.0  # degrees, horizontal; dashboard cameras lie between 60 and 90, phones near 70

CameraFor = Callable[[InputImage], Camera]


def predict_files(
    checkpoint: str,
    paths: Sequence[str],
    output: str,
    *,
    camera_file: str = "",
    field_of_view: float | None = None,
    results: Results = Results(),  # noqa: B008, frozen
    batch_size: int = 8,
    overwrite: bool = False,
) -> None:
    """Writes the depth of all images, folders and videos in `paths` into the folder `output`.

    Raises UserError for what keeps the whole run from starting, and, once everything else is written, for the inputs
    that could not be read.
    """
    if batch_size < 1:
        raise UserError(f"--batch_size={batch_size} must be 1 or more.")
    results.check()
    inputs, problems = find_inputs(paths, output)
    camera_for, camera_words = choose_camera(camera_file, field_of_view)
    predictor = Predictor.from_checkpoint(checkpoint)
    model = predictor.model
    batch_size = 1 if model.any_shape else batch_size
    canonical = model.scale == METRIC and model.canonical_field_of_view is not None
    print(f"{checkpoint} (step {model.step}): {describe_scale(model.scale, canonical)}")
    if results.need_camera or canonical:
        print(f"camera: {camera_words}")
    try:
        with ResultWriter(pathlib.Path(output), results, model.scale, overwrite) as writer:
            done, by_exif = _predict_all(predictor, inputs, camera_for, batch_size, writer, problems)
            about = {"checkpoint": checkpoint, "step": model.step, "scale": model.scale}
            cameras = {"camera": camera_words, "cameras_by_exif": by_exif}
            writer.finish({**about, **cameras, "images": done, "problems": problems})
    except OSError as error:
        raise UserError(f"cannot write in {output} ({error.strerror}): give --output a folder with space.") from error
    for words, count in by_exif.items():
        print(f"{words} ({count} images)")
    print(f"{done} images done, in {output}")
    if problems:
        raise UserError(
            f"{len(problems)} of the inputs could not be read, all else is done:\n  " + "\n  ".join(problems)
        )


def describe_scale(scale: str, canonical: bool = False) -> str:
    """What the numbers mean, in words; `canonical`: the metres are those of a canonical camera, fitted to each one."""
    if canonical:
        return "metric scale, depth in metres where the image's camera is known"
    if scale == METRIC:
        return "metric scale, depth in metres for cameras like those of the training"
    if scale == AFFINE:
        return "affine scale, inverse depth right up to an unknown factor and shift, so that points are distorted"
    return "relative scale, depth right up to one unknown factor"


def choose_camera(camera_file: str, field_of_view: float | None) -> tuple[CameraFor, str]:
    """The camera for an image, and its origin in words. Raises UserError for a bad file or angle.

    `camera_file` is a camera.json for all images, or a folder: there NAME.json is the camera of the image or video
    NAME, and camera.json that of all others.
    """
    if camera_file and field_of_view is not None:
        raise UserError("--camera and --fov exclude each other: give one of them.")
    if camera_file:
        path = pathlib.Path(camera_file)
        if path.is_dir():
            find = functools.cache(functools.partial(_camera_in, path))
            return lambda image: find(image.video or image.name), f"cameras in {camera_file}"
        camera = _read_camera(path)
        return lambda image: camera, f"camera of {camera_file}"
    if field_of_view is None:
        words = f"horizontal field of view of {ASSUMED_FIELD_OF_VIEW:g} degrees where EXIF has no focal length"
        give = "give --camera=camera.json or --fov=DEGREES for true proportions, and for metres if the network has them"
        return _camera_from_exif, f"ASSUMED {words}; {give}"
    camera_from_field_of_view(field_of_view, (1, 1))  # refuses an impossible angle before anything is computed
    words = f"horizontal field of view of {field_of_view:g} degrees"
    return lambda image: camera_from_field_of_view(field_of_view, image.image.shape[:2]), words


def _camera_from_exif(image: InputImage) -> Camera:
    """By the focal length in EXIF, else of the assumed field of view."""
    size = image.image.shape[:2]
    if image.focal is None:
        return camera_from_field_of_view(ASSUMED_FIELD_OF_VIEW, size)
    return camera_from_focal_length(image.focal, size)


def _camera_in(folder: pathlib.Path, name: str) -> Camera:
    own = folder / f"{name}.json"
    return _read_camera(own if own.is_file() else folder / CAMERA_FILE)


def _read_camera(path: pathlib.Path) -> Camera:
    return make_clip_camera(read_camera_file(path), path)


def _predict_all(
    predictor: Predictor,
    inputs: Sequence[Input],
    camera_for: CameraFor,
    batch_size: int,
    writer: ResultWriter,
    problems: list[str],
) -> tuple[int, dict[str, int]]:
    """Predicts and writes every frame that can be read; returns how many, and how many have which camera by EXIF."""
    total = sum(entry.count() for entry in inputs)
    batch_size = min(batch_size, max(total, 1))
    frames = _readable(inputs, camera_for, problems)
    by_exif: collections.Counter[str] = collections.Counter()
    with tqdm(total=total, desc="depth", unit="image") as progress:
        while batch := list(itertools.islice(frames, batch_size)):
            images = [frame.image for frame in batch]
            padding = images[-1:] * (batch_size - len(images))  # a short last batch needs no second compilation
            for frame, inverse_depth in zip(batch, predictor.inverse_depth(images + padding), strict=False):
                camera = camera_for(frame)
                prediction = predictor.prediction(inverse_depth, frame.image.shape[:2], camera)
                writer.write(frame, prediction, inverse_depth, predictor.model.metres_factor(camera))
                if frame.focal is not None and camera_for is _camera_from_exif:
                    by_exif[describe_focal_length(frame.focal, camera)] += 1
            progress.update(len(batch))
        return progress.n, dict(by_exif)


def _readable(inputs: Sequence[Input], camera_for: CameraFor, problems: list[str]) -> Iterator[InputImage]:
    """The frames that can be read; what cannot, or does not fit the camera, becomes a sentence in `problems`."""
    for entry in inputs:
        try:
            for frame in entry.frames():
                check_camera(camera_for(frame), frame.image.shape[:2], str(entry.path))
                yield frame
        except UserError as error:
            problems.append(str(error))

"""A corrupted copy of a folder of images, laid out as KITTI-C: NAME/SEVERITY/path of the image."""

import argparse
import json
import pathlib
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from robustdepth.conditions.corruptions.benchmark import (
    MIN_SIZE,
    batches_by_size,
    check_corruptions,
    check_severities,
    corrupt,
    corruption_keys,
    resize_as_benchmark,
)
from robustdepth.data.images import FORMATS, BadImage, folders_below, list_images, read_image
from robustdepth.errors import UserError

# KITTI-C's folders, where they are not named as the corruption.
FOLDERS = {
    **{name: f"{name}_blur" for name in ("defocus", "glass", "motion", "zoom")},
    **{name: f"{name}_noise" for name in ("gaussian", "impulse", "shot", "iso")},
    **{"elastic": "elastic_transform", "jpeg": "jpeg_compression"},
}
MARKER = "corrupted_copy.json"


class _Picture(NamedTuple):
    place: pathlib.Path  # relative to the source; the copy is a PNG
    pixels: UInt8[np.ndarray, "height width 3"]


def add_corrupt_command(commands: Any) -> None:
    """Adds `corrupt` to the sub-commands of `robustdepth.prepare`; `arguments.run(arguments)` runs it."""
    command = commands.add_parser("corrupt", help="write corrupted copies of images, laid out as KITTI-C")
    command.add_argument("--source", required=True, help="the images' folder; folders inside are kept")
    command.add_argument("--output", required=True, help="folder for NAME/SEVERITY/path of the image")
    command.add_argument("--corruptions", default="all", help='"all", or names such as fog,motion,jpeg')
    command.add_argument("--severities", default="1,2,3,4,5")
    command.add_argument("--height", type=int, default=0, help="shrink images first (KITTI-C: 192); else full size")
    command.add_argument("--width", type=int, default=0, help="see --height (KITTI-C: 640)")
    command.add_argument("--batch_size", type=int, default=8, help="images that are corrupted at once")
    command.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    size = arguments.height, arguments.width
    if any(size) and min(size) < MIN_SIZE:
        raise UserError(f"give both --height and --width, of {MIN_SIZE} or more, or neither.")
    if arguments.batch_size < 1:
        raise UserError(f"--batch_size={arguments.batch_size} must be 1 or more.")
    names, severities = arguments.corruptions.split(","), arguments.severities.split(",")
    wanted = size if any(size) else None
    print(write_corrupted_copy(arguments.source, arguments.output, names, severities, wanted, arguments.batch_size))


def write_corrupted_copy(
    source: str | pathlib.Path,
    output: str | pathlib.Path,
    names: Sequence[str],
    severities: Sequence[int | str],
    size: tuple[int, int] | None = None,
    batch_size: int = 8,
) -> str:
    """Writes OUTPUT/NAME/SEVERITY/PATH.png for every image below `source`; returns what was done.

    Files that are there already are kept, so the same call continues an interrupted copy, and another one adds
    corruptions to it. An image's path is its seed: copies do not depend on which others are made.

    Args:
      names: of `corrupt`, or "all"; folders are named as in KITTI-C ("defocus" in defocus_blur).
      size: height and width to which images are shrunk before, with Lanczos' filter; None: they keep theirs.

    Raises:
      UserError: no images, one that cannot be read or is too small, a disk that cannot be written, an output folder
        that holds anything else or lies in the source, an unknown corruption or severity.
    """
    names, severities = check_corruptions(names), check_severities(severities)
    source, output = pathlib.Path(source), pathlib.Path(output)
    if output.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{output} lies in {source}: copies would be copied again; choose an --output elsewhere.")
    images = _find_images(source)
    _open_output(output, {"size": size and list(size)})
    variants = [(name, severity) for name in names for severity in severities]

    def target(place: pathlib.Path, name: str, severity: int) -> pathlib.Path:
        return output / FOLDERS.get(name, name) / str(severity) / place

    missing = {place: [v for v in variants if not target(place, *v).is_file()] for place in images}
    todo, count = [place for place in images if missing[place]], sum(map(len, missing.values()))
    with (
        ThreadPoolExecutor() as pool,
        tqdm(total=len(images) * len(variants), initial=len(images) * len(variants) - count, unit="image") as progress,
    ):
        pictures = (_Picture(place, _read(images[place], size)) for place in todo)
        for batch in batches_by_size(pictures, batch_size, lambda picture: picture.pixels.shape):
            filled = batch + [batch[0]] * (batch_size - len(batch))  # one compilation for each size of images
            pixels = jnp.asarray(np.stack([picture.pixels for picture in filled]))
            numbers = [zlib.crc32(picture.place.as_posix().encode()) for picture in filled]
            for name, severity in variants:
                chosen = [i for i, picture in enumerate(batch) if (name, severity) in missing[picture.place]]
                if not chosen:
                    continue
                corrupted = np.asarray(corrupt(pixels, name, severity, corruption_keys(name, severity, numbers)))
                places = [target(batch[i].place, name, severity) for i in chosen]
                list(pool.map(_write, places, corrupted[chosen]))
                progress.update(len(chosen))
    kept = len(images) * len(variants) - count
    return f"{output} holds {len(images)} images under {len(variants)} conditions: {count} written, {kept} kept."


def _find_images(source: pathlib.Path) -> dict[pathlib.Path, pathlib.Path]:
    """Images by their place in the copy."""
    paths = [path for folder in folders_below(source) for path in list_images(folder)]
    if not paths:
        raise UserError(f"no images ({FORMATS}) found under --source={source}.")
    found = {path.relative_to(source).with_suffix(".png"): path for path in paths}
    return found


def _open_output(output: pathlib.Path, job: dict[str, Any]) -> None:
    """Raises UserError where the folder holds anything but a copy of the same kind."""
    marker = output / MARKER
    try:
        if marker.is_file():
            if json.loads(marker.read_text()) != job:
                raise UserError(f"{output} holds a copy at another size: choose another --output, or that size.")
        elif output.exists() and any(output.iterdir()):
            raise UserError(f"{output} is not empty and holds no corrupted copy: choose another --output.")
        else:
            output.mkdir(parents=True, exist_ok=True)
            marker.write_text(json.dumps(job))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot use {output} for the copy ({error}): choose another --output.") from error


def _read(path: pathlib.Path, size: tuple[int, int] | None) -> UInt8[np.ndarray, "height width 3"]:
    pixels = resize_as_benchmark(read_image(path), size)
    if min(pixels.shape[:2]) < MIN_SIZE:
        raise BadImage(f"{path} is smaller than {MIN_SIZE}x{MIN_SIZE} pixels: leave it out, or give --height, --width.")
    return pixels


def _write(path: pathlib.Path, pixels: UInt8[np.ndarray, "height width 3"]) -> None:
    part = path.with_suffix(".part")  # renamed when whole, so that a killed run leaves no half image
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(part, "PNG")
        part.rename(path)
    except OSError as error:
        raise UserError(f"cannot write {part}: {error}; make room, then run the same command again.") from error

"""Writes a network in a portable format, after its own runtime has given the network's numbers."""

from __future__ import annotations

import datetime
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from robustdepth.data.images import FORMATS as IMAGE_FORMATS
from robustdepth.data.images import list_images, read_image
from robustdepth.errors import UserError
from robustdepth.prediction.portable import FORMATS, INPUT, OUTPUT
from robustdepth.runtime.files import replacing
from robustdepth.runtime.inference import DepthModel

LIMIT = 1e-3  # relative difference from the network, at most
FRAMES = 4
SEED = 2  # of the worlds that it is tried on
READABLE_DAYS = 180  # jax.export reads what was written up to six months before its own release


def export_model(model: DepthModel, output: pathlib.Path, name: str, batch: int, frames: str = "") -> dict[str, Any]:
    """Writes a network, and beside it OUTPUT.json, which says what goes in and what comes out.

    Args:
      model: the network.
      output: the file.
      name: of the format, in FORMATS.
      batch: how many images a call takes; 0: any number, or where the format has no such thing, one.
      frames: a folder of images to try it on; empty: rendered streets.

    Returns:
      The content of OUTPUT.json.

    Raises:
      UserError: a package is missing, the runtime gives other numbers, nothing can be written. Nothing is written then.
    """
    form = FORMATS[name]
    form.check(name, batch)
    if output.suffix != form.suffix:
        raise UserError(f"--output={output} must end with {form.suffix}, as files of the format {name} do.")
    count = batch or (FRAMES if form.any_batch else 1)
    images = load_images(model, count, frames)
    about = _describe(model, name, batch, form.any_batch, form.versions())
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as part, replacing(output.with_name(f"{output.name}.json")) as text:
            part.write_bytes(form.convert(model, batch))
            about["largest_relative_difference"] = largest_difference(form.run(part, images), model, images)
            about["compared_on"] = f"{len(images)} images of {frames or 'rendered streets'}"
            text.write_text(json.dumps(about, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {output} ({error.strerror}): give another --output.") from error
    return about


def largest_difference(
    found: Float[np.ndarray, "batch height width"], model: DepthModel, images: Float[np.ndarray, "batch height width 3"]
) -> float:
    """Of inverse depth from the network's own, relative to it. Raises UserError where it is over the limit."""
    expected = np.asarray(model.inverse_depth(images))
    difference = float(np.max(np.abs(found / expected - 1)))
    if not difference <= LIMIT:  # NaN is over it too
        raise UserError(f"the exported network differs by {difference:.2g} from {model.path}: it is not written.")
    return difference


def load_images(model: DepthModel, count: int, frames: str) -> Float[np.ndarray, "batch height width 3"]:
    """Images as the network takes them: of a folder, else of rendered streets. Raises UserError for no folder."""
    if frames:
        paths = list_images(pathlib.Path(frames)) if pathlib.Path(frames).is_dir() else []
        if not paths:
            raise UserError(f"--frames={frames} is no folder with images ({IMAGE_FORMATS}).")
        pictures = [read_image(paths[i % len(paths)]) for i in range(count)]
    else:
        from robustdepth.world.generate import render_examples

        batch, _ = render_examples(np.arange(count), seed=SEED, split="evaluation", size=model.image_size, views=())
        pictures = list(np.asarray(batch.target))
    return np.stack([model.prepare(picture) for picture in pictures])


def _describe(model: DepthModel, name: str, batch: int, any_batch: bool, versions: Mapping[str, str]) -> dict[str, Any]:
    today = datetime.datetime.now(datetime.UTC).date()
    count: int | str = batch or ("any number of" if any_batch else 1)
    about: dict[str, Any] = {
        "format": name,
        "network": repr(model),
        "input": {"name": INPUT, "type": "float32", "shape": [count, *model.image_size, 3], "values": "RGB in [0, 1]"},
        "output": {"name": OUTPUT, "type": "float32", "shape": [count, *model.image_size], "values": "1 / depth"},
        "grey": model.config.data.grey == 1,
        "scale": model.scale,
        "canonical_focal": model.config.model.get("canonical_focal", 0.0),
        "written": str(today),
        "versions": dict(versions),
    }
    if name == "stablehlo":
        about["readable_until"] = str(today + datetime.timedelta(days=READABLE_DAYS))
    return about


def describe(output: pathlib.Path, about: Mapping[str, Any]) -> str:
    """What was written, in sentences."""
    shape = "x".join(map(str, about["input"]["shape"]))
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        f"{output}: {output.stat().st_size / 1e6:.2f} MB, {about['format']} of {about['network']}",
        f"  takes {shape}, written {about['written']} with {versions}",
        f"  largest relative difference {about['largest_relative_difference']:.2g} in its own runtime, on "
        f"{about['compared_on']}",
    ]
    if until := about.get("readable_until"):
        lines.append(
            f"  jax.export reads such files for six months: with releases of JAX until {until}; then export again"
        )
    return "\n".join(lines)

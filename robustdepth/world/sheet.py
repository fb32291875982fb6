"""A contact sheet of rendered scenes: python -m robustdepth.world.sheet --output=sheet.png [--count=6]."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jaxtyping import UInt8
from PIL import Image

from robustdepth.errors import UserError, run_main
from robustdepth.paths import command_line
from robustdepth.world.generate import render_examples
from robustdepth.world.raycast import FAR
from robustdepth.world.solids import PALETTE

_OUTPUT = flags.DEFINE_string("output", None, "PNG file to write.", required=True)
_FIRST = flags.DEFINE_integer("first", 0, "Index of the first scene.")
_COUNT = flags.DEFINE_integer("count", 6, "Scenes, one row each.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the world.")
_SPLIT = flags.DEFINE_string("split", "evaluation", "train or evaluation.")
_SIZE = flags.DEFINE_list("size", ["128", "416"], "Height and width of a picture.")

NEAREST_SHOWN = 3.0  # metres


def contact_sheet(
    indices: np.ndarray, *, seed: int, split: str, size: tuple[int, int]
) -> UInt8[np.ndarray, "rows columns 3"]:
    """One row a scene: the image, its inverse depth from black (far) to white (3 m), and its labels in colours."""
    batch, scene = render_examples(jnp.asarray(indices), seed=seed, split=split, size=size, views=())
    depth = np.asarray(scene.depth[:, 0])
    inverse = (1 / np.maximum(depth, NEAREST_SHOWN) - 1 / FAR) / (1 / NEAREST_SHOWN - 1 / FAR)
    grey = np.repeat((255 * np.sqrt(inverse)).astype(np.uint8)[..., None], 3, axis=-1)
    columns = np.asarray(batch.target), grey, np.array(PALETTE, np.uint8)[np.asarray(scene.labels[:, 0])]
    return np.concatenate([np.concatenate(row, axis=1) for row in zip(*columns, strict=True)])


def main(argv: list[str]) -> None:
    run_main(_write, argv[1:])


def _write() -> None:
    if len(_SIZE.value) != 2 or not all(value.isdigit() for value in _SIZE.value):
        raise UserError(f"--size={','.join(_SIZE.value)} is not a height and a width; write --size=128,416.")
    height, width = (int(value) for value in _SIZE.value)
    indices = np.arange(_FIRST.value, _FIRST.value + _COUNT.value)
    sheet = contact_sheet(indices, seed=_SEED.value, split=_SPLIT.value, size=(height, width))
    Image.fromarray(sheet).save(_OUTPUT.value, optimize=True)


if __name__ == "__main__":
    app.run(main, argv=command_line())

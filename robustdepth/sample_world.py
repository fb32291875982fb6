"""Writes pictures of worlds that no training sees: python -m robustdepth.sample_world --output=DIR [--count=8]."""

import pathlib

from absl import app, flags, logging

from robustdepth.errors import UserError, run_main

_OUTPUT = flags.DEFINE_string("output", None, "Folder for the pictures.", required=True)
_COUNT = flags.DEFINE_integer("count", 8, "How many worlds.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 1, "Another seed gives other worlds.")
_HEIGHT = flags.DEFINE_integer("height", 192, "Of the pictures, in pixels.", lower_bound=16)
_WIDTH = flags.DEFINE_integer("width", 640, "Of the pictures, in pixels.", lower_bound=16)


def main(_) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # JAX is talkative
    run_main(_sample)


def _sample() -> None:
    import numpy as np  # JAX starts only once the flags are right
    from PIL import Image

    from robustdepth.world.generate import render_examples

    size = (_HEIGHT.value, _WIDTH.value)
    batch, _ = render_examples(np.arange(_COUNT.value), seed=_SEED.value, split="evaluation", size=size, views=())
    folder = pathlib.Path(_OUTPUT.value)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(np.asarray(batch.target)):
            Image.fromarray(image).save(folder / f"world_{i:05d}.png")
    except OSError as error:
        raise UserError(f"cannot write in {folder} ({error.strerror}): give another --output.") from None
    print(f"{_COUNT.value} pictures in {folder}")


if __name__ == "__main__":
    app.run(main)

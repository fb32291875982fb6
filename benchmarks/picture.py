"""The README's picture: python -m benchmarks.picture [--checkpoints=bundled] [--scene=5] [--output=docs/depth.jpg].

A rendered street that no training has seen, clear, in rain, at night, with sensor noise and out of focus; beside each
image the depth that each network predicts from it, in one range of colours for all that it predicts. Run it again when
the bundled network changes.
"""

import argparse
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from robustdepth.conditions.corruptions.benchmark import corrupt
from robustdepth.conditions.spec import CONDITIONS
from robustdepth.errors import run_main
from robustdepth.imaging.colormap import ColorRange, colorize
from robustdepth.prediction.predictor import Predictor, resize_map
from robustdepth.prediction.sheet import save_picture
from robustdepth.world.generate import render_examples

SIZE, GAP = (160, 520), 4  # rows and columns of an image; pixels between images
SEVERITY = 0.8  # of rain and night, in [0, 1]
CORRUPTIONS = {"noise": ("iso", 3), "blur": ("defocus", 3)}  # and their severities, 1 to 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", nargs="+", default=["bundled"], help="networks, as in robustdepth.predict")
    parser.add_argument("--scene", type=int, default=5, help="which unseen world")
    parser.add_argument("--output", default="docs/depth.jpg")
    options = parser.parse_args()
    run_main(lambda: save_picture(picture(options.checkpoints, options.scene), options.output))


def picture(checkpoints: Sequence[str], scene: int) -> Image.Image:
    """One row for each state of the street: the image, and its depth by each network (near is bright)."""
    images = states(scene)
    columns = [list(images.values()), *(depths(checkpoint, images) for checkpoint in checkpoints)]
    height, width = SIZE[0] + GAP, SIZE[1] + GAP
    sheet = Image.new("RGB", (len(columns) * width - GAP, len(images) * height - GAP), "white")
    for column, pictures in enumerate(columns):
        for row, shown in enumerate(pictures):
            sheet.paste(Image.fromarray(shown), (column * width, row * height))
    for row, name in enumerate(images):
        ImageDraw.Draw(sheet).text(
            (8, row * height + 4),
            name,
            fill="white",
            stroke_width=2,
            stroke_fill="black",
            font=ImageFont.load_default(20),
        )
    return sheet


def depths(checkpoint: str, images: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The colours of what a network predicts from each image, in the range of the first one's."""
    found = Predictor.from_checkpoint(checkpoint).inverse_depth(list(images.values()))
    inverse = [resize_map(depth, SIZE) for depth in found]
    colors = ColorRange.of(inverse[0])
    return [colorize(depth, colors) for depth in inverse]


def states(scene: int) -> dict[str, np.ndarray]:
    """The street under each condition, as uint8 [height, width, 3]."""
    batch, truth = render_examples(jnp.array([scene]), seed=1, split="evaluation", size=SIZE, views=())
    clear, key = batch.target.astype(jnp.float32) / 255.0, jax.random.key(scene)
    severity = jnp.full(1, SEVERITY)
    weather = {
        name: CONDITIONS[name](clear, truth.depth[:, 0], batch.camera, key, severity) for name in ("rain", "night")
    }
    corrupted = {name: corrupt(clear, *corruption, key) for name, corruption in CORRUPTIONS.items()}
    found = {"clear": clear} | weather | corrupted
    return {name: np.asarray(jnp.round(image[0] * 255.0)).astype(np.uint8) for name, image in found.items()}


if __name__ == "__main__":
    main()

"""The README's picture: python -m benchmarks.picture [--checkpoint=bundled] [--scene=5] [--output=docs/depth.jpg].

A rendered street that no training has seen, clear, in rain, at night and with sensor noise; beside each image the depth
that the network predicts from it, in one range of colours for all. Run it again when the bundled network changes.
"""

import argparse

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
SEVERITY, NOISE = 0.8, 3  # of rain and night, in [0, 1]; of the noise, 1 to 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="bundled", help="a depth network, as in robustdepth.predict")
    parser.add_argument("--scene", type=int, default=5, help="which unseen world")
    parser.add_argument("--output", default="docs/depth.jpg")
    options = parser.parse_args()
    run_main(lambda: save_picture(picture(options.checkpoint, options.scene), options.output))


def picture(checkpoint: str, scene: int) -> Image.Image:
    """One row for each state of the street: the image, and its depth (near is bright)."""
    predictor = Predictor.from_checkpoint(checkpoint)
    images = states(scene)
    inverse = [resize_map(depth, SIZE) for depth in predictor.inverse_depth(list(images.values()))]
    colors = ColorRange.of(inverse[0])
    sheet = Image.new("RGB", (2 * SIZE[1] + GAP, len(images) * (SIZE[0] + GAP) - GAP), "white")
    for row, (name, depth) in enumerate(zip(images, inverse, strict=True)):
        top = row * (SIZE[0] + GAP)
        sheet.paste(Image.fromarray(images[name]), (0, top))
        sheet.paste(Image.fromarray(colorize(depth, colors)), (SIZE[1] + GAP, top))
        ImageDraw.Draw(sheet).text(
            (8, top + 4), name, fill="white", stroke_width=2, stroke_fill="black", font=ImageFont.load_default(20)
        )
    return sheet


def states(scene: int) -> dict[str, np.ndarray]:
    """The street under each condition, as uint8 [height, width, 3]."""
    batch, truth = render_examples(jnp.array([scene]), seed=1, split="evaluation", size=SIZE, views=())
    clear, key = batch.target.astype(jnp.float32) / 255.0, jax.random.key(scene)
    severity = jnp.full(1, SEVERITY)
    weather = {
        name: CONDITIONS[name](clear, truth.depth[:, 0], batch.camera, key, severity) for name in ("rain", "night")
    }
    found = {"clear": clear} | weather | {"noise": corrupt(clear, "iso", NOISE, key)}
    return {name: np.asarray(jnp.round(image[0] * 255.0)).astype(np.uint8) for name, image in found.items()}


if __name__ == "__main__":
    main()

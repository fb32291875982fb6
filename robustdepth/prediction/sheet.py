"""Contact sheets: named rows of pictures, as the sample binaries write them."""

import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from robustdepth.errors import UserError

MARGIN = 90  # pixels for the names


def contact_sheet(rows: Mapping[str, Float[np.ndarray, "height width 3"]]) -> Image.Image:
    """The rows, pictures in [0, 1] of one size, below each other, with their names on the left."""
    sheet = np.pad(np.concatenate(list(rows.values())), ((0, 0), (MARGIN, 0), (0, 0)), constant_values=1.0)
    picture = Image.fromarray((255 * sheet + 0.5).astype(np.uint8))
    height = picture.height // len(rows)
    for row, name in enumerate(rows):
        ImageDraw.Draw(picture).text((6, row * height + height // 2 - 6), name, fill="black")
    return picture


def save_picture(picture: Image.Image, output: str) -> None:
    """Writes a picture in the format of its file's ending. Raises `UserError` where that cannot be."""
    try:
        picture.save(pathlib.Path(output), optimize=True)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write {output} ({error}): give another --output.") from None

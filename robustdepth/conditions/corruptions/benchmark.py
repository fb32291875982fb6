"""The 18 corruptions of the robustness benchmark RoboDepth (KITTI-C), in five severities, batched and seeded.

Fifteen follow ImageNet-C (Hendrycks and Dietterich, ICLR 2019) with the parameters of its reimplementation
`imagecorruptions` (Michaelis et al., 2019); `dark`, `color_quant` and `iso` follow RoboDepth (Kong et al., NeurIPS
2023). They are meant for evaluation; other modules of this package render weather with depth, for training.

Their parameters are pixels, noise levels and window sizes of ImageNet-C, not fractions of the image, and they are
applied at whatever size an image has: the same severity on a smaller image is a stronger blur. The published KITTI-C
shrinks its images to 640x192 first (`KITTI_C_SIZE`, `resize_as_benchmark`); numbers at another size are not comparable
with it.
"""

import collections
import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Key, UInt8
from PIL import Image

from robustdepth.conditions.corruptions.corruption import CORRUPTIONS
from robustdepth.errors import UserError, nearest
from robustdepth.types import Array

# Names and order are the benchmark's; CORRUPTIONS may hold more.
BENCHMARK = (
    *("brightness", "dark", "fog", "frost", "snow", "contrast", "defocus", "glass", "motion", "zoom", "elastic"),
    *("color_quant", "gaussian", "impulse", "shot", "iso", "pixelate", "jpeg"),
)
SEVERITIES = (1, 2, 3, 4, 5)
KITTI_C_SIZE = (192, 640)  # height and width at which the published benchmark corrupts
MIN_SIZE = 32  # pixels; smaller images are not defined by ImageNet-C either
Item = TypeVar("Item")


def corrupt(
    images: Float[Array, "batch height width 3"] | UInt8[Array, "batch height width 3"],
    name: str,
    severity: int,
    key: Key[Array, ""] | Key[Array, "batch"],
) -> Float[Array, "batch height width 3"] | UInt8[Array, "batch height width 3"]:
    """Corrupts images; the result has their type.

    The benchmark corrupts and stores 8-bit images. Floating-point ones are therefore rounded to 8 bits first, and their
    results are multiples of 1/255. An image's result depends only on itself, the severity and its own key, whatever
    batch it is in.

    Args:
      images: uint8, or floating point in [0, 1], at their own full size, 32 pixels or more each way.
      name: one of CORRUPTIONS.
      severity: 1 to 5.
      key: one for each image (see `corruption_keys`), or one for all, which is split over the batch.

    Raises:
      UserError: an unknown name (the nearest ones are named), a severity out of range, too small images.
    """
    check_corruptions([name])
    check_severities([severity])
    height, width = images.shape[1:3]
    if min(height, width) < MIN_SIZE:
        raise UserError(
            f"corruptions need images of {MIN_SIZE}x{MIN_SIZE} pixels or more, got {width}x{height}: give larger ones."
        )
    keys = key if key.ndim else jax.random.split(key, images.shape[0])
    return _corrupt(images, name, jnp.int32(severity - 1), keys)


@functools.partial(jax.jit, static_argnames="name")  # severity is traced: one compilation for all five
def _corrupt(images: Array, name: str, level: Int[Array, ""], keys: Array) -> Array:
    is_float = jnp.issubdtype(images.dtype, jnp.floating)
    levels = jnp.round(jnp.clip(images, 0.0, 1.0) * 255.0) if is_float else images
    exact = levels.astype(jnp.float32) / 255.0
    corrupted = jax.vmap(CORRUPTIONS[name], (0, None, 0))(exact, level, keys)
    # Truncated, as the benchmark's conversion to 8 bits does; the small number keeps whole levels whole.
    stored = jnp.floor(jnp.clip(corrupted, 0.0, 1.0) * 255.0 + 1e-3)
    return (stored / 255.0).astype(images.dtype) if is_float else stored.astype(jnp.uint8)


def corruption_keys(name: str, severity: int, indices: Sequence[int] | np.ndarray) -> Key[Array, "batch"]:
    """One key for each image from its number, so that an image is corrupted alike in every batch and on every run."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), zlib.crc32(name.encode())), severity)
    return _fold_in_each(key, jnp.asarray(np.asarray(indices, np.uint32)))


_fold_in_each = jax.jit(jax.vmap(jax.random.fold_in, (None, 0)))


def resize_as_benchmark(
    image: UInt8[np.ndarray, "full_height full_width 3"], size: tuple[int, int] | None
) -> UInt8[np.ndarray, "height width 3"]:
    """The image at `size` (height, width) by Pillow's Lanczos filter, as KITTI-C was made; unchanged for None."""
    if size is None or image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))


def batches_by_size(
    items: Iterable[Item], batch_size: int, size_of: Callable[[Item], tuple[int, ...]]
) -> Iterator[list[Item]]:
    """Full batches of items of one size as soon as they are together, then the rests."""
    groups: dict[tuple[int, ...], list[Item]] = collections.defaultdict(list)
    for item in items:
        group = groups[size_of(item)]
        group.append(item)
        if len(group) == batch_size:
            yield groups.pop(size_of(item))
    yield from groups.values()


def check_size(values: Sequence[int | str]) -> tuple[int, int] | None:
    """Height and width at which images are corrupted; None, their own, for an empty list.

    Raises UserError for anything but two whole numbers of 32 or more.
    """
    if not values:
        return None
    numbers = [int(value) for value in values if str(value).strip().isdecimal()]
    if len(values) != 2 or len(numbers) != 2 or min(numbers) < MIN_SIZE:
        given = ",".join(map(str, values))
        raise UserError(f"corruption size {given!r} is not HEIGHT,WIDTH of {MIN_SIZE} or more: KITTI-C's is 192,640.")
    return numbers[0], numbers[1]


def check_corruptions(names: Sequence[str]) -> tuple[str, ...]:
    """The corruptions of a list, in the benchmark's order, then others; "all" stands for the benchmark's 18.

    Raises UserError with the nearest names for an unknown one, and for an empty list.
    """
    if not names:
        raise UserError(f"no corruption is named: {nearest('', ('all', *CORRUPTIONS))}")
    for name in names:
        if name not in ("all", *CORRUPTIONS):
            raise UserError(f"unknown corruption {name!r}: {nearest(name, ('all', *CORRUPTIONS))}")
    wanted = {*names, *(BENCHMARK if "all" in names else ())}
    return tuple(name for name in dict.fromkeys((*BENCHMARK, *CORRUPTIONS)) if name in wanted)


def check_severities(severities: Sequence[int | str]) -> tuple[int, ...]:
    """Severities in rising order, each once. Raises UserError for anything but 1 to 5, and for an empty list."""
    known = {str(severity): severity for severity in SEVERITIES}
    for severity in severities:
        if str(severity).strip() not in known:
            raise UserError(f"severity {severity!r} does not exist: severities are 1, 2, 3, 4 and 5.")
    if not severities:
        raise UserError("no severity is named: severities are 1, 2, 3, 4 and 5.")
    return tuple(sorted({known[str(severity).strip()] for severity in severities}))

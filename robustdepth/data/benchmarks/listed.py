"""What every public evaluation dataset is made of: named conditions, and samples read when they are asked for."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from robustdepth.data.images import list_images
from robustdepth.data.text import read_text
from robustdepth.errors import UserError
from robustdepth.registry import Registry
from robustdepth.types import EvalSample


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A public dataset as its publishers pack it.

    `open(root, condition, split)` lists the frames of a condition and finds all their files. It raises UserError with
    the first missing path. `split` is a file that lists the frames; "" means the published ones.
    """

    title: str
    page: str  # where it can be had
    layout: str  # what must lie under the root, and from which archives it comes
    conditions: Mapping[str, int | None]  # protocol name -> published number of images; None: no fixed number
    open: Callable[[pathlib.Path, str, str], Sequence[EvalSample]]
    split_format: str = ""  # the lines of a split file, where a condition takes one
    needs_split: Callable[[str], bool] = lambda condition: False


DATASETS: Registry[Dataset] = Registry("dataset", taken=("kitti_raw",))  # which a suite knows by itself


class Listed(Sequence[EvalSample]):
    """Samples of listed items: `read(item)` is called when one is asked for, also from threads."""

    def __init__(self, items: Sequence[Any], read: Callable[[Any], EvalSample]):
        self._items, self._read = items, read

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> EvalSample:  # type: ignore[override]  # single samples only
        return self._read(self._items[index])


def first_folder(candidates: Sequence[pathlib.Path], advice: str) -> pathlib.Path:
    """The first of the folders that exists. Raises UserError that names the first candidate."""
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise UserError(f"{candidates[0]} is missing: {advice}")


def images_below(folder: pathlib.Path, ending: str = "") -> dict[str, pathlib.Path]:
    """The images in a folder by name without `ending` and suffix, sorted."""
    paths = sorted(path for path in list_images(folder) if path.stem.endswith(ending))
    return {path.stem.removesuffix(ending): path for path in paths}


def pair(
    images: Mapping[str, pathlib.Path], truth: Callable[[str], pathlib.Path | None], where: pathlib.Path, advice: str
) -> list[tuple[str, pathlib.Path, pathlib.Path]]:
    """Every image with its ground truth: name, image, truth.

    Raises UserError where there is no image, or an image lacks its ground truth.
    """
    if not images:
        raise UserError(f"{where} holds no image: {advice}")
    pairs = [(name, image, truth(name)) for name, image in images.items()]
    return [(name, image, found) for name, image, found in complete(pairs, where, advice) if found]


def complete(
    frames: Sequence[tuple[str, pathlib.Path, pathlib.Path | None]], where: pathlib.Path, advice: str
) -> Sequence[tuple[str, pathlib.Path, pathlib.Path | None]]:
    """The frames, if each has its image and its ground truth. Raises UserError that names the first one without."""
    lacking = [(image, image.is_file()) for _, image, truth in frames if not (image.is_file() and truth)]
    lacking += [(truth, False) for _, _, truth in frames if truth and not truth.is_file()]
    if lacking:
        path, has_image = lacking[0]
        what = f"{path} has no ground truth" if has_image else f"{path} is missing"
        raise UserError(f"{what} ({len(lacking)} such files of {len(frames)} frames under {where}): {advice}")
    return frames


def read_list(path: str | pathlib.Path, split_format: str) -> list[str]:
    """The lines of a split file that are not blank. Raises UserError where there are none, or one stands twice."""
    try:
        lines = [line.strip() for line in read_text(path).split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read split file {path}: {error}; give lines {split_format}.") from error
    if not lines:
        raise UserError(f"split file {path} is empty; give lines {split_format}.")
    if twice := [line for line, times in collections.Counter(lines).items() if times > 1]:
        raise UserError(f"split file {path} names '{twice[0]}' twice; every image counts once.")
    return lines

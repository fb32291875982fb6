"""Where the inverse depth maps under evaluation come from: a network on all devices, or files made elsewhere."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from robustdepth.data.arrays import read_array
from robustdepth.data.images import files_in, folders_below, natural_sort
from robustdepth.data.lidar import read_png16
from robustdepth.data.predicted import DEPTH, PNG_FACTOR, PNG_FACTOR_KEY, SUMMARY
from robustdepth.data.text import read_text
from robustdepth.errors import UserError
from robustdepth.imaging.color import to_grey
from robustdepth.imaging.resize import resize_image
from robustdepth.runtime import sharding
from robustdepth.types import RELATIVE, SCALES, Array, EvalSample

KINDS = ("depth", "inverse_depth")
SUFFIXES = (".npy", ".npz", ".png")  # of maps, the finest first
SMALLEST = 1e-30  # a smaller number has no inverse in float32


@runtime_checkable
class Predictor(Protocol):
    """Two stages, so that the host can prepare the next images while the device works on these."""

    scale: str  # one of types.SCALES
    batch_size: int

    def prepare(self, index: int, sample: EvalSample) -> Any:
        """Host work for one sample; runs in threads."""

    def infer(self, prepared: Sequence[Any]) -> list[Float[np.ndarray, "height width"]]:
        """Inverse depth of up to `batch_size` prepared samples."""

    def describe(self) -> dict[str, Any]:
        """What the report says about the model."""


class Prepared(NamedTuple):
    """An image as the network wants it, and what its depth is to be multiplied by for the sample's camera."""

    image: np.ndarray
    factor: float


class NetworkPredictor:
    """A trained network, its batch sharded over all devices of this process.

    A short last batch is padded, and the padding dropped.
    """

    def __init__(self, model: Any, batch_size: int = 16, flip: bool = False):
        # Images of any shape are seen one by one: they make no batch.
        devices = jax.local_devices()[:1] if model.any_shape else jax.local_devices()
        mesh = sharding.make_mesh("data", devices)
        self.sharding = sharding.batch_sharding(mesh)
        self.model = dataclasses.replace(model, variables=sharding.put_replicated(model.variables, mesh))
        self.flip, self.scale = flip, model.scale
        self.batch_size = 1 if model.any_shape else self.round_up(batch_size)
        blank = np.zeros((*model.image_size, 3), np.float32)
        self.infer([Prepared(blank, 1.0)])  # compiles now, so that measured times mean something

    def prepare(self, index: int, sample: EvalSample) -> Prepared:
        return Prepared(np.asarray(self.model.prepare(sample.image)), self.model.metres_factor(sample.camera))

    def infer(self, prepared: Sequence[Prepared]) -> list[Float[np.ndarray, "height width"]]:
        images = [item.image for item in prepared]
        padding = [np.zeros_like(images[0])] * (self.batch_size - len(images))
        inverse = self._predict(np.stack(images + padding))
        return [values / item.factor for values, item in zip(inverse, prepared, strict=False)]

    def round_up(self, count: int) -> int:
        """The next number of images that the devices share evenly."""
        return sharding.round_up(count, self.sharding.mesh.size)

    def put(
        self, images: Sequence[UInt8[np.ndarray, "full_height full_width 3"]], count: int
    ) -> UInt8[Array, "batch full_height full_width 3"]:
        """Images of one size on the devices, shared among them, the first one repeated up to `count`."""
        return jax.device_put(np.stack([*images, *[images[0]] * (count - len(images))]), self.sharding)

    def infer_full_size(
        self, images: UInt8[Array, "batch full_height full_width 3"]
    ) -> Float[np.ndarray, "batch height width"]:
        """Inverse depth of images that lie on the devices at their own size: `prepare` without host and camera.

        Resized values differ from Pillow's by one level of 255 at most, which rounds between its two passes.
        """
        grey = self.model.config.data.grey == 1
        return self._predict(_prepare_on_device(images, self.model.input_size(*images.shape[1:3]), grey))

    def _predict(self, images: Float[Array, "batch height width 3"]) -> Float[np.ndarray, "batch height width"]:
        inverse = self._run(images)
        if not self.flip:
            return inverse
        return flip_post_process(inverse, self._run(images[:, :, ::-1])[:, :, ::-1])

    def _run(self, images: Float[Array, "batch height width 3"]) -> Float[np.ndarray, "batch height width"]:
        return np.asarray(self.model.inverse_depth(jax.device_put(images, self.sharding)), np.float32)

    def describe(self) -> dict[str, Any]:
        model = self.model
        return {
            "path": str(model.path),
            "step": int(model.step),
            "name": model.config.name,
            "encoder": model.config.model.encoder,
            "image_size": list(model.image_size),
            "scale": model.scale,
            "flip": self.flip,
        }


@functools.partial(jax.jit, static_argnums=(1, 2))
def _prepare_on_device(
    images: UInt8[Array, "batch full_height full_width 3"], size: tuple[int, int], grey: bool
) -> Float[Array, "batch height width 3"]:
    resized = images.astype(jnp.float32)
    if images.shape[1:3] != size:
        resized = jnp.round(resize_image(resized, size))
    return (jnp.round(to_grey(resized)) if grey else resized) / 255.0


def flip_post_process(
    inverse: Float[np.ndarray, "batch height width"], mirrored: Float[np.ndarray, "batch height width"]
) -> Float[np.ndarray, "batch height width"]:
    """Joins the prediction with that of the mirrored image (mirrored back): each is trusted at the border where it saw
    more, their mean between (Godard et al., CVPR 2017)."""
    ramp = np.linspace(0, 1, inverse.shape[-1], dtype=np.float32)
    left = 1 - np.clip(20 * (ramp - 0.05), 0, 1)
    right = left[::-1]
    return right * inverse + left * mirrored + (1 - left - right) * 0.5 * (inverse + mirrored)


class ForeignPredictor:
    """Predictions from files: an array [N, h, w] in .npy or .npz, or a folder with one file per sample.

    Files of a folder (.npy, .npz, or 16-bit PNG holding 256 * depth) are matched by the sample's name, with "/" and
    blanks as "_", or in natural order where the first one's is not found. Arrays are in the order of the samples. What
    `robustdepth.predict` wrote is known by its summary: its scale is that of the model, and of the depth in several
    formats the finest counts.

    Raises:
        UserError: nothing to read, another count than the samples, values that are not positive and finite.
    """

    batch_size = 1

    def __init__(self, path: str | pathlib.Path, kind: str, count: int, first_name: str):
        if kind not in KINDS:
            raise UserError(f"--predictions_kind={kind} is unknown: use {' or '.join(KINDS)}.")
        self.path, self.kind, self.scale = pathlib.Path(path), kind, _scale_of(pathlib.Path(path), kind)
        self.by_name: dict[str, pathlib.Path] = {}
        self.maps: Sequence[pathlib.Path] | np.ndarray
        if self.path.is_dir():
            self.by_name = _map_files(self.path)
            self.maps = list(self.by_name.values())
        elif self.path.is_file():
            self.maps = _load_floats(self.path)
            if self.maps.ndim != 3:
                raise UserError(
                    f"{self.path} holds an array of shape {self.maps.shape}: predictions are [count, h, w]."
                )
        else:
            raise UserError(f"--predictions={self.path} is neither a file nor a folder.")
        self.matched = "name" if _slug(first_name) in self.by_name else "order"
        if len(self.maps) != count:
            raise UserError(f"{self.path} holds {len(self.maps)} predictions, the protocol has {count} images.")

    def _entry(self, index: int, name: str) -> Any:
        if self.matched == "order":
            return self.maps[index]
        if _slug(name) not in self.by_name:
            raise UserError(f"{self.path} has no prediction for {name} (files are named as the samples, '/' as '_').")
        return self.by_name[_slug(name)]

    def prepare(self, index: int, sample: EvalSample) -> np.ndarray:
        entry = self._entry(index, sample.name)
        values = _load_map(entry) if isinstance(entry, pathlib.Path) else entry
        where = f"the prediction for {sample.name} in {entry if isinstance(entry, pathlib.Path) else self.path}"
        values = np.asarray(values, np.float32)
        if values.ndim != 2:
            raise UserError(f"{where} has shape {values.shape}: expected [height, width].")
        if not np.isfinite(values).all():
            raise UserError(f"{where} holds NaN or infinite values.")
        if values.min() < SMALLEST:
            raise UserError(f"{where} holds values that are not positive ({self.kind} must be > 0 at every pixel).")
        return values if self.kind == "inverse_depth" else 1 / values

    def infer(self, prepared: Sequence[np.ndarray]) -> list[Float[np.ndarray, "height width"]]:
        return list(prepared)

    def describe(self) -> dict[str, Any]:
        return {"predictions": str(self.path), "kind": self.kind, "scale": self.scale, "matched_by": self.matched}


def map_size(path: str | pathlib.Path) -> tuple[int, int]:
    """Height and width of the first prediction in a file or folder. Raises UserError where there is none."""
    path = pathlib.Path(path)
    if path.is_dir():
        files = list(_map_files(path).values())
        if not files:
            raise UserError(f"{path} holds no predictions (.npy, .npz or 16-bit PNG).")
        shape = _load_map(files[0]).shape
    else:
        shape = _load_floats(path).shape
    if len(shape) < 2:
        raise UserError(f"{path} holds an array of shape {shape}: predictions are [count, h, w].")
    return shape[-2], shape[-1]


def _map_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The folder's predictions by name, in natural order; of one in several formats the finest.

    Where names end as those of `robustdepth.predict`, only these are predictions.
    """
    files = [path for part in folders_below(folder) for path in natural_sort(files_in(part))]
    files = [path for path in files if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    ending = DEPTH if any(path.stem.endswith(DEPTH) for path in files) else ""
    found: dict[str, pathlib.Path] = {}
    for path in files:
        if not path.stem.endswith(ending):
            continue
        name = _slug(path.relative_to(folder).with_name(path.stem.removesuffix(ending)).as_posix())
        known = found.setdefault(name, path)
        found[name] = min(known, path, key=lambda path: SUFFIXES.index(path.suffix.lower()))
    return found


def _scale_of(path: pathlib.Path, kind: str) -> str:
    """What the summary of a prediction run says about its depth; "relative" without one."""
    if not (path / SUMMARY).is_file():
        return RELATIVE
    if kind != "depth":
        raise UserError(f"{path} holds what robustdepth.predict wrote, which is depth: use --predictions_kind=depth.")
    try:
        scale = json.loads(read_text(path / SUMMARY))["scale"]
        if scale not in SCALES:
            raise ValueError(f"scale is {scale!r}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path / SUMMARY} is damaged ({error}): predict again, or delete it.") from error
    return scale


def _slug(name: str) -> str:
    return name.replace("/", "_").replace(" ", "_")


def _load_floats(path: pathlib.Path) -> np.ndarray:
    array = read_array(path)
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"{path} holds {array.dtype} values: predictions are floating-point numbers.")
    return array


def _load_map(path: pathlib.Path) -> np.ndarray:
    if path.suffix.lower() != ".png":
        return _load_floats(path)
    try:
        return read_png16(path, None, "prediction") / np.float32(_png_factor(path))
    except UserError as error:
        raise UserError(f"{path} is not a readable 16-bit PNG ({PNG_FACTOR} * depth in metres): {error}") from error


def _png_factor(path: pathlib.Path) -> float:
    """Values of a PNG per unit of depth: as its text says, or KITTI's 256. Raises UserError for a damaged text."""
    with Image.open(path) as image:
        text = image.info.get(PNG_FACTOR_KEY, str(PNG_FACTOR))
    try:
        if 0 < (factor := float(text)) < float("inf"):
            return factor
    except ValueError:
        pass
    raise UserError(f"{path} says {PNG_FACTOR_KEY}={text}, which is no factor: predict again.")

"""Pictures and short videos as they are and under a condition: how both look, their depth, and how far that is apart.

What the page of `robustdepth.demo` shows, without the page.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import pathlib
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image

from robustdepth.conditions.spec import CONDITIONS, Spec
from robustdepth.data.images import exif_focal_length, read_image, resize_image
from robustdepth.data.video import VideoReader, is_video
from robustdepth.errors import UserError
from robustdepth.imaging.colormap import ColorRange, colorize
from robustdepth.methods.weather import in_metres
from robustdepth.prediction.mesh import EDGE, on_surface, write_glb
from robustdepth.prediction.pointcloud import (
    camera_from_field_of_view,
    camera_from_focal_length,
    describe_focal_length,
    focal_length,
)
from robustdepth.prediction.prediction import Prediction
from robustdepth.prediction.predictor import Predictor
from robustdepth.prediction.results import WIDE
from robustdepth.prediction.run import ASSUMED_FIELD_OF_VIEW
from robustdepth.prediction.video import FALLBACK_RATE, VideoWriter
from robustdepth.types import AFFINE, METRIC, Camera
from robustdepth.world.generate import render_examples
from robustdepth.world.raycast import FAR

LARGEST, SMALLEST = 640, 32  # pixels of the longer side, to which pictures are shrunk, and of the shorter side
FRAMES, RATE = 60, 10.0  # of a video: how many at most, and per second
SURFACE = 4.0  # times the median depth: what a 3D view reaches
FACTOR = 2.0  # between two depths, from which on their difference has its full colour
STREET = (192, 640)  # height and width of a rendered street
NEARER, FARTHER = (200, 40, 30), (30, 80, 190)  # red, blue


@dataclasses.dataclass(frozen=True)
class Footage:
    """A picture, or some frames of a video."""

    frames: list[UInt8[np.ndarray, "height width 3"]]
    camera: Camera
    rate: float  # of these frames per second; 0 for a picture
    notes: tuple[str, ...]  # what is to be known of how it was read


def read_footage(path: pathlib.Path) -> Footage:
    """Reads an image or the beginning of a video, shrunk to `LARGEST` pixels.

    Raises UserError, which names the file without its folder, where it cannot be read or is too small.
    """
    try:
        if is_video(path):
            return _read_video(path)
        image = _shrunk(read_image(path), path)
        focal = exif_focal_length(path)
    except UserError as error:
        raise UserError(str(error).replace(f"{path.parent}/", "")) from error
    if focal is None:
        return _with_assumed_camera([image], 0.0)
    camera = camera_from_focal_length(focal, image.shape[:2])
    return Footage([image], camera, 0.0, (describe_focal_length(focal, camera),))


def _read_video(path: pathlib.Path) -> Footage:
    video = VideoReader(path)
    rate = video.rate or FALLBACK_RATE
    stride = max(1, round(rate / RATE))
    chosen = itertools.islice(video, 0, FRAMES * stride, stride)
    frames = [_shrunk(np.ascontiguousarray(frame), path) for frame in chosen]
    video.close()
    shown = f"{len(frames)} frames, {rate / stride:.3g} a second"
    more = f"; a video is shown up to {FRAMES} frames" if len(frames) == FRAMES else ""
    return _with_assumed_camera(frames, rate / stride, shown + more)


def _with_assumed_camera(frames: list[UInt8[np.ndarray, "height width 3"]], rate: float, *notes: str) -> Footage:
    camera = camera_from_field_of_view(ASSUMED_FIELD_OF_VIEW, frames[0].shape[:2])
    assumed = f"camera assumed {ASSUMED_FIELD_OF_VIEW:g} degrees wide, as the file does not say"
    return Footage(frames, camera, rate, (*notes, assumed))


def _shrunk(image: UInt8[np.ndarray, "height width 3"], path: pathlib.Path) -> UInt8[np.ndarray, "_ _ 3"]:
    factor = min(1.0, LARGEST / max(image.shape[:2]))
    height, width = (round(factor * side) for side in image.shape[:2])
    if min(height, width) < SMALLEST:
        raise UserError(
            f"{path} has {image.shape[1]}x{image.shape[0]} pixels: give a picture of {SMALLEST}x{SMALLEST} or more, "
            f"and at most {LARGEST // SMALLEST} times as long as high."
        )
    return resize_image(image, (height, width))


@dataclasses.dataclass(frozen=True)
class Compared:
    """Depth of a picture, and of the same picture under a condition, by one network."""

    original: UInt8[np.ndarray, "height width 3"]
    image: UInt8[np.ndarray, "height width 3"]  # under the condition
    clear: Prediction
    changed: Prediction

    @functools.cached_property
    def ratio(self) -> Float[np.ndarray, "height width"]:
        """The changed picture's depth over the clear one's.

        Of networks that know inverse depth up to a factor and a shift, the changed one's is first fitted to the clear
        one's, by least squares.
        """
        clear, changed = self.clear.inverse_depth, self.changed.inverse_depth
        if self.clear.scale == AFFINE:
            slope, shift = np.polyfit(changed.ravel(), clear.ravel(), 1)
            changed = (slope * changed + shift).astype(np.float32)
        floor = np.float32(1e-3 * clear.max())  # fitted inverse depth may be negative
        return np.maximum(clear, floor) / np.maximum(changed, floor)

    def colors(
        self, shown: ColorRange
    ) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width 3"]]:
        """Both depths, near bright and far dark."""
        return colorize(self.clear.inverse_depth, shown), colorize(self.changed.inverse_depth, shown)

    def difference(self) -> UInt8[np.ndarray, "height width 3"]:
        """White where depth stays, red where the changed picture's is nearer, blue where it is farther."""
        level = np.clip(np.log2(self.ratio) / math.log2(FACTOR), -1, 1)[..., None]
        full = np.where(level < 0, np.array(NEARER, np.float32), np.array(FARTHER, np.float32))
        return np.round(255 + np.abs(level) * (full - 255)).astype(np.uint8)

    def words(self) -> str:
        """How far the two are apart."""
        apart = np.maximum(self.ratio, 1 / self.ratio) - 1
        far_apart = np.mean(apart > 0.25)
        return f"depth changes by {np.median(apart):.0%} (median), by more than 25% in {far_apart:.0%} of the picture"

    def write_surface(self, path: pathlib.Path) -> None:
        """The changed picture's depth as a GLB, painted with the clear picture, whose colours no weather hides.

        Without what is farther than `SURFACE` times the median, the sky above all, and with that distance as 1.
        """
        depth = self.changed.depth
        farthest = SURFACE * np.median(depth)
        cloud = self.changed.points() / farthest
        write_glb(path, cloud, self.original, on_surface(depth, EDGE) & (depth < farthest), thin=2)


def describe_colors(clear: Prediction, shown: ColorRange) -> str:
    """What the colours of a depth mean."""
    unit = " m" if clear.scale == METRIC else ""
    return f"Depth from {1 / shown.near:.3g}{unit} (bright) to {1 / shown.far:.3g}{unit} (dark), {clear.scale}"


def compare(predictor: Predictor, footage: Footage, spec: Spec, severity: float) -> Iterator[Compared]:
    """Frame for frame. The condition is the first of `spec`, with this severity in [0, 1], not with the spec's.

    It is rendered with the network's own depth, as in training. Drops, lamps and banks of fog are the same in all
    frames.
    """
    for image in footage.frames:
        clear = predictor(image, footage.camera)
        if not severity:
            yield Compared(image, image, clear, clear)
            continue
        depth = in_metres(jnp.asarray(clear.depth)[None], clear.scale == METRIC)
        rendered = _render(image, jnp.minimum(depth, FAR), footage.camera, spec, severity)
        yield Compared(image, rendered, clear, predictor(rendered, footage.camera))


def _render(
    image: UInt8[np.ndarray, "height width 3"],
    depth: Float[jax.Array, "1 height width"],
    camera: Camera,
    spec: Spec,
    severity: float,
) -> UInt8[np.ndarray, "height width 3"]:
    batched = Camera(camera.focal[None], camera.center[None], camera.size)
    rendered, strength = jnp.asarray(image, jnp.float32)[None] / 255.0, jnp.full(1, severity, jnp.float32)
    for order, part in enumerate(spec[0]):
        rendered = _jitted(part.name)(rendered, depth, batched, jax.random.key(order), strength)
    return np.asarray(jnp.round(rendered[0] * 255.0).astype(jnp.uint8))


@functools.cache
def _jitted(name: str):
    return jax.jit(CONDITIONS[name])


def montage(compared: Compared, shown: ColorRange) -> UInt8[np.ndarray, "_ _ 3"]:
    """A frame of a film: changed picture, its depth and the difference, side by side; wide ones below each other."""
    height, width = compared.image.shape[:2]
    pictures = compared.image, compared.colors(shown)[1], compared.difference()
    return np.concatenate(pictures, axis=0 if width >= WIDE * height else 1)


def write_film(path: pathlib.Path, frames: Iterable[Compared], rate: float, shown: ColorRange) -> None:
    """A .webm of their montages."""
    writer = None
    for compared in frames:
        picture = montage(compared, shown)
        writer = writer or VideoWriter(path, rate, picture.shape[:2])
        writer.write(picture)
    if writer:
        writer.close()


def write_street(number: int, folder: pathlib.Path, size: tuple[int, int]) -> pathlib.Path:
    """Renders a street of the procedural world that no training sees, as a PNG with its focal length in EXIF."""
    batch, _ = render_examples(np.array([number]), seed=1, split="evaluation", size=size, views=())
    millimetres = focal_length(float(batch.camera.focal[0, 0]), size)
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.FocalLengthIn35mmFilm: round(millimetres)}
    path = folder / f"street_{number:05d}.png"
    Image.fromarray(np.asarray(batch.target[0])).save(path, exif=exif)
    return path

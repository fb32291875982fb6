"""The first part of a training step: images become float, are mirrored at random, and get jittered copies.

The networks see the jittered copies. The losses compare the images without jitter. All views of a sample share one
draw, so that a change of colour never looks like a change of geometry.
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from robustdepth.geometry.camera import flip_camera, metres_factor
from robustdepth.imaging.color import jitter, to_grey
from robustdepth.imaging.pipeline import photograph
from robustdepth.streams import stream
from robustdepth.types import Array, Batch, Camera

# A mirrored motion is F T F with F = diag(-1, 1, 1, 1): signs, entry by entry.
MIRROR = np.array([[1, -1, -1, -1], [-1, 1, 1, 1], [-1, 1, 1, 1], [-1, 1, 1, 1]], np.float32)[None, None]
MOVES = np.array([[False, False, False, True]] * 3 + [[False] * 4])[None, None]  # where a motion holds its translation


@flax.struct.dataclass
class Views:
    """A batch in float, and the same views as the networks see them."""

    clean: Batch
    seen_target: Array  # Float [batch, height, width, 3]
    seen_sources: Array  # Float [batch, source, height, width, 3]


def to_float(batch: Batch) -> Batch:
    """Images from uint8 to float32 in [0, 1]; float images pass unchanged."""

    def convert(images: Array) -> Array:
        images = jnp.asarray(images)
        return images.astype(jnp.float32) / 255.0 if images.dtype == jnp.uint8 else images

    return dataclasses.replace(batch, target=convert(batch.target), sources=convert(batch.sources))


def mirror(batch: Batch, chosen: Array) -> Batch:
    """Mirrors the chosen samples (Bool [batch]): images and every map of the target, principal point, baseline.

    An expert's features of the mirrored image differ little from its mirrored features, which a cache can hold; so do
    a stereo network's.
    """
    mirrored = flip_camera(batch.camera)
    center = jnp.where(chosen[:, None], mirrored.center, batch.camera.center)

    def turned(array: Array | None, width_axis: int) -> Array | None:
        if array is None:
            return None
        which = chosen.reshape(-1, *[1] * (array.ndim - 1))
        return jnp.where(which, jnp.flip(array, width_axis), array)

    motion = batch.motion
    if motion is not None:
        motion = jnp.where(chosen[:, None, None, None], MIRROR * motion, motion)
    return dataclasses.replace(
        batch,
        target=turned(batch.target, 2),
        sources=turned(batch.sources, 3),
        camera=Camera(batch.camera.focal, center, batch.camera.size),
        baseline=jnp.where(chosen, -batch.baseline, batch.baseline),
        expert=turned(batch.expert, 2),
        depth=turned(batch.depth, 2),
        start=turned(batch.start, 2),
        motion=motion,
        labels=turned(batch.labels, 2),
        disparity=turned(batch.disparity, 2),
        disparity_failed=turned(batch.disparity_failed, 2),
        geometry=turned(batch.geometry, 2),
        distribution=turned(batch.distribution, 2),
    )


def canonical(batch: Batch, canonical_focal: float) -> Batch:
    """The batch in the metres of a camera with the canonical focal length; unchanged where that is 0.

    A network cannot tell a long lens from a short distance. So it learns for one lens, and a real camera's depth is
    the network's times `metres_factor` (Yin et al., Metric3D, ICCV 2023). Images stay as they are.
    """
    if not canonical_focal:
        return batch
    factor = metres_factor(batch.camera, canonical_focal)
    depth, motion = batch.depth, batch.motion
    if depth is not None:
        depth = depth / factor[:, None, None]
    if motion is not None:
        motion = jnp.where(MOVES, motion / factor[:, None, None, None], motion)
    return dataclasses.replace(
        batch, depth=depth, motion=motion, baseline=batch.baseline / factor, speed=batch.speed / factor[:, None]
    )


def augment(
    batch: Batch,
    key: Array,
    *,
    flip: bool,
    strength: tuple[float, float, float, float],
    grey: float,
    camera_effects: float = 0.0,
    canonical_focal: float = 0.0,
) -> Views:
    """Random mirroring (p = 0.5), colour jitter (p = 0.5) and grey images (p = `grey`), drawn per sample.

    Args:
      batch: uint8 or float images.
      flip: whether samples are mirrored at all.
      strength: brightness, contrast, saturation and hue jitter; all zero switches it off.
      grey: probability that the networks see a sample without colour.
      canonical_focal: of the camera in whose metres the batch is, see `canonical`.
      camera_effects: strength of what cameras drawn at random do to the images, see `imaging.pipeline`.
    """
    clean = to_float(batch)
    size = clean.target.shape[0]
    if flip:
        clean = mirror(clean, jax.random.bernoulli(stream(key, "mirror"), 0.5, (size,)))
    seen = jnp.concatenate([clean.target[:, None], clean.sources], axis=1)
    if any(strength):
        seen = jitter(seen, stream(key, "jitter"), strength)
    if camera_effects:
        seen = photograph(seen, stream(key, "camera"), camera_effects)
    if grey > 0:
        colourless = jax.random.bernoulli(stream(key, "grey"), float(grey), (size, 1, 1, 1, 1))
        seen = jnp.where(colourless, to_grey(seen), seen)
    return Views(canonical(clean, canonical_focal), seen[:, 0], seen[:, 1:])

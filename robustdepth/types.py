"""What the packages pass to each other: cameras, batches, predictions and the training state.

Arrays are NHWC. Images are float32 in [0, 1] unless said otherwise. Depth is in metres, or in the network's own unit
where the scale is only relative. Every class is a JAX pytree, so it passes through `jit`, `grad` and shardings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import flax.struct
import jax
import numpy as np
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:
    Array: TypeAlias = Any  # static checkers follow everything but arrays; beartype checks those in tests
else:
    Array = jax.Array | np.ndarray
PyTree = Any

# Names of source views. Temporal views need the pose network; "stereo" uses the rig's baseline.
PREVIOUS, NEXT, STEREO = "previous", "next", "stereo"
TEMPORAL = (PREVIOUS, NEXT)
# What a network's depth is: in metres; right up to one factor; its inverse right up to a factor and a shift.
METRIC, RELATIVE, AFFINE = SCALES = ("metric", "relative", "affine")


class Term(NamedTuple):
    """A logged quantity: the mean `value` of `count` elements, so that means stay exact when terms are merged."""

    value: Float[Array, ""]
    count: Float[Array, ""]


@flax.struct.dataclass
class Camera:
    """Pinhole intrinsics in pixels, with the image size they belong to.

    Pixel (0, 0) is the *centre* of the first texel, so an image of width W covers x in [-0.5, W - 0.5].
    """

    focal: Float[Array, "*batch 2"]  # fx, fy in pixels
    center: Float[Array, "*batch 2"]  # cx, cy in pixels
    size: tuple[int, int] = flax.struct.field(pytree_node=False)  # (height, width)


@flax.struct.dataclass
class Batch:
    """Training examples: a target view and its source views.

    `source_names` says what each source is; a sample that lacks a view (the last frame of a clip, a sequence with one
    camera) carries zeros there and False in `source_valid`.
    """

    target: Array  # Float or UInt8 [batch, height, width, 3]; uint8 from loaders, float in [0, 1] inside the step
    sources: Array  # same type, [batch, source, height, width, 3]
    source_valid: Bool[Array, "batch source"]
    camera: Camera  # of the target, batched; sources share it
    baseline: Float[Array, "batch"]  # x of the stereo camera in the target camera's frame, metres; 0: none
    speed: Float[Array, "batch source"]  # metres travelled between target and each temporal source; 0 where unknown
    index: Int[Array, "batch"]  # which example of its dataset this is
    source_names: tuple[str, ...] = flax.struct.field(pytree_node=False)
    expert: Float[Array, "batch rows columns channels"] | None = None  # a semantic expert's features of the target
    depth: Float[Array, "batch height width"] | None = None  # true depth of the target, metres; 0: unknown, inf: sky
    start: Float[Array, "batch height width"] | None = None  # the starting network's depth, in the network's unit
    motion: Float[Array, "batch source 4 4"] | None = None  # true T_{target -> source}, metres; all 0: unknown
    labels: Int[Array, "batch height width"] | None = None  # semantic classes of the target, see world.scene.CLASSES
    # Disparity of the target towards its stereo view, in pixels of this size, 0 where unknown: the world's truth, or a
    # stereo method's answer (a proxy); where that answer fails its left/right check; and what a StereoNet has seen.
    disparity: Float[Array, "batch height width"] | None = None
    disparity_failed: Bool[Array, "batch height width"] | None = None
    geometry: Float[Array, "batch rows columns channels"] | None = None  # its geometry features, at stride 4
    distribution: Float[Array, "batch rows columns bins"] | None = None  # its probabilities, bin k: 4 k pixels


@flax.struct.dataclass
class Scene:
    """Ground truth of rendered examples; view 0 is the target, view 1 + s is source s."""

    depth: Float[Array, "batch view height width"]  # metres along the optical axis; sky holds the far plane
    labels: Int[Array, "batch view height width"]  # semantic class, see world.scene.CLASSES
    moving: Bool[Array, "batch view height width"]  # pixels of objects that move in the world
    pose: Float[Array, "batch source 4 4"]  # T_{target -> source}, true motion


@flax.struct.dataclass
class TrainState:
    """Everything a training step reads and writes; a checkpoint stores exactly this, plus the data position."""

    step: Int[Array, ""]
    params: PyTree  # {"depth": ..., "pose": ...}
    stats: PyTree  # batch statistics, same keys
    opt_state: PyTree
    ema: PyTree  # {"params": ..., "stats": ...}, both averaged; an empty dict where the option is off
    skipped: Int[Array, ""]  # steps skipped because loss or gradients were not finite
    skipped_in_row: Int[Array, ""]


@flax.struct.dataclass
class EvalSample:
    """One image with ground truth, at the recording's full size."""

    image: np.ndarray  # UInt8 [height, width, 3]
    depth: np.ndarray  # Float32 [height, width], metres, 0 where unknown
    camera: Camera
    name: str = flax.struct.field(pytree_node=False)  # shown in reports, unique within the dataset

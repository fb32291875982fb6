"""A trained stereo network with its weights on the devices: frozen, it teaches the depth network (METHOD.md 5.1)."""

import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.geometry.depth import disparity_range
from robustdepth.geometry.stereo import fails_check, mirrored, oriented
from robustdepth.imaging.resize import resize_image, resize_map
from robustdepth.interop.gwcnet_weights import load_gwcnet
from robustdepth.interop.torch_file import read_weights
from robustdepth.models.build import DTYPES
from robustdepth.models.stereo_net import STEREO_NETWORKS, StereoOutput
from robustdepth.runtime import sharding
from robustdepth.runtime.bundle import BUNDLED_STEREO, read_model
from robustdepth.types import STEREO, Array, Batch, PyTree

STRIDE = 4  # of the geometry features and the distribution
MULTIPLE = 16  # of height and width, which a StereoNet needs
# Images are matched at least at the width of the training's, where parts of a pixel are told better, and at most at so
# many times that: beyond, surfaces are larger than what the network looks at (both in docs/results.md) [ours].
WIDEST = 2
GWCNET = "gwcnet_g"
GWCNET_SUFFIXES = (".ckpt", ".pth", ".pt", ".bin")


class StereoView(NamedTuple):
    """What a stereo network sees in a target and its stereo view."""

    disparity: Float[Array, "batch height width"]  # of the target, pixels, a magnitude
    failed: Bool[Array, "batch height width"]  # where it fails the left/right check, see `geometry.stereo`
    geometry: Float[Array, "batch rows columns channels"]  # at stride 4, see `models.stereo_net.StereoOutput`
    distribution: Float[Array, "batch rows columns bins"]


@dataclasses.dataclass(frozen=True)
class StereoTeacher:
    """A frozen stereo network; with `transfer` its batches hold geometry features and distributions, too."""

    module: nn.Module
    variables: PyTree
    transfer: bool = False
    trained_at: int = 0  # width of its training's images, pixels; 0: unknown, images are matched at their own width

    def look(self, target: Array, source: Array, baseline: Float[Array, "batch"]) -> StereoView:
        """What it sees in rectified pairs, uint8 or float in [0, 1], [batch, height, width, 3] of any size.

        Pairs are matched at one to two times the width of the training: geometry and distribution have stride 4 there.

        Args:
          target: the images that it answers for.
          source: the other camera's.
          baseline: x of the source in the target camera's frame; negative where the target is the right camera.
        """
        height, width = target.shape[1:3]
        matched = min(max(width, self.trained_at), WIDEST * self.trained_at) or width
        if matched == width:
            return _look(self.module, self.variables, target, source, baseline)
        size = max(1, round(height * matched / width)), matched
        # The range of disparities grows or shrinks with the images.
        reach = -(-self.module.max_disparity * matched // (width * MULTIPLE)) * MULTIPLE
        module = self.module.clone(max_disparity=reach)
        seen = _look(module, self.variables, _resized(target, size), _resized(source, size), baseline)
        return seen._replace(
            disparity=resize_map(seen.disparity, (height, width)) * (width / matched),
            failed=resize_map(seen.failed.astype(jnp.float32), (height, width)) > 0.5,
        )

    def teach(self, batch: Batch) -> Batch:
        """The batch with what it sees in the targets, unless the batch has that already (from files, for instance).

        Samples without a stereo view hold zeros.

        Raises:
          UserError: no source of the batch is a stereo view.
        """
        if batch.disparity is not None and (batch.geometry is not None or not self.transfer):
            return batch
        if STEREO not in batch.source_names:
            raise UserError(f'a stereo network needs pairs: add "stereo" to config.data.views={batch.source_names}.')
        view = batch.source_names.index(STEREO)
        seen = _where(batch.source_valid[:, view], self.look(batch.target, batch.sources[:, view], batch.baseline))
        if self.transfer:
            batch = dataclasses.replace(batch, geometry=seen.geometry, distribution=seen.distribution)
        if batch.disparity is None:
            batch = dataclasses.replace(batch, disparity=seen.disparity, disparity_failed=seen.failed)
        return batch

    def shapes(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Channels of the geometry features and bins of the distribution, for images of this size."""
        image = jax.ShapeDtypeStruct((1, *image_size, 3), jnp.float32)
        baseline = jax.ShapeDtypeStruct((1,), jnp.float32)
        seen = jax.eval_shape(self.look, image, image, baseline)
        return seen.geometry.shape[-1], seen.distribution.shape[-1]


@functools.partial(jax.jit, static_argnums=0)
def _look(module: nn.Module, variables: PyTree, target: Array, source: Array, baseline: Array) -> StereoView:
    left, right = oriented(_in_float(target), _in_float(source), baseline)
    # Mirrored, the right camera stands left: the second pair of every sample yields its disparity. Both pairs of a
    # sample stay neighbours, so that batches split over devices need not move.
    output = _match(module, variables, _pairs(left, jnp.flip(right, 2)), _pairs(right, jnp.flip(left, 2)))
    disparity, of_right = _apart(output.disparities[-1])
    failed = fails_check(disparity, jnp.flip(of_right, 2))
    found = StereoView(disparity, failed, _apart(output.geometry)[0], _apart(output.distribution)[0])
    return StereoView(*(mirrored(values, baseline < 0) for values in found))


def _match(module: nn.Module, variables: PyTree, left: Array, right: Array) -> StereoOutput:
    """The network's answer at the images' size, whatever that is: their last row and column are repeated as needed."""
    height, width = left.shape[1:3]
    border = ((0, 0), (0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0))
    found: Any = module.apply(
        variables, jnp.pad(left, border, mode="edge"), jnp.pad(right, border, mode="edge"), train=False
    )
    rows, columns = -(-height // STRIDE), -(-width // STRIDE)
    return StereoOutput(
        tuple(disparity[:, :height, :width].astype(jnp.float32) for disparity in found.disparities),
        found.geometry[:, :rows, :columns].astype(jnp.float32),
        found.distribution[:, :rows, :columns].astype(jnp.float32),
    )


def _pairs(first: Array, second: Array) -> Array:
    """Two images of every sample, one after the other along the batch."""
    return jnp.stack([first, second], axis=1).reshape(-1, *first.shape[1:])


def _apart(values: Array) -> tuple[Array, Array]:
    """The inverse of `_pairs`."""
    both = values.reshape(-1, 2, *values.shape[1:])
    return both[:, 0], both[:, 1]


def _resized(images: Array, size: tuple[int, int]) -> Array:
    return resize_image(_in_float(jnp.asarray(images)), size)


def _in_float(images: Array) -> Array:
    return images.astype(jnp.float32) / 255.0 if images.dtype == jnp.uint8 else images


@jax.jit
def _where(there: Array, view: StereoView) -> StereoView:
    """The view of samples that are there, and zeros of the others."""
    return StereoView(*(jnp.where(there.reshape(-1, *[1] * (v.ndim - 1)), v, jnp.zeros((), v.dtype)) for v in view))


class StereoWeights(NamedTuple):
    """A trained stereo network as it lies on the disk."""

    network: str  # of STEREO_NETWORKS
    variables: PyTree  # {"params", "batch_stats"}
    dtype: Any  # of its computations
    max_disparity: int  # pixels in images of `width`; 0: the usual range
    width: int  # of the images that it was trained on; 0: unknown
    report: str


def load_teacher(
    path: str | pathlib.Path, image_size: tuple[int, int], mesh: Mesh, transfer: bool = False
) -> StereoTeacher:
    """A trained stereo network for images of `image_size`, on every device of the mesh.

    At another width than that of its training, its range of disparities grows or shrinks in proportion: none of its
    parameters depends on that.

    Args:
      path: a workdir, checkpoint or model file of task "stereo", or GwcNet's published weights (.ckpt); empty: the
        network that comes with the package.
      transfer: see `StereoTeacher`.

    Raises:
      UserError: nothing there, or no such network.
    """
    weights = read_stereo(path)
    print(weights.report)
    width = image_size[1]
    in_proportion = -(-weights.max_disparity * width // (max(weights.width, 1) * MULTIPLE)) * MULTIPLE
    module = STEREO_NETWORKS[weights.network](max_disparity=disparity_range(width, in_proportion), dtype=weights.dtype)
    variables = sharding.put_replicated(weights.variables, mesh)
    return StereoTeacher(module, variables, transfer, weights.width)


def read_pretrained(stereo: ConfigDict) -> PyTree:
    """The variables at config.stereo.pretrained, from which training starts.

    Raises:
      UserError: nothing there, no stereo network, or another than config.stereo.network.
    """
    weights = read_stereo(stereo.pretrained)
    if weights.network != stereo.network:
        raise UserError(
            f'config.stereo.pretrained={stereo.pretrained} is of the stereo network "{weights.network}", not '
            f'"{stereo.network}": set config.stereo.network="{weights.network}", or give other weights.'
        )
    print(weights.report)
    return weights.variables


def read_stereo(path: str | pathlib.Path) -> StereoWeights:
    """A trained stereo network of this project, or GwcNet's published weights; arguments and errors: `load_teacher`."""
    path = path or BUNDLED_STEREO
    if pathlib.Path(path).suffix in GWCNET_SUFFIXES:
        filled, filled_report = load_gwcnet(_shapes(GWCNET), read_weights(path), GWCNET)
        return StereoWeights(GWCNET, filled, jnp.float32, 0, 0, str(filled_report))
    model = read_model(path)
    if model.config.get("task", "depth") != "stereo" or "stereo" not in model.params:
        raise UserError(
            f'{path} holds no stereo network but one of task "{model.config.get("task", "depth")}": give one that was '
            "trained with configs/world_stereo_teacher.py or configs/kitti_stereo_teacher.py."
        )
    network, stereo = model.config.stereo.network, model.config.stereo
    variables = {"params": model.params["stereo"], "batch_stats": model.stats["stereo"]}
    check_fit(variables, network, path)
    report = f"{network}: loaded {path} (step {model.step})."
    return StereoWeights(
        network, variables, DTYPES[model.config.model.dtype], stereo.max_disparity, model.config.image_size[1], report
    )


def check_fit(variables: PyTree, network: str, path: str | pathlib.Path) -> None:
    """Refuses variables of another network, or of another version of it.

    Raises:
      UserError: names the first array that differs.
    """
    if network not in STEREO_NETWORKS:
        raise UserError(f'{path} is of the stereo network "{network}", which is none of {", ".join(STEREO_NETWORKS)}.')
    needed, found = (
        {name: tuple(leaf.shape) for name, leaf in flatten_dict(tree, sep="/").items()}
        for tree in (_shapes(network), variables)
    )
    for name in sorted(needed.keys() | found.keys()):
        if needed.get(name) != found.get(name):
            raise UserError(
                f'{path} does not fit the stereo network "{network}" of its config: {name} has shape '
                f"{found.get(name, 'none')} there and {needed.get(name, 'none')} in the network; it was trained with "
                "another width or version of it: train it anew."
            )


def _shapes(network: str) -> PyTree:
    """Shapes of a network's variables, the same for all images and ranges of disparity."""
    image = jax.ShapeDtypeStruct((1, 4 * MULTIPLE, 4 * MULTIPLE, 3), jnp.float32)
    module = STEREO_NETWORKS[network](max_disparity=MULTIPLE)
    return jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), image, image)

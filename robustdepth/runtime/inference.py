"""A trained network ready for use: its weights, the preprocessing that travels with them, and jitted functions.

Evaluation and prediction both start here, so a picture is prepared for the network in exactly one place.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict
from PIL import Image

from robustdepth.data.images import resize_image
from robustdepth.errors import UserError
from robustdepth.geometry.camera import metres_factor
from robustdepth.geometry.depth import disparity_to_inverse_depth
from robustdepth.geometry.se3 import matrix_from_vector
from robustdepth.imaging.resize import resize_map
from robustdepth.models.build import build_depth_net, build_pose_net
from robustdepth.runtime.bundle import read_model
from robustdepth.runtime.checkpoint import Weights
from robustdepth.runtime.integrity import first_line
from robustdepth.runtime.published import COVER
from robustdepth.switches import learns_metres
from robustdepth.types import METRIC, RELATIVE, Array, Camera, PyTree


@dataclasses.dataclass(frozen=True, repr=False)
class DepthModel:
    """Networks with weights. `jax.device_put` the `variables` (with `dataclasses.replace`) to place them elsewhere."""

    config: ConfigDict
    variables: dict[str, PyTree]  # {"depth": {"params", "batch_stats"}, "pose": ...}; "pose" absent for stereo-only
    step: int
    path: str

    def __repr__(self) -> str:
        height, width = self.image_size
        licence = f"; licence: {self._published.licence}" if self._published is not None else ""
        return f"{self.path}, step {self.step}: {self.config.model.encoder} at {height}x{width}, {self.scale}{licence}"

    @property
    def _published(self) -> ConfigDict | None:
        """What is to be known of a network that others published, see `published.read_published`."""
        return self.config.get("published")

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images that the networks see."""
        height, width = self.config.image_size
        return height, width

    @property
    def scale(self) -> str:
        """ "metric" (metres) where the training could learn metres, else "relative": right up to one factor.

        "affine" for published networks whose inverse depth is right up to a factor and a shift.
        """
        if self._published is not None and self._published.scale:
            return self._published.scale
        return METRIC if learns_metres(self.config) else RELATIVE

    @property
    def any_shape(self) -> bool:
        """Whether images keep their shape, so that `input_size` depends on them."""
        return self._published is not None and self._published.sizing == COVER

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The size at which the network sees an image of this one: `image_size`.

        Networks that are published for images of any shape see the smallest image of the same shape that covers
        `image_size`, its sides rounded to whole patches.
        """
        if not self.any_shape:
            return self.image_size
        patch = self.config.model.token_stride
        factor = max(wanted / side for wanted, side in zip(self.image_size, (height, width), strict=True))
        rows, columns = (
            max(patch * round(factor * side / patch), wanted)
            for wanted, side in zip(self.image_size, (height, width), strict=True)
        )
        return rows, columns

    def metres_factor(self, camera: Camera) -> float:
        """What the network's depth is multiplied by, for images of this camera (of any size)."""
        canonical = self.config.model.get("canonical_focal", 0.0)
        return float(metres_factor(camera, canonical)) if canonical else 1.0

    @property
    def canonical_field_of_view(self) -> float | None:
        """Horizontal, in degrees, of the camera that the network's metres are for; None: of no certain one."""
        canonical = self.config.model.get("canonical_focal", 0.0)
        return math.degrees(2 * math.atan(0.5 / canonical)) if canonical else None

    def prepare(self, image: UInt8[np.ndarray, "full_height full_width 3"]) -> Float[np.ndarray, "height width 3"]:
        """An image as the network wants it: resized with antialiasing (on the host) as for its training,
        in [0, 1].

        Without colour where the training saw none (config.data.grey=1).
        """
        resized = resize_image(image, self.input_size(*image.shape[:2]))
        if self.config.data.grey == 1:
            resized = np.asarray(Image.fromarray(resized).convert("L").convert("RGB"))
        return resized.astype(np.float32) / 255

    def inverse_depth(self, images: Float[Array, "batch height width 3"]) -> Float[Array, "batch height width"]:
        """Inverse depth (1/metres, or 1/unit) of prepared images."""
        model = self.config.model
        network = build_depth_net(model)
        return _inverse_depth(network, model.min_depth, model.max_depth, self.variables["depth"], images)

    def relative_pose(
        self, first: Float[Array, "batch height width 3"], second: Float[Array, "batch height width 3"]
    ) -> Float[Array, "batch 4 4"]:
        """T_{first -> second}: takes points from the first camera's frame into the second camera's.

        Give the earlier image first: the network has seen no other order. For motion backwards invert the answer.

        Raises UserError for a network that was trained without a pose network (stereo only).
        """
        if "pose" not in self.variables:
            raise UserError(f"{self.path} has no pose network: it was trained with views={self.config.data.views}.")
        return _relative_pose(build_pose_net(self.config.model), self.variables["pose"], first, second)


def load_model(path: str | pathlib.Path, step: int | None = None) -> DepthModel:
    """Loads a training's workdir at its newest whole checkpoint, at `step`, or at that of WORKDIR/checkpoints/STEP.

    A .safetensors file that robustdepth.export wrote is loaded as well; "bundled" is the model inside the package.

    Raises UserError where the weights are not those of the model that their config describes.
    """
    weights = read_model(path, step)
    if "depth" not in weights.params:
        raise UserError(f"{path} holds no depth network, only {sorted(weights.params)}: give that of a depth training.")
    variables = _variables(weights)
    try:
        image = jax.ShapeDtypeStruct((1, *weights.config.image_size, 3), jnp.float32)
        _check_fit(build_depth_net(weights.config.model), variables["depth"], (image,), f"depth network in {path}")
        if "pose" in variables:
            pose_net = build_pose_net(weights.config.model)
            _check_fit(pose_net, variables["pose"], (image, image), f"pose network in {path}")
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"the config in {path} describes no network ({first_line(error)}): it is damaged, or of an older version."
        ) from error
    return DepthModel(weights.config, jax.device_put(variables), int(weights.step), str(path))


def model_of(weights: Weights, path: str) -> DepthModel:
    """Networks at hand, as `load_model` has those of a checkpoint; `path` is what they are called."""
    return DepthModel(weights.config, jax.device_put(_variables(weights)), weights.step, path)


def _variables(weights: Weights) -> dict[str, PyTree]:
    return {
        name: {"params": weights.params[name], "batch_stats": weights.stats.get(name, {})}
        for name in ("depth", "pose")
        if name in weights.params
    }


# Networks are frozen dataclasses: as static arguments, equal ones share one compilation.
@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _inverse_depth(network: nn.Module, min_depth: float, max_depth: float, variables: PyTree, images: Array) -> Array:
    output: Any = network.apply(variables, images, train=False)
    height, width = images.shape[1:3]
    return disparity_to_inverse_depth(resize_map(output.disparities[0], (height, width)), min_depth, max_depth)


@functools.partial(jax.jit, static_argnums=0)
def _relative_pose(network: nn.Module, variables: PyTree, first: Array, second: Array) -> Array:
    vector: Any = network.apply(variables, first, second, train=False)
    return matrix_from_vector(vector[..., :3], vector[..., 3:])


def _check_fit(network: nn.Module, variables: Mapping[str, PyTree], images: tuple, what: str) -> None:
    """Raises UserError unless the weights have the names and shapes that the network asks for."""
    init = functools.partial(network.init, train=False)
    wanted = _shapes(jax.eval_shape(init, jax.random.key(0), *images))
    found = _shapes(variables)
    if wrong := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        name = wrong[0]
        raise UserError(
            f"the weights of the {what} belong to another model than its config describes: {len(wrong)} of "
            f"{len(wanted)} arrays differ, first {name} (found {found.get(name, 'nothing')}, "
            f"expected {wanted.get(name, 'nothing')})."
        )


def _shapes(variables: Mapping[str, PyTree]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf.shape) for name, leaf in flatten_dict(variables, sep="/").items()}

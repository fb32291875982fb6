"""Semantic experts: frozen networks, image -> {stride: features}, whose knowledge the depth network distils."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np
from jaxtyping import Float

from robustdepth.errors import UserError
from robustdepth.interop.fill import Report, Variables
from robustdepth.registry import Registry
from robustdepth.types import Array


class WorldExpert(nn.Module):
    """The segmentation network that this project trains on the procedural world's labels, as an expert."""

    net: Any

    def __call__(self, image: Float[Array, "batch height width 3"]) -> dict[int, Array]:
        return self.net(image, train=False)[1]


class ExpertKind(NamedTuple):
    """An expert whose weights are published."""

    build: Callable[[], nn.Module]  # a module: image in [0, 1] -> {stride: features}
    # (shapes of its variables, tensors of the weight file by name, the expert's name) -> filled variables, report
    load: Callable[[Variables, Mapping[str, np.ndarray], str], tuple[Variables, Report]]
    weights: str  # what file holds them, and where it can be had


WORLD = "world"  # its shape stands in its weight file
EXPERTS: Registry[ExpertKind] = Registry("semantic expert", taken=(WORLD,))


def nearest_stride(available: tuple[int, ...], wanted: int, expert: str) -> int:
    """Of an expert's strides, the one nearest to the student's: the finer of two that are as near.

    Raises:
      UserError: none is within a factor of two, so that resizing would invent or lose most of the features.
    """
    best = min(sorted(available), key=lambda stride: max(stride / wanted, wanted / stride))
    if max(best / wanted, wanted / best) > 2:
        raise UserError(
            f"config.semantics.stride={wanted} does not fit the expert {expert}, which has features at strides "
            f"{', '.join(map(str, sorted(available)))}: choose one within a factor of two of them."
        )
    return best

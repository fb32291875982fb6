"""Semantic experts: frozen networks, image -> {stride: features}, whose knowledge the depth network distils."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
from jaxtyping import Float

from robustdepth.errors import UserError, nearest
from robustdepth.models.espnet import ESPNetv2
from robustdepth.models.segformer import SegFormer
from robustdepth.models.vit import Dinov2
from robustdepth.types import Array


class WorldExpert(nn.Module):
    """The segmentation network that this project trains on the procedural world's labels, as an expert."""

    net: Any

    def __call__(self, image: Float[Array, "batch height width 3"]) -> dict[int, Array]:
        return self.net(image, train=False)[1]


EXPERTS: dict[str, Callable[..., nn.Module]] = {
    "dinov2_vits14": Dinov2,
    "dinov2_vitb14": partial(Dinov2, width=768, heads=12),
    "segformer_b0": SegFormer,
    "espnetv2": ESPNetv2,
}
WORLD = "world"  # its shape stands in its weight file


def build_expert(name: str) -> nn.Module:
    """The expert of that name, other than "world". Raises `UserError` for an unknown name."""
    if name not in EXPERTS:
        raise UserError(f"config.semantics.expert={name!r} is unknown: {nearest(name, (WORLD, *EXPERTS))}")
    return EXPERTS[name]()


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

"""What stands for depth: the network's sigmoid disparity (METHOD.md, notation), and disparity between two views."""

from typing import NamedTuple

from jaxtyping import Float
from ml_collections import ConfigDict

from robustdepth.imaging.resize import resize_map
from robustdepth.types import Array


def disparity_to_depth(disparity: Float[Array, "*shape"], min_depth: float, max_depth: float) -> Float[Array, "*shape"]:
    """D = 1 / (1/D_max + (1/D_min - 1/D_max) d): depth of a sigmoid disparity d in (0, 1)."""
    return 1.0 / disparity_to_inverse_depth(disparity, min_depth, max_depth)


def disparity_to_inverse_depth(
    disparity: Float[Array, "*shape"], min_depth: float, max_depth: float
) -> Float[Array, "*shape"]:
    """1/D = 1/D_max + (1/D_min - 1/D_max) d: what evaluation resizes and what stereo disparity is proportional to."""
    return 1.0 / max_depth + (1.0 / min_depth - 1.0 / max_depth) * disparity


class DepthRange(NamedTuple):
    """The depths that a network can answer, in its unit."""

    min_depth: float
    max_depth: float

    @classmethod
    def of(cls, config: ConfigDict) -> "DepthRange":
        return cls(config.model.min_depth, config.model.max_depth)

    def depth(self, disparity: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Depth of a sigmoid disparity."""
        return disparity_to_depth(disparity, self.min_depth, self.max_depth)

    def full_depth(
        self, disparity: Float[Array, "batch rows columns"], size: tuple[int, int]
    ) -> Float[Array, "batch height width"]:
        """Depth at `size` (height, width) of a disparity that may be coarser: it is enlarged before it is turned."""
        return self.depth(resize_map(disparity, size))


def stereo_disparity(
    depth: Float[Array, "batch height width"], focal: Float[Array, "batch"], baseline: Float[Array, "batch"]
) -> Float[Array, "batch height width"]:
    """How far apart the rig's two views see a point, in pixels; its inverse function is the same.

    Args:
      depth: metres (or, for the inverse, disparity in pixels).
      focal: fx in pixels.
      baseline: x of the other camera, metres, of either sign.
    """
    return (focal * abs(baseline))[:, None, None] / depth


def disparity_range(width: int, wanted: int = 0) -> int:
    """The largest disparity to look for in images of this width, pixels, a multiple of 16.

    `wanted`, or where that is 0 the usual 192 pixels of KITTI's 1242 pixels wide images, in proportion.
    """
    return wanted or -(-192 * width // (1242 * 16)) * 16

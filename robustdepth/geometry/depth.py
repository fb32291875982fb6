"""The network's sigmoid disparity and the depth it stands for (METHOD.md, notation)."""

from jaxtyping import Float

from robustdepth.types import Array


def disparity_to_depth(disparity: Float[Array, "*shape"], min_depth: float, max_depth: float) -> Float[Array, "*shape"]:
    """D = 1 / (1/D_max + (1/D_min - 1/D_max) d): depth of a sigmoid disparity d in (0, 1)."""
    return 1.0 / disparity_to_inverse_depth(disparity, min_depth, max_depth)


def disparity_to_inverse_depth(
    disparity: Float[Array, "*shape"], min_depth: float, max_depth: float
) -> Float[Array, "*shape"]:
    """1/D = 1/D_max + (1/D_min - 1/D_max) d: what evaluation resizes and what stereo disparity is proportional to."""
    return 1.0 / max_depth + (1.0 / min_depth - 1.0 / max_depth) * disparity

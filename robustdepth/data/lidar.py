"""LiDAR scans and depth images as sparse depth maps."""

import pathlib

import numpy as np
from PIL import Image

from robustdepth.errors import UserError


def read_scan(path: pathlib.Path) -> np.ndarray:
    """Points x, y, z of a Velodyne scan in the scanner's frame, metres, float32 [point, 3]. Raises UserError."""
    try:
        values = np.fromfile(path, np.float32)
        return values.reshape(-1, 4)[:, :3]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read LiDAR scan {path}: {error}; it must hold 4 floats a point.") from error


def read_depth_png(path: pathlib.Path, size: tuple[int, int]) -> np.ndarray:
    """Depth in metres, float32 [height, width], 0 where unknown, from a 16-bit PNG that holds 256 times that.

    Raises UserError where it is damaged, not of 16 bits, or not of `size` (height, width).
    """
    try:
        with Image.open(path) as image:
            if not image.mode.startswith("I"):
                raise ValueError(f"its pixels are of type {image.mode}, not 16 bits")
            if image.size[::-1] != size:
                raise ValueError(f"it has {image.width}x{image.height} pixels, its image {size[1]}x{size[0]}")
            return np.array(image, np.float32) / 256
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"cannot read ground truth {path}: {error}; replace it.") from error


def project_lidar(scan: np.ndarray, projection: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Sparse depth of a scan: float32 [height, width], metres along the optical axis, 0 where no point falls.

    Points fall on the nearest pixel centre; where several do, the nearest wins. Points behind the camera drop out.

    Args:
      scan: points x, y, z in the scanner's frame, [point, 3].
      projection: scanner to image, [3, 4].
      size: height and width of the depth map.
    """
    height, width = size
    u, v, depth = projection[:, :3] @ scan.T.astype(np.float64) + projection[:, 3:]
    front = depth > 0
    depth = depth[front]
    column, row = np.rint(u[front] / depth), np.rint(v[front] / depth)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    flat = (row[inside] * width + column[inside]).astype(np.int64)
    result = np.full(height * width, np.inf)
    np.minimum.at(result, flat, depth[inside])
    return np.where(np.isinf(result), 0, result).astype(np.float32).reshape(size)

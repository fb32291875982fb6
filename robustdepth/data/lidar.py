"""LiDAR scans and depth images as sparse depth maps."""

import pathlib

import numpy as np
from PIL import Image

from robustdepth.errors import BadFile


def read_scan(path: pathlib.Path, floats: int = 4) -> np.ndarray:
    """Points x, y, z of a scan in the scanner's frame, metres, float32 [point, 3]; those that are not finite drop out.

    The file holds `floats` float32 numbers a point, the first three of them x, y, z: 4 for a Velodyne.

    Raises BadFile where it is missing, cut off, or holds no point.
    """
    try:
        values = np.frombuffer(path.read_bytes(), np.float32)  # which refuses a part of a number
        points = values.reshape(-1, floats)[:, :3]
        points = points[np.isfinite(points).all(axis=1)]
        if not len(points):
            raise ValueError(f"it holds no point in {values.nbytes} bytes")
        return points
    except (OSError, ValueError) as error:
        raise BadFile(f"cannot read LiDAR scan {path}: {error}; it must hold {floats} floats a point.") from error


def read_depth_png(path: pathlib.Path, size: tuple[int, int]) -> np.ndarray:
    """Depth in metres, float32 [height, width], 0 where unknown, from a 16-bit PNG that holds 256 times that.

    Raises BadFile as `read_png16` does.
    """
    return read_png16(path, size) / 256


def read_png16(path: pathlib.Path, size: tuple[int, int] | None, what: str = "ground truth") -> np.ndarray:
    """The numbers of a 16-bit PNG as float32 [height, width]; `what` names it in the error's sentence.

    Raises BadFile where it is damaged, not of 16 bits, or not of `size` (height, width) where that is given.
    """
    try:
        with Image.open(path) as image:
            if not image.mode.startswith("I"):
                raise ValueError(f"its pixels are of type {image.mode}, not 16 bits")
            if size and image.size[::-1] != size:
                raise ValueError(f"it has {image.width}x{image.height} pixels, its image {size[1]}x{size[0]}")
            return np.array(image, np.float32)
    except Exception as error:  # Pillow's readers raise whatever they run into in a damaged file
        raise BadFile(f"cannot read {what} {path}: {error}; replace it.") from error


def project_lidar(
    scan: np.ndarray, projection: np.ndarray, size: tuple[int, int], min_depth: float = 0.0
) -> np.ndarray:
    """Sparse depth of a scan: float32 [height, width], metres along the optical axis, 0 where no point falls.

    Points fall on the nearest pixel centre; where several do, the nearest wins. Points behind the camera, or not
    farther than `min_depth`, drop out.

    Args:
      scan: points x, y, z in the scanner's frame, [point, 3].
      projection: scanner to image, [3, 4].
      size: height and width of the depth map.
    """
    u, v, depth = projection[:, :3] @ scan.T.astype(np.float64) + projection[:, 3:]
    front = depth > min_depth
    depth = depth[front]
    return _nearest(np.rint(u[front] / depth), np.rint(v[front] / depth), depth, size)


def project_eigen(scan: np.ndarray, projection: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The ground truth under which KITTI Eigen numbers are published: as `project_lidar`, with two differences.

    A point's value is its distance ahead of the scanner, not of the camera (0.27 m less), and it falls on the pixel one
    up and left of the nearest one. Both come with the tools that most papers since 2017 share (SfMLearner's, then
    monodepth2's `export_gt_depth`), and every comparable number contains them.
    """
    scan = scan[scan[:, 0] >= 0]
    u, v, depth = projection[:, :3] @ scan.T.astype(np.float64) + projection[:, 3:]
    front = depth > 0
    column, row = (np.rint(axis[front] / depth[front]) - 1 for axis in (u, v))
    return _nearest(column, row, scan[front, 0], size)


def _nearest(column: np.ndarray, row: np.ndarray, depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map of `size` (height, width) with the smallest depth of the points on every pixel, 0 where there is none."""
    height, width = size
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    flat = (row[inside] * width + column[inside]).astype(np.int64)
    result = np.full(height * width, np.inf)
    np.minimum.at(result, flat, depth[inside])
    return np.where(np.isinf(result), 0, result).astype(np.float32).reshape(size)

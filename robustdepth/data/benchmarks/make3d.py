"""Make3D's 134 test images (Saxena et al., TPAMI 2009), cropped to 2:1 as by Godard et al. (CVPR 2017, ICCV 2019).

Verified against Godard's published evaluation script and its users: file names, the key and channel of the depth,
crops of image (rows 710:1562 of 2272) and laser grid (rows 17:38 of 55). The grid stays at its own size, 21x305.
Assumed: intrinsics, which the dataset does not give; no metric uses them.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
import scipy.io

from robustdepth.data.benchmarks.listed import DATASETS, Dataset, Listed, first_folder, images_below, pair
from robustdepth.data.benchmarks.protocol import add_protocols
from robustdepth.data.images import read_image
from robustdepth.errors import BadFile
from robustdepth.geometry.camera import crop_camera, make_camera
from robustdepth.types import EvalSample

FULL_SIZE = (2272, 1704)
GRID = (55, 305, 4)  # the channels are y, x, z and depth
_CAMERA = make_camera(2000.0, 2000.0, 851.5, 1135.5, FULL_SIZE)
_ADVICE = "unpack Test134.tar.gz (images) and Test134Depth.tar.gz (Gridlaserdata) there."


def open_images(root: pathlib.Path, condition: str = "make3d", split: str = "") -> Sequence[EvalSample]:
    """The test images with their laser depth. Raises UserError where files are missing."""
    images, grids = (first_folder([root / name], _ADVICE) for name in ("Test134", "Gridlaserdata"))
    found = {name.removeprefix("img-"): path for name, path in images_below(images).items()}
    return Listed(pair(found, lambda name: grids / f"depth_sph_corr-{name}.mat", images, _ADVICE), _read)


def _read(frame: tuple[str, pathlib.Path, pathlib.Path]) -> EvalSample:
    name, image_path, grid_path = frame
    height = FULL_SIZE[1] // 2
    top = (FULL_SIZE[0] - height) // 2
    image = read_image(image_path, full_size=FULL_SIZE)[top : top + height]
    camera = crop_camera(_CAMERA, top, 0, (height, FULL_SIZE[1]))
    return EvalSample(image, read_grid(grid_path)[17:38], camera, name)


def read_grid(path: pathlib.Path) -> np.ndarray:
    """Depth in metres of a laser grid, float32 [55, 305]. Raises BadFile."""
    try:
        grid = scipy.io.loadmat(path, variable_names="Position3DGrid", verify_compressed_data_integrity=False)
        depth = grid["Position3DGrid"]
        if depth.shape != GRID:
            raise ValueError(f"Position3DGrid has shape {depth.shape}, expected {GRID}")
    except Exception as error:  # SciPy raises whatever it runs into in a damaged file
        raise BadFile(f"cannot read laser grid {path}: {error}; unpack Test134Depth.tar.gz again.") from error
    return depth[..., 3].astype(np.float32)


DATASETS.add(
    "make3d",
    Dataset(
        title="Make3D, test images with laser depth",
        page="http://make3d.cs.cornell.edu/data.html (laser + image data, Dataset-1)",
        layout="Test134/img-*.jpg (2272x1704) and Gridlaserdata/depth_sph_corr-*.mat",
        conditions={"make3d": 134},
        open=open_images,
    ),
)
add_protocols("make3d", valid=(0.0, 70.0), clip=(1e-3, 70.0), alignment="median", resize="depth_nearest", own_size=True)

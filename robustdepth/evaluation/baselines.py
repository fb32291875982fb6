"""The training set's median depth map, for the trivial baselines."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from robustdepth.errors import UserError

MEDIAN_FILE = "train_median.npz"  # training writes it into its workdir
WORLD = ConfigDict({"seed": 0, "batch_size": 16, "data": {"name": "none", "world_share": 1.0, "views": ()}})
WORLD_SIZE = (192, 640)


def find_median_map(file: str, model: Any | None) -> tuple[Float[np.ndarray, "height width"], str]:
    """Median depth in metres of the training set, and where it is from.

    In this order: `file`; the one in the model's workdir; computed anew from what the model's config trained on; the
    procedural world's where there is no model.

    Raises UserError where a file cannot be read or holds anything but positive depth.
    """
    if file:
        return _read(pathlib.Path(file))
    if model is not None:
        path = pathlib.Path(model.path).absolute()
        for folder in (path, path.parent, path.parent.parent):  # workdir, its checkpoints folder, one of its steps
            if (folder / MEDIAN_FILE).is_file():
                return _read(folder / MEDIAN_FILE)
    from robustdepth.data.median import median_depth_map

    config, size = (WORLD, WORLD_SIZE) if model is None else (model.config, model.image_size)
    return median_depth_map(config, size)


def _read(path: pathlib.Path) -> tuple[Float[np.ndarray, "height width"], str]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            depth, origin = np.asarray(arrays["depth"], np.float32), str(arrays["origin"]) if "origin" in arrays else ""
    except Exception as error:  # a damaged header makes NumPy raise almost anything
        raise UserError(f"{path} is not a median depth map (.npz with the array 'depth' [h, w]): {error}.") from error
    if depth.ndim != 2 or not np.isfinite(depth).all() or depth.min() <= 0:
        raise UserError(f"{path} holds no median depth map: 'depth' must be [h, w], finite and positive.")
    return depth, f"{origin or 'unknown origin'} ({path})"

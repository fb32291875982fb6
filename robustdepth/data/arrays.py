"""Plain arrays in .npy and .npz files, of whatever origin: nothing is unpickled."""

import pathlib

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from robustdepth.errors import BadFile

DEPTH = "depth"  # the array that is meant where a .npz file holds several


def read_array(path: pathlib.Path) -> np.ndarray:
    """The array of a .npy file, or that of a .npz file which is named "depth", or its only one.

    Raises BadFile where there is none, the file is damaged, or it holds anything but real numbers.
    """
    try:
        array = _read(path)
        if array.dtype.kind not in "fiu" or not array.size:
            raise ValueError(f"it holds {array.dtype}{list(array.shape)}, no real numbers")
    except Exception as error:  # a damaged header makes NumPy raise almost anything, also SyntaxError or MemoryError
        raise BadFile(f"{path} cannot be read as a plain numeric array ({error}).") from error
    return array


def _read(path: pathlib.Path) -> np.ndarray:
    with path.open("rb") as file:  # which NumPy would leave open where a .npz file is damaged
        if file.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX:
            return np.load(path, allow_pickle=False, mmap_mode="r")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            names = arrays.files
            if DEPTH not in names and len(names) != 1:
                raise ValueError(f"it holds the arrays {', '.join(names) or '(none)'}: name one of them '{DEPTH}'")
            return arrays[DEPTH if DEPTH in names else names[0]]

"""PyTorch's files written without PyTorch."""

import pathlib
import pickle
import zipfile
from collections.abc import Mapping

import numpy as np

from tests.interop.test_torch_file import REBUILD, integer, storage, text


def save(path: pathlib.Path, values: Mapping[str, np.ndarray | int]) -> pathlib.Path:
    """A state_dict as `torch.save` writes it: float32 tensors, and numbers and truth values beside them."""
    items = b""
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, value) in enumerate(values.items()):
            if isinstance(value, int):
                items += (
                    text(name) + (b"\x88" if value is True else b"\x89" if value is False else integer(value)) + b"s"
                )
                continue
            value = np.ascontiguousarray(value, np.float32)
            strides = tuple(stride // 4 for stride in value.strides)
            shape = b"".join(pickle.dumps(numbers, 2)[2:-1] for numbers in (value.shape, strides))
            tensor = REBUILD + b"(" + storage(value.size, str(number)) + integer(0) + shape + b"\x89NtR"
            items += text(name) + tensor + b"s"
            archive.writestr(f"archive/data/{number}", value.tobytes())
        archive.writestr("archive/data.pkl", b"\x80\x02}" + items + b".")
    return path

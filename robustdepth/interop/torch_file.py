"""Reads weight files without PyTorch: `.pth` (zip and legacy), running nothing in them, and `.safetensors`."""

import functools
import io
import math
import mmap
import pathlib
import reprlib
import struct
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from robustdepth.errors import UserError
from robustdepth.interop import restricted_pickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of a legacy file
_LEGACY_PROTOCOL = 1001
_MAX_DIMENSIONS = 32
TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")

_STORAGE_DTYPES = {
    f"torch.{name}Storage": np.dtype(dtype)
    for name, dtype in {
        "Float": np.float32,
        "Double": np.float64,
        "Half": np.float16,
        "BFloat16": ml_dtypes.bfloat16,
        "Long": np.int64,
        "Int": np.int32,
        "Short": np.int16,
        "Char": np.int8,
        "Byte": np.uint8,
        "Bool": np.bool_,
    }.items()
}


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    numel: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_weights(path: str | pathlib.Path, numbers: bool = False) -> dict[str, np.ndarray]:
    """Tensors by name from a `.pth`, `.pt`, `.ckpt`, `.bin` or `.safetensors` file; arrays may be read-only.

    With `numbers` a PyTorch file may hold whole numbers and truth values among them, read as arrays without axes.

    Raises:
      UserError: where the file is missing, truncated, of another kind, or holds more than tensors.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"weight file {path} does not exist.")
    if path.suffix == ".safetensors":
        try:
            return safetensors.numpy.load_file(path)
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise UserError(f"weight file {path} cannot be read as safetensors ({error}).") from error
    if path.suffix in TORCH_SUFFIXES:
        return read_torch_file(path, numbers)
    raise UserError(f"weight file {path} has an unknown ending: use .pth, .pt, .ckpt, .bin or .safetensors.")


def read_torch_file(path: str | pathlib.Path, numbers: bool = False) -> dict[str, np.ndarray]:
    """Tensors by name from a state_dict saved by `torch.save`, in the zip or the legacy format.

    A training's checkpoint may hold it under the key "model", beside what else the training needed. `numbers` is that
    of `read_weights`.

    Nothing in the file is executed, and no size it states is believed before the bytes are there. Arrays are read-only
    views on the file's storages.

    Raises:
      UserError: where the file is missing, truncated, no state_dict, or asks for anything but tensors.
    """
    path = pathlib.Path(path)
    where = f"weight file {path}"
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                return _read_zip(file, where, numbers)
            if path.stat().st_size == 0:
                raise UserError(f"{where} is empty.")
            # A map never reads past the file's end, however much is asked of it; a file object allocates first.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                return _read_legacy(mapped, where, numbers)
    except OSError as error:
        raise UserError(f"{where} cannot be read ({error.strerror or error}).") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error) as error:
        raise UserError(f"{where} is damaged or truncated ({error}).") from error


def _read_zip(file: BinaryIO, where: str, numbers: bool) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        records = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        # Stored entries cannot blow up; together they cannot exceed the file unless they overlap.
        size = file.seek(0, io.SEEK_END)
        stored = all(info.compress_type == zipfile.ZIP_STORED for info in records.values())
        if not stored or sum(info.file_size for info in records.values()) > size:
            raise UserError(f"{where} is refused: its zip entries are compressed or overlap.")
        if "data.pkl" not in records:
            raise UserError(f"{where} is a zip archive but holds no data.pkl: it was not written by torch.save.")
        if "byteorder" in records and archive.read(records["byteorder"]) != b"little":
            raise UserError(f"{where} is big-endian: save it again on a little-endian machine.")
        tensors, _ = _read_state_dict(io.BytesIO(archive.read(records["data.pkl"])), where, numbers)

        @functools.cache
        def read_storage(storage: _Storage) -> np.ndarray:
            record = records.get(f"data/{storage.key}")
            if record is None:
                raise UserError(f"{where} is damaged: storage {storage.key} is missing.")
            return _storage_array(storage, archive.read(record), where)

        return {name: _view(name, tensor, read_storage, where) for name, tensor in tensors.items()}


def _read_legacy(file: BinaryIO | mmap.mmap, where: str, numbers: bool) -> dict[str, np.ndarray]:
    load = functools.partial(restricted_pickle.load, file, names={})
    try:
        magic, protocol = load(where), load(where)
    except UserError:
        magic, protocol = None, None
    if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
        raise UserError(f"{where} is not a file written by torch.save, or is truncated.")
    if load(where).get("little_endian") is not True:
        raise UserError(f"{where} is big-endian: save it again on a little-endian machine.")
    tensors, known = _read_state_dict(file, where, numbers)
    storages = {}
    for key in load(where):
        if key not in known:
            raise UserError(f"{where} is damaged: no tensor uses its storage {reprlib.repr(key)}.")
        count = int.from_bytes(file.read(8), "little")
        if count != known[key].numel:
            raise UserError(f"{where} is damaged or truncated: storage {key} states two sizes.")
        storages[known[key]] = _storage_array(known[key], file.read(count * known[key].dtype.itemsize), where)
    if missing := set(known.values()) - set(storages):
        raise UserError(f"{where} is damaged: storage {min(missing).key} is missing.")
    return {name: _view(name, tensor, storages.__getitem__, where) for name, tensor in tensors.items()}


def _read_state_dict(
    file: BinaryIO | mmap.mmap, where: str, numbers: bool
) -> tuple[dict[str, _Tensor | int], dict[str, _Storage]]:
    """The pickle of a state_dict: descriptions of tensors by name, not yet checked, and all storages by key."""

    storages: dict[str, _Storage] = {}

    def persistent(identity: Any) -> _Storage:
        match identity:
            case ("storage", restricted_pickle.Global(meaning=np.dtype() as dtype), str(key), str(), int(n), *rest):
                storage = _Storage(key, dtype, n)
                if n >= 0 and rest in ([], [None]) and storages.setdefault(key, storage) == storage:
                    return storage
        raise UserError(
            f"{where} is refused: persistent id {reprlib.repr(identity)} is no storage, or contradicts an earlier one."
        )

    def rebuild(storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> _Tensor:
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
            raise UserError(f"{where} is damaged: a tensor is described by {reprlib.repr((offset, shape, strides))}.")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))

    names: dict[str, Callable[..., Any] | np.dtype] = {
        **_STORAGE_DTYPES,
        "collections.OrderedDict": restricted_pickle.ordered_dict,
        "torch.Size": tuple,
        "torch._utils._rebuild_tensor": rebuild,
        "torch._utils._rebuild_tensor_v2": rebuild,
        "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    }
    tensors = restricted_pickle.load(file, where, names, persistent)
    if not isinstance(tensors, dict):
        raise UserError(f"{where} holds a {type(tensors).__name__}: save `model.state_dict()` alone.")
    if isinstance(tensors.get("model"), dict):
        tensors = tensors["model"]
    for name, value in tensors.items():
        known = isinstance(value, _Tensor) or (numbers and isinstance(value, int) and abs(value) < 2**31)
        if not known or not isinstance(name, str):
            raise UserError(
                f"{where} holds more than tensors ({reprlib.repr(name)} is a {type(value).__name__}): "
                "save `model.state_dict()` alone."
            )
    return tensors, storages


def _storage_array(storage: _Storage, data: bytes, where: str) -> np.ndarray:
    if len(data) != storage.numel * storage.dtype.itemsize:
        raise UserError(
            f"{where} is damaged or truncated: storage {storage.key} has {len(data)} bytes, "
            f"not {storage.numel} x {storage.dtype.itemsize}."
        )
    return np.frombuffer(data, storage.dtype)


def _view(name: str, tensor: _Tensor | int, read_storage: Callable[[_Storage], np.ndarray], where: str) -> np.ndarray:
    """The tensor as a view on its storage; no array can be larger than the storage, nor reach outside it."""
    if isinstance(tensor, int):
        return np.asarray(tensor)
    storage, offset, shape, strides = tensor
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=False))
    fits = last < storage.numel and math.prod(shape) <= storage.numel
    if 0 in shape:
        fits = math.prod(filter(None, shape)) < 2**31
    if len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS or not fits:
        raise UserError(
            f"{where} is refused: tensor {name!r} (shape {shape}, strides {strides}, offset {offset}) reaches outside "
            f"its storage of {storage.numel} elements."
        )
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    item = storage.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        read_storage(storage)[offset:], shape, [stride * item for stride in strides], writeable=False
    )

"""A semantic expert's features, computed once per example and kept on disk in half precision.

A cache is a folder: `cache.json` says what it holds, and shards `features-00003-of-00010.array_record` hold one record
per example in the source's order. A shard gets its name once it is complete, so a killed run goes on where it was.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from absl import logging
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from jaxtyping import Float, UInt8
from tqdm import tqdm

from robustdepth.data.images import BadImage
from robustdepth.data.pack import MAX_BAD_IMAGES
from robustdepth.data.source import Source, ViewSource
from robustdepth.errors import UserError

DESCRIPTION = "cache.json"
WRITER = "a training of this config in one process"  # several would write the same files
SHARD = 256  # examples: what a killed run loses at most
RECORD_DTYPE = np.dtype("<f2")

# uint8 images to features; as a record holds half precision, their values must stay below 65,504.
Compute = Callable[
    [UInt8[np.ndarray, "batch height width 3"]],
    Float[np.ndarray, "batch rows columns channels"],
]


@dataclasses.dataclass(frozen=True)
class CacheMeta:
    """What a cache holds; one that differs in anything is refused."""

    expert: str  # its name in the configuration
    weights: str  # fingerprint (SHA-256) of its weight file
    image_size: tuple[int, int]  # height, width of the images it saw
    stride: int  # of the features
    shape: tuple[int, int, int]  # rows, columns, channels of one example
    examples: int
    source: str  # fingerprint of the targets in their order


def describe_cache(
    expert: str, weights: str | os.PathLike, source: ViewSource, image_size: tuple[int, int], stride: int, channels: int
) -> CacheMeta:
    """The description of the features of `source`, for `write_cache` and `open_cache`.

    Args:
      weights: the expert's weight file. Raises UserError where it cannot be read.
      image_size: height, width of the source's images.
      channels: of the expert's features at `stride`, whose map has ceil(height / stride) rows, and so the columns.
    """
    height, width = image_size
    names = "\n".join(view.target.name for view in source.views)
    return CacheMeta(
        expert=expert,
        weights=_fingerprint(weights),
        image_size=(height, width),
        stride=stride,
        shape=(-(-height // stride), -(-width // stride), channels),
        examples=len(source),
        source=hashlib.sha256(names.encode()).hexdigest(),
    )


def _fingerprint(path: str | os.PathLike) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"weight file {path} cannot be read ({error.strerror}).") from error


def write_cache(path: str | os.PathLike, source: Source, compute: Compute, meta: CacheMeta, batch_size: int) -> str:
    """Computes the features of every target of `source` and keeps them in the folder `path`; returns what was done.

    `compute` always gets `batch_size` images, so that it is compiled once; the last image is repeated to fill a batch.
    Shards that are complete are kept. Examples whose image cannot be read get an empty record.

    Raises:
      UserError: the folder holds another cache or cannot be written, too many images cannot be read, or features are
        not finite in half precision.
    """
    folder = pathlib.Path(path)
    _claim(folder, meta)
    shards = _shards(folder, meta)
    missing = {file: indices for file, indices in shards.items() if not file.is_file()}
    if not missing:
        return f"{folder} already holds the features of {meta.examples} images; nothing to do."
    done = meta.examples - sum(map(len, missing.values()))
    with (
        concurrent.futures.ThreadPoolExecutor() as pool,
        tqdm(total=meta.examples, initial=done, desc="expert features", unit="image") as progress,
    ):
        work = _Work(source, compute, meta, batch_size, pool, progress)
        for file, indices in missing.items():
            _write_shard(file, work.records(indices), len(indices))
    return f"wrote the features of {meta.examples - done} images into {folder}; train with semantics.cache={folder}"


def _claim(folder: pathlib.Path, meta: CacheMeta) -> None:
    """Makes the folder this cache's, or checks that it is."""
    description = folder / DESCRIPTION
    try:
        if description.is_file():
            _check_same(folder, meta, "choose another folder, or delete this one")
            return
        folder.mkdir(parents=True, exist_ok=True)
        part = description.with_suffix(".part")
        part.write_text(json.dumps(dataclasses.asdict(meta), indent=1))
        part.rename(description)
    except OSError as error:
        raise UserError(
            f"cannot write expert features into {folder} ({error.strerror}); choose a folder that can be written, "
            "with room on its disk."
        ) from error


def _check_same(folder: pathlib.Path, meta: CacheMeta, advice: str) -> None:
    """Raises UserError unless the folder holds what `meta` says."""
    try:
        found = json.loads((folder / DESCRIPTION).read_text())
        differing = [name for name, value in dataclasses.asdict(meta).items() if _plain(value) != found[name]]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{folder / DESCRIPTION} is damaged ({error}); delete {folder} and write it again.") from error
    if differing:
        name = differing[0]
        there, wanted = (str(_plain(value))[:20] for value in (found[name], getattr(meta, name)))  # of a fingerprint
        raise UserError(f"{folder} holds other expert features ({name} is {there}, not {wanted}); {advice}.")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value  # as JSON has it


def _shards(folder: pathlib.Path, meta: CacheMeta) -> dict[pathlib.Path, range]:
    """Every shard's file and the examples in it."""
    count = -(-meta.examples // SHARD)
    return {
        folder / f"features-{i:05d}-of-{count:05d}.array_record": range(i * SHARD, min((i + 1) * SHARD, meta.examples))
        for i in range(count)
    }


@dataclasses.dataclass
class _Work:
    """Turns examples into records, batch by batch."""

    source: Source
    compute: Compute
    meta: CacheMeta
    batch_size: int
    pool: concurrent.futures.Executor
    progress: tqdm
    bad: int = 0  # images that could not be read

    def records(self, indices: range) -> Iterator[bytes]:
        """One record per example; an empty one where the image cannot be read."""
        for start in range(0, len(indices), self.batch_size):
            batch = indices[start : start + self.batch_size]
            results = list(self.pool.map(self._read, batch))
            images = [result for result in results if isinstance(result, np.ndarray)]
            features = iter(self._features(images, batch[0]) if images else ())
            for result in results:
                if isinstance(result, BadImage):
                    self._count_bad(result)
                    yield b""
                else:
                    yield next(features).tobytes()
            self.progress.update(len(batch))

    def _read(self, index: int) -> np.ndarray | BadImage:
        try:
            return self.source[index].target
        except BadImage as error:
            return error

    def _count_bad(self, error: BadImage) -> None:
        self.bad += 1
        logging.warning("%s It gets no features.", error)
        if self.bad > MAX_BAD_IMAGES:
            raise UserError(f"more than {MAX_BAD_IMAGES} images cannot be read, the last: {error}") from error

    def _features(self, images: list[np.ndarray], first: int) -> np.ndarray:
        full = images + [images[-1]] * (self.batch_size - len(images))
        with np.errstate(over="ignore"):  # what half precision cannot hold is refused below
            features = np.asarray(self.compute(np.stack(full))).astype(RECORD_DTYPE)
        if features.shape != (self.batch_size, *self.meta.shape):
            raise ValueError(f"features have shape {features.shape}, not {(self.batch_size, *self.meta.shape)}")
        if not np.isfinite(features).all():
            raise UserError(
                f"the features of the expert {self.meta.expert!r} are not finite in half precision, from example "
                f"{first} on: its weights may be damaged."
            )
        return features


def _write_shard(file: pathlib.Path, records: Iterable[bytes], count: int) -> None:
    part = file.with_suffix(".part")  # renamed when whole
    with _explained(part):
        writer = ArrayRecordWriter(str(part), "group_size:1")
    for record in records:
        with _explained(part):
            writer.write(record)
    with _explained(part):
        writer.close()
        if _open(part, count) is None:
            raise OSError("not all of it arrived")
        part.rename(file)


@contextlib.contextmanager
def _explained(part: pathlib.Path) -> Iterator[None]:
    """Turns what goes wrong in writing `part` into a UserError."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        reason = str(error).partition(";")[0]
        raise UserError(
            f"cannot write {part} ({reason}): make room on its disk, then run the same command again, it goes on."
        ) from error


def _open(file: pathlib.Path, count: int) -> ArrayRecordReader | None:
    """A reader for random access, which threads may share; None unless the file is whole and has `count` records."""
    reader = ArrayRecordReader(str(file), "readahead_buffer_size:0,max_parallelism:0")
    return reader if reader.ok() and reader.num_records() == count else None


class ExpertCache:
    """Features by example; threads may share it."""

    def __init__(self, folder: pathlib.Path, meta: CacheMeta, readers: Sequence[ArrayRecordReader]):
        self.meta = meta
        self._folder, self._readers = folder, readers

    def read(self, indices: Sequence[int]) -> Float[np.ndarray, "batch rows columns channels"]:
        """The features of these examples, float32. Raises UserError for damaged records and images that had none."""
        return np.stack([self._read(int(index)) for index in indices]).astype(np.float32)

    def _read(self, index: int) -> np.ndarray:
        if not 0 <= index < self.meta.examples:
            raise IndexError(f"example {index} of {self.meta.examples}")
        try:
            (record,) = self._readers[index // SHARD].read([index % SHARD])
        except RuntimeError as error:
            raise _damaged(list(_shards(self._folder, self.meta))[index // SHARD]) from error
        if not record:
            raise UserError(
                f"{self._folder} has no features of example {index}, whose image could not be read when they were "
                "written: mend the image, delete the folder and write it again."
            )
        return np.frombuffer(record, RECORD_DTYPE).reshape(self.meta.shape)


def open_cache(path: str | os.PathLike, meta: CacheMeta) -> "ExpertCache":
    """The cache in the folder `path`, which must hold what `meta` says.

    Raises:
      UserError: there is none, it holds something else, it was not finished, or a shard is damaged.
    """
    folder = pathlib.Path(path)
    if not (folder / DESCRIPTION).is_file():
        raise UserError(f"no expert features in {folder}: {WRITER} writes them, or leave semantics.cache empty.")
    _check_same(folder, meta, f"set semantics.cache to another folder, which {WRITER} fills")
    readers = []
    for file, indices in _shards(folder, meta).items():
        if not file.is_file():
            raise UserError(f"the expert features in {folder} are not finished: run {WRITER} again, it goes on.")
        reader = _open(file, len(indices))
        if reader is None:
            raise _damaged(file)
        readers.append(reader)
    return ExpertCache(folder, meta, readers)


def _damaged(file: pathlib.Path) -> UserError:
    return UserError(f"{file} is damaged or truncated: delete it, and {WRITER} writes it again.")

"""Frames that `robustdepth.prepare` packed at network size: as JPEG (TFDS, ArrayRecord), or raw (ArrayRecord)."""

import io
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from robustdepth.data.images import BadImage, read_image, resize_image
from robustdepth.data.recordings.clips import RECORDINGS, Frame, Key, Recording, select
from robustdepth.errors import UserError
from robustdepth.types import Camera

FOLDER = pathlib.Path("robustdepth_frames", "1.0.0")
METADATA = "metadata.json"  # as TFDS calls it
PIXELS = "pixels.array_record"  # of raw frames: record i is frame i, uint8 [height, width, 3]
FIELDS = ("clip", "number", "side", "baseline", "velocity", "time", "place")


@RECORDINGS.listed("packed")
def open_recording(data: ConfigDict) -> Recording:
    """The packed frames under `data.root`. Raises UserError where there are none or only some."""
    root = pathlib.Path(data.root)
    folder = root / FOLDER
    if not (folder / METADATA).is_file():
        raise UserError(
            f"no packed frames in {root}; run `python -m robustdepth.prepare` with --output={root} (again)."
        )
    metadata = read_metadata(folder)
    try:
        frames = [from_dict(values, record) for record, values in enumerate(metadata["frames"])]
        listed = [(clip, number, side) for clip, number, side in metadata["targets"]]
    except (LookupError, ValueError, TypeError) as error:
        raise UserError(f"{folder / METADATA} is damaged ({error!r}): delete {folder} and pack it again.") from error
    read = _raw_reader(folder) if is_raw(root) else _jpeg_reader(folder)
    clips = set(select(sorted({frame.clip for frame in frames}), data.sequences, "clip", root))
    targets = [key for key in listed if key[0] in clips]
    return Recording([frame for frame in frames if frame.clip in clips], read, targets)


def read_metadata(folder: pathlib.Path) -> dict[str, Any]:
    """What `describe` wrote beside packed frames. Raises UserError where it is damaged."""
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        if not isinstance(metadata, dict) or not isinstance(metadata.get("identity"), dict):
            raise ValueError("it describes no packed frames")
        return metadata
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{folder / METADATA} is damaged ({error}): delete {folder} and pack it again.") from error


def is_raw(root: pathlib.Path) -> bool:
    """Whether packed frames are raw; else they are JPEG."""
    return (root / FOLDER / PIXELS).is_file()


def _jpeg_reader(folder: pathlib.Path) -> Callable[[Frame, tuple[int, int]], np.ndarray]:
    # Imported here because it takes long and nothing else needs it.
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    records = builder.as_data_source(split="train", decoders={"image": tfds.decode.SkipDecoding()})

    def read(frame: Frame, size: tuple[int, int]) -> np.ndarray:
        file = io.BytesIO(_record(records, frame, folder)["image"])
        return read_image(file, size, frame.camera.size, f"{folder} {frame.name}")

    return read


def _raw_reader(folder: pathlib.Path) -> Callable[[Frame, tuple[int, int]], np.ndarray]:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    try:
        records = ArrayRecordDataSource(folder / PIXELS)
    except RuntimeError as error:
        raise UserError(f"{folder / PIXELS} is damaged: {error}; delete {folder} and pack it again.") from error

    def read(frame: Frame, size: tuple[int, int]) -> np.ndarray:
        pixels = np.frombuffer(_record(records, frame, folder), np.uint8)
        return resize_image(pixels.reshape(*frame.camera.size, 3), size)

    return read


def _record(records: Sequence, frame: Frame, folder: pathlib.Path) -> Any:
    """Raises BadImage where a record's checksum does not match."""
    if not isinstance(frame.image, int):
        raise BadImage(f"{frame.name} is the file {frame.image}, no record in {folder}.")
    try:
        return records[frame.image]
    except RuntimeError as error:
        raise BadImage(f"cannot read {frame.name} in {folder}: {error}; pack it again.") from error


def write_raw(files: Sequence[pathlib.Path], metadata: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Writes files of pixels into records without compressing them (TFDS always does), and the metadata beside them."""
    from array_record.python.array_record_module import ArrayRecordWriter

    folder.mkdir(exist_ok=True)
    writer = ArrayRecordWriter(str(folder / PIXELS), "group_size:1,uncompressed")
    for file in files:
        writer.write(file.read_bytes())
    writer.close()
    (folder / METADATA).write_text(json.dumps(metadata))


def describe(frames: Sequence[Frame], targets: Sequence[Key], identity: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata: all frames, so that a reader can pair views without reading a single record.

    Args:
      frames: in the order of their records.
      targets: those of the split; empty without one.
      identity: what tells this preparation from another.
    """
    return {"identity": dict(identity), "targets": targets, "frames": [to_dict(frame) for frame in frames]}


def to_dict(frame: Frame) -> dict[str, Any]:
    """A frame as JSON."""
    camera = {name: np.asarray(getattr(frame.camera, name)).tolist() for name in ("focal", "center", "size")}
    return {name: getattr(frame, name) for name in FIELDS} | camera


def from_dict(values: Mapping[str, Any], record: int) -> Frame:
    """The frame of `to_dict`, held by a record. Folders packed before frames had a place do not name it."""
    focal, center = (np.array(values[name], np.float32) for name in ("focal", "center"))
    camera = Camera(focal, center, tuple(values["size"]))
    return Frame(image=record, camera=camera, **{name: values[name] for name in FIELDS if name in values})

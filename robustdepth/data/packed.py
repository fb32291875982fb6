"""Frames that `robustdepth.prepare` packed at network size (TFDS, ArrayRecord)."""

import io
import pathlib

import numpy as np
from ml_collections import ConfigDict

from robustdepth.data.clips import Frame, Recording, select
from robustdepth.data.images import read_image
from robustdepth.errors import UserError

FOLDER = pathlib.Path("robustdepth_frames", "1.0.0")


def open_recording(data: ConfigDict) -> Recording:
    """The packed frames under `data.root`. Raises UserError where there are none or only some."""
    root = pathlib.Path(data.root)
    if not (root / FOLDER / "dataset_info.json").is_file():
        raise UserError(
            f"no packed frames in {root}; run `python -m robustdepth.prepare` with --output={root} (again)."
        )
    # Imported here because it takes long and only packed frames need it.
    import tensorflow_datasets as tfds

    from robustdepth.data.builders.robustdepth_frames import from_dict

    builder = tfds.builder_from_directory(root / FOLDER)
    metadata = builder.info.metadata
    records = builder.as_data_source(split="train", decoders={"image": tfds.decode.SkipDecoding()})

    def read(frame: Frame, size: tuple[int, int]) -> np.ndarray:
        return read_image(io.BytesIO(records[frame.image]["image"]), size, frame.camera.size, f"{root} {frame.name}")

    frames = [from_dict(values, record) for record, values in enumerate(metadata["frames"])]
    clips = set(select(sorted({frame.clip for frame in frames}), data.sequences, "clip", root))
    targets = [(clip, number, side) for clip, number, side in metadata["targets"] if clip in clips]
    return Recording([frame for frame in frames if frame.clip in clips], read, targets)

"""Frames at network size with their cameras, as a TFDS dataset in ArrayRecord files; TensorFlow is not needed."""

import io
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from robustdepth.data.recordings.clips import Frame
from robustdepth.data.recordings.packed import FIELDS


class RobustdepthFrames(tfds.core.GeneratorBasedBuilder):
    """Packs encoded frames in the order given, so that record i is frame i.

    The metadata lists all frames, so that a reader can pair views without reading a single record.
    """

    VERSION = tfds.core.Version("1.0.0")
    url_infos = None  # nothing is downloaded, so TFDS need not look for checksums beside this file

    def __init__(
        self,
        frames: Sequence[Frame],
        files: Sequence[pathlib.Path],
        metadata: Mapping[str, Any],
        data_dir: pathlib.Path,
    ):
        """Frames with their JPEG files, and the metadata of `packed.describe`."""
        self._frames, self._files, self._metadata = frames, files, metadata
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        two = tfds.features.Tensor(shape=(2,), dtype=np.float32)
        return tfds.core.DatasetInfo(
            builder=self,
            description="Frames of recordings at network size, with intrinsics in pixels.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "clip": tfds.features.Text(),
                    "number": np.int64,
                    "side": tfds.features.Text(),
                    "focal": two,
                    "center": two,
                    "baseline": np.float32,
                    "velocity": np.float32,
                    "time": np.float64,
                    "place": np.int64,
                }
            ),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(self._metadata),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, (frame, file) in enumerate(zip(self._frames, self._files, strict=True)):
            example = {name: getattr(frame, name) for name in FIELDS}
            example |= {"focal": frame.camera.focal, "center": frame.camera.center}
            yield index, example | {"image": io.BytesIO(file.read_bytes())}

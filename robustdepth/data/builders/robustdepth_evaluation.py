"""Images with ground truth of the public datasets, as a TFDS dataset in ArrayRecord files; TensorFlow is not needed."""

import io
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from robustdepth.data.benchmarks.datasets import DATASETS, open_condition
from robustdepth.types import EvalSample


class RobustdepthEvaluation(tfds.core.GeneratorBasedBuilder):
    """Packs samples in their order and without loss: images as PNG, depth as float32.

    The manual folder is the dataset as its publishers pack it. With Beam the frames are read by its workers, which must
    see that folder.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012  (TFDS asks for a list)
        tfds.core.BuilderConfig(name=condition, description=f"{dataset.title}: {condition}")
        for dataset in DATASETS.values()
        for condition in dataset.conditions
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The folder must hold the dataset as its publishers pack it.\n" + "\n".join(
        f"{name}: {dataset.layout}. From {dataset.page}" for name, dataset in DATASETS.items()
    )
    url_infos = None  # nothing is downloaded, so TFDS need not look for checksums beside this file

    def __init__(self, identity: Mapping[str, Any] | None = None, split: str = "", beam: bool = False, **options: Any):
        """`config` is a condition, `split` a file that lists its frames; `beam` prepares with Apache Beam.

        `identity` is kept as metadata. Other options are those of tfds.core.DatasetBuilder.
        """
        self._identity, self._split, self._beam = dict(identity or {}), split, beam
        super().__init__(**{"file_format": "array_record"} | options)

    def _info(self) -> tfds.core.DatasetInfo:
        two = tfds.features.Tensor(shape=(2,), dtype=np.float32)
        compressed = tfds.features.Encoding.ZLIB
        return tfds.core.DatasetInfo(
            builder=self,
            description="Images with ground truth depth in metres (0 where unknown), intrinsics in pixels.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "depth": tfds.features.Tensor(shape=(None, None), dtype=np.float32, encoding=compressed),
                    "focal": two,
                    "center": two,
                    "name": tfds.features.Text(),
                }
            ),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(self._identity),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {"test": self._generate_examples(pathlib.Path(dl_manager.manual_dir))}

    def _generate_examples(self, root: pathlib.Path) -> Any:
        samples = open_condition(self.builder_config.name, root, self._split)
        if not self._beam:
            return _examples(samples)
        beam = tfds.core.lazy_imports.apache_beam
        return beam.Create(range(len(samples))) | beam.Map(lambda index: (index, to_example(samples[index])))


def _examples(samples: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for index in range(len(samples)):
        yield index, to_example(samples[index])


def to_example(sample: EvalSample) -> dict[str, Any]:
    """A sample as the features of the dataset."""
    png = io.BytesIO()
    Image.fromarray(sample.image).save(png, "PNG")
    png.seek(0)
    camera = {"focal": np.asarray(sample.camera.focal), "center": np.asarray(sample.camera.center)}
    return camera | {"image": png, "depth": sample.depth, "name": sample.name}

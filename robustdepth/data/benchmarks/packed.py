"""Public datasets packed for evaluation: one folder per condition, read like the dataset itself."""

import hashlib
import io
import json
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

from robustdepth.data.benchmarks.listed import Listed
from robustdepth.data.images import read_image
from robustdepth.errors import UserError
from robustdepth.types import Camera, EvalSample

NAME, VERSION = "robustdepth_evaluation", "1.0.0"


def is_packed(root: str | os.PathLike, condition: str) -> bool:
    """Whether `root` holds this condition as `pack_condition` writes it."""
    return (pathlib.Path(root) / NAME / condition).is_dir()


def pack_condition(
    condition: str, root: str | os.PathLike, output: str | os.PathLike, split: str = "", beam: str = ""
) -> str:
    """Packs a condition of the dataset under `root` into `output`; returns what was done.

    `beam` holds options of an Apache Beam pipeline, "runner=DirectRunner,direct_num_workers=4"; "" does without Beam.

    Raises UserError for an unknown condition, where files are missing or damaged, where Beam is asked for but not
    installed, or where `output` holds another preparation.
    """
    # Imported here because it takes long and nothing else needs it.
    import tensorflow_datasets as tfds

    from robustdepth.data.benchmarks.datasets import open_condition
    from robustdepth.data.builders.robustdepth_evaluation import RobustdepthEvaluation

    options = {"beam_options": _beam_options(beam)} if beam else {}
    count, folder = len(open_condition(condition, root, split)), pathlib.Path(output) / NAME / condition / VERSION
    identity = {"frames": count, "split": hashlib.sha256(pathlib.Path(split).read_bytes()).hexdigest() if split else ""}
    if (folder / "dataset_info.json").is_file():
        if _identity_in(folder) != identity:
            raise UserError(f"{folder} holds another choice of frames; choose another --output, or delete it.")
        return f"{folder} is already prepared: {count} frames; nothing to do."
    builder = RobustdepthEvaluation(identity, split, beam=bool(beam), config=condition, data_dir=output)
    with tempfile.TemporaryDirectory() as unused:  # TFDS wants one; nothing is downloaded
        config = tfds.download.DownloadConfig(manual_dir=root, **options)
        builder.download_and_prepare(download_dir=unused, download_config=config)
    return f"packed {count} frames of {condition} into {folder}; evaluate with --data_root={output}"


def _identity_in(folder: pathlib.Path) -> Any:
    try:
        return json.loads((folder / "metadata.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'metadata.json'} is damaged ({error}): delete {folder} and pack again.") from error


def _beam_options(text: str) -> Any:
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError('Apache Beam is not installed: pip install "robustdepth[beam]", or do without.') from error
    return PipelineOptions([f"--{option}" for option in text.split(",")])


def open_packed(root: str | os.PathLike, condition: str) -> Sequence[EvalSample]:
    """The samples of a packed condition. Raises UserError where its preparation was not finished."""
    folder = pathlib.Path(root) / NAME / condition / VERSION
    if not (folder / "dataset_info.json").is_file():
        raise UserError(f"{folder} is not finished; run `python -m robustdepth.prepare evaluation {condition}` again.")
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    records = builder.as_data_source(split="test", decoders={"image": tfds.decode.SkipDecoding()})

    def read(index: int) -> EvalSample:
        record = records[index]
        name = record["name"].decode()
        image = read_image(io.BytesIO(record["image"]), name=f"{root} {name}")
        camera = Camera(record["focal"], record["center"], (image.shape[0], image.shape[1]))
        return EvalSample(image, record["depth"], camera, name)

    return Listed(range(len(records)), read)

"""Packs a recording at network size, so that training reads fast; an interrupted run can be continued."""

import concurrent.futures
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import shutil
from collections.abc import Sequence

import numpy as np
from absl import logging
from ml_collections import ConfigDict
from PIL import Image
from tqdm import tqdm

from robustdepth.data.images import BadImage
from robustdepth.data.recordings.clips import Frame, Recording, pair_views
from robustdepth.data.recordings.packed import FOLDER, describe, read_metadata, write_raw
from robustdepth.data.source import open_recording
from robustdepth.errors import UserError
from robustdepth.geometry.camera import resize_camera
from robustdepth.types import NEXT, PREVIOUS, STEREO

JPEG, RAW = "jpeg", "raw"
SUFFIX = {JPEG: ".jpg", RAW: ".raw"}
QUALITY = {JPEG: 95, RAW: "exact"}  # JPEG without colour subsampling
MAX_BAD_IMAGES = 16


def options(name: str, root: str, split: str = "", sequences: Sequence[str] = ()) -> ConfigDict:
    """The `data` section of a config for all views of a recording."""
    values = dict(name=name, root=root, split=split, sequences=tuple(sequences), views=(PREVIOUS, NEXT, STEREO))
    return ConfigDict(values | dict(frame_step=1, max_bad_images=MAX_BAD_IMAGES))


def pack(data: ConfigDict, output: str | os.PathLike, size: tuple[int, int], encoding: str = JPEG) -> str:
    """Packs the frames that `data` describes at `size` (height, width) into `output`; returns what was done.

    Every frame is decoded once, into a folder beside the result that is removed at the end. The encoding is JPEG, or
    RAW: pixels as they are, several times faster to read and larger.

    Raises:
      UserError: no frames, too many unreadable ones, or `output` holds another preparation.
    """
    recording, output = open_recording(data), pathlib.Path(output)
    views = pair_views(recording, data)
    frames = sorted({frame for view in views for frame in (view.target, *view.sources) if frame}, key=_order)
    targets = [view.target.key for view in views] if data.split else []
    identity = _identity(data.name, frames, targets, size, encoding)
    finished, partial = output / FOLDER, output / "unfinished"
    if finished.is_dir():
        _check_same(read_metadata(finished)["identity"], identity, output)
        return f"{output} is already prepared: {len(frames)} frames of {size[1]}x{size[0]}; nothing to do."
    files = _encode(recording, frames, size, encoding, partial, identity, output)
    packed = [dataclasses.replace(frame, camera=resize_camera(frame.camera, size)) for frame in files]
    targets = [key for key in targets if key in {frame.key for frame in files}]
    metadata = describe(packed, targets, identity)
    if encoding == RAW:
        write_raw(list(files.values()), metadata, partial / "raw")
        finished.parent.mkdir(exist_ok=True)
        (partial / "raw").rename(finished)
    else:
        # Imported here because it takes long and nothing else needs it.
        from robustdepth.data.builders.robustdepth_frames import RobustdepthFrames

        RobustdepthFrames(packed, list(files.values()), metadata, output).download_and_prepare(
            download_dir=partial  # TFDS wants one; nothing is downloaded
        )
    shutil.rmtree(partial)
    shape = f"{size[1]}x{size[0]}"
    return f"packed {len(packed)} frames of {shape} into {output}; train with data.name=packed data.root={output}"


def _order(frame: Frame) -> tuple[str, str, int]:
    return frame.clip, frame.side, frame.number


def _identity(name: str, frames: Sequence[Frame], targets: Sequence, size: tuple[int, int], encoding: str) -> dict:
    cameras = [(frame.name, *frame.camera.focal.tolist(), *frame.camera.center.tolist()) for frame in frames]
    digest = hashlib.sha256(json.dumps([cameras, targets]).encode()).hexdigest()
    kind = {"recording": name, "size": list(size), "quality": QUALITY[encoding]}
    return kind | {"frames": len(frames), "digest": digest}


def _check_same(found: dict, wanted: dict, output: pathlib.Path) -> None:
    if found != wanted:
        what = next(name for name in wanted if found.get(name) != wanted[name])
        raise UserError(
            f"{output} holds another preparation ({what} is {found.get(what)}, not {wanted[what]}); "
            "choose another --output, or delete that folder."
        )


def _encode(
    recording: Recording,
    frames: Sequence[Frame],
    size: tuple[int, int],
    encoding: str,
    folder: pathlib.Path,
    identity: dict,
    output: pathlib.Path,
) -> dict[Frame, pathlib.Path]:
    """Decodes, resizes and encodes every frame into `folder`; those already there are kept."""
    job = folder / "job.json"
    if job.is_file():
        try:
            found = dict(json.loads(job.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{job} is damaged ({error}): delete {folder} and pack again.") from error
        _check_same(found, identity, output)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        part = job.with_suffix(".part")  # renamed when whole, so that a killed run leaves no half file
        part.write_text(json.dumps(identity))
        part.rename(job)

    def encode(index: int) -> pathlib.Path | BadImage:
        path = folder / f"{index:08d}{SUFFIX[encoding]}"
        if path.is_file():
            return path
        try:
            image = recording.read(frames[index], size)
        except BadImage as error:
            return error
        part = path.with_suffix(".part")  # renamed when whole, so that a killed run leaves no half image
        try:
            part.write_bytes(image.tobytes() if encoding == RAW else _to_jpeg(image))
            return part.rename(path)
        except OSError as error:
            raise UserError(f"cannot write {part}: {error}; make room, then run the same command again.") from error

    files, bad = {}, 0
    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = tqdm(pool.map(encode, range(len(frames))), total=len(frames), desc="packing", unit="frame")
        for frame, result in zip(frames, results, strict=True):
            if isinstance(result, pathlib.Path):
                files[frame] = result
                continue
            bad += 1
            logging.warning("%s It is left out.", result)
            if bad > MAX_BAD_IMAGES:
                pool.shutdown(cancel_futures=True)
                raise UserError(f"more than {MAX_BAD_IMAGES} images cannot be read, the last: {result}")
    return files


def _to_jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY[JPEG], subsampling=0)
    return buffer.getvalue()

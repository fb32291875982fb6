"""Videos become folders of frames once, because a video cannot be read in random order exactly."""

import hashlib
import os
import pathlib
import shutil

import cv2
from tqdm import tqdm

from robustdepth.errors import UserError

SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
MAX_WIDTH = 1280  # the networks see less than that; keeps a long video within a few gigabytes
QUALITY = 95


def unpack(path: pathlib.Path, size: tuple[int, int]) -> tuple[pathlib.Path, float]:
    """A folder with the video's frames as JPEG at most MAX_WIDTH wide, and its frames per second (0 where unknown).

    The folder lies in the user's cache ($XDG_CACHE_HOME/robustdepth/videos) and is made once for a video.

    Raises:
      UserError: the video cannot be decoded, or its frames are not of `size` (height, width).
    """
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise UserError(f"cannot decode video {path}; convert it to MP4 (H.264) or give a folder of images.")
        height, width = (int(video.get(key)) for key in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
        if (height, width) != size:
            raise UserError(
                f"{path} has {width}x{height} pixels, but its camera.json is for {size[1]}x{size[0]}: "
                "give the intrinsics of exactly this video."
            )
        folder = _cache_folder(path)
        if not folder.is_dir():
            _write_frames(video, path, folder)
        return folder, max(0.0, video.get(cv2.CAP_PROP_FPS))
    finally:
        video.release()


def _write_frames(video: cv2.VideoCapture, path: pathlib.Path, folder: pathlib.Path) -> None:
    partial = folder.with_suffix(f".partial{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        count = 0
        with tqdm(total=max(total, 0) or None, desc=f"unpacking {path.name}", unit="frame") as progress:
            while (decoded := video.read())[0]:
                frame = decoded[1]
                if frame.shape[1] > MAX_WIDTH:
                    height = round(frame.shape[0] * MAX_WIDTH / frame.shape[1])
                    frame = cv2.resize(frame, (MAX_WIDTH, height), interpolation=cv2.INTER_AREA)
                name = str(partial / f"{count:08d}.jpg")
                if not cv2.imwrite(name, frame, [cv2.IMWRITE_JPEG_QUALITY, QUALITY]):
                    raise UserError(f"cannot write {name}: no space? Set XDG_CACHE_HOME to a larger disk.")
                count += 1
                progress.update()
        if not count:
            raise UserError(f"video {path} holds no frame that can be decoded; convert it to MP4 (H.264).")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _cache_folder(path: pathlib.Path) -> pathlib.Path:
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    status = path.stat()
    identity = f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {MAX_WIDTH}"
    return cache / "robustdepth" / "videos" / hashlib.sha256(identity.encode()).hexdigest()[:16]

"""Is a checkpoint what was written? Checksums beside its files, and what an error of its reading proves.

Only proof counts: a file that is missing, whose content is not what was written, or that cannot be decoded. Every other
error may pass (a busy network disk, too little memory, too many open files), so reading is tried again.
"""

import contextlib
import hashlib
import json
import logging
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from robustdepth.errors import UserError

SUMS_FILE = "sha256.json"  # in the folder of each step, which older versions did not write
NEEDED = ("state/_METADATA", "state/manifest.ocdbt", "data/metadata")  # without these nothing can be read
DECODING = ("DATA_LOSS", "OUT_OF_RANGE", "NOT_FOUND")  # TensorStore's words for what is broken, cut off or not there
DECOMPRESSING = "ZSTD_decompressStream() failed"  # which it gives another word
PAUSES = (0.5, 2.0, 5.0)  # seconds before reading is tried again

Result = TypeVar("Result")


class DamagedError(Exception):
    """A checkpoint is provably damaged; says what proves it."""


def write_sums(folder: pathlib.Path) -> None:
    """Writes the SHA-256 of every file of state and data position into the folder of a step. Raises OSError."""
    sums = {name: _digest(folder / name) for name in _files(folder)}
    (folder / SUMS_FILE).write_text(json.dumps(sums, indent=0) + "\n")


def check_files(folder: pathlib.Path) -> None:
    """Reads a checkpoint's files against their checksums, where it has any.

    Raises:
      DamagedError: a file is missing, or is not what was written.
      OSError: a file cannot be read now, which proves nothing.
    """
    for name in NEEDED:
        if not (folder / name).exists():
            raise DamagedError(f"{name} is missing")
    for name, digest in _sums(folder).items():
        try:
            found = _digest(folder / name)
        except FileNotFoundError:
            raise DamagedError(f"{name} is missing") from None
        if found != digest:
            raise DamagedError(f"{name} is not what was written (its checksum differs)")


def checked_position(position: Any) -> dict[str, Any]:
    """What was read as a position in the data. Raises DamagedError where it is none."""
    if not isinstance(position, dict) or not isinstance(position.get("step"), int):
        raise DamagedError("data/metadata holds no position in the data")
    return position


def _sums(folder: pathlib.Path) -> dict[str, str]:
    """Checksums by file; none where they are not there, or unreadable themselves: then they prove nothing."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        sums = json.loads((folder / SUMS_FILE).read_text())
        if isinstance(sums, dict):
            return sums
    return {}


def _files(folder: pathlib.Path) -> Iterator[str]:
    """The files of the step's items; nothing is read from those beside them, which change when a step is committed."""
    return (path.relative_to(folder).as_posix() for path in sorted(folder.glob("*/**/*")) if path.is_file())


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def patiently(action: Callable[[], Result], what: str) -> Result:
    """What `action` returns, tried again a few times where it raises an error that may pass.

    Args:
      what: what is done, as the beginning of a sentence, such as "the checkpoint of step 7 cannot be read".

    Raises:
      DamagedError: the error proves damage.
      UserError: it did not pass.
    """
    for pause in (*PAUSES, None):
        try:
            return action()
        except (UserError, DamagedError):
            raise
        except Exception as error:
            reason = first_line(error)
            if _proves_damage(error):
                raise DamagedError(reason) from error
            if pause is None:
                raise UserError(
                    f"{what} now ({reason}), also when tried again: nothing was moved or changed; mend this and start "
                    "the same command again."
                ) from error
            logging.warning("%s now (%s); trying again in %g seconds", what, reason, pause)
        time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def first_line(error: BaseException) -> str:
    """An error's first line, kept short; the name of its class where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _proves_damage(error: BaseException) -> bool:
    if isinstance(error, FileNotFoundError | json.JSONDecodeError | UnicodeDecodeError):
        return True
    text = str(error)
    if text.startswith(DECODING) or DECOMPRESSING in text:
        return True
    return error.__cause__ is not None and _proves_damage(error.__cause__)

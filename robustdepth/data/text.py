"""Text files as people's editors leave them: UTF-8, with or without a byte-order mark, or UTF-16 with one."""

import codecs
import os
import pathlib


def read_text(path: str | os.PathLike) -> str:
    """The text of a file, without a byte-order mark. Raises OSError or UnicodeDecodeError."""
    data = pathlib.Path(path).read_bytes()
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if utf16 else "utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")

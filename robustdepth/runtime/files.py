"""Files that are whole at every moment: a process killed while it writes leaves the old content, or the new one."""

import contextlib
import pathlib
from collections.abc import Iterator

PART = ".part."  # what the names of unfinished files begin with


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Where to write what shall become `path`: it takes its place when the block has ended without an error.

    After an error nothing of it is left.
    """
    part = path.with_name(PART + path.name)
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise

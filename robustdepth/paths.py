"""Folders of the user: ~ in what is typed, and where files go that may be thrown away."""

import os
import pathlib
import re
import sys
import tempfile

from robustdepth.errors import UserError

# The home of the user, or of ~another, where a path begins: at the start of a word, and after "=", "," or ":" of flags.
_HOME = re.compile(r"(?:^|(?<=[=,:]))~[^/,=]*(?=[/,]|$)")


def expand_home(text: str) -> str:
    """A path, a flag with a path (--method=depth:~/run), or a list (--models=a=~/run,b=~/other), with ~ replaced.

    Raises UserError where nobody can say what ~ is.
    """

    def home(match: re.Match) -> str:
        found = os.path.expanduser(match[0])
        if found == match[0] == "~":
            raise UserError(f"{text}: nobody can say what ~ is, since HOME is not set; give the whole path.")
        return found

    return _HOME.sub(home, text)


def command_line() -> list[str]:
    """The command line with ~ replaced: what every binary parses. Ends the process with a sentence where that fails."""
    try:
        return [sys.argv[0], *map(expand_home, sys.argv[1:])]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def for_opencv(path: pathlib.Path) -> str:
    """A path as OpenCV takes it. Raises UserError where it is not in UTF-8: such a one crashes OpenCV."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode(errors="backslashreplace").decode()
        raise UserError(f"the name {shown} is not in UTF-8, and OpenCV takes no other: rename it.") from None
    return text


def home_cache(name: str) -> pathlib.Path | None:
    """The folder robustdepth/NAME in $XDG_CACHE_HOME or ~/.cache; None where there is no home, or none to write in."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if base.startswith("~"):
        return None
    folder = pathlib.Path(base, "robustdepth", name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def cache_folder(name: str) -> pathlib.Path:
    """A folder for files that may be thrown away: `home_cache`, else one of the user's in the temporary folder.

    Raises UserError where neither can be written.
    """
    if folder := home_cache(name):
        return folder
    folder = pathlib.Path(tempfile.gettempdir(), f"robustdepth-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise PermissionError("it belongs to somebody else")
        (folder / name).mkdir(exist_ok=True)
        return folder / name
    except OSError as error:
        raise UserError(f"no folder can be written, not even {folder} ({error}): set XDG_CACHE_HOME.") from error

"""Errors are part of the interface: one sentence that says what is wrong, where, and what to do."""

import difflib
import io
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence

SHOWN = 30  # of all known names, where none is close


class UserError(Exception):
    """Something the user can mend. Binaries print its one sentence to stderr and exit with status 2."""


class BadFile(UserError):
    """One of many files of a recording that cannot be used; who reads many may leave it out, count it and say so."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names closest to a misspelt one, as the end of an error sentence."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return f"known: {', '.join(known[:SHOWN])}{more}."


def blame(error: BaseException, path: str) -> str | None:
    """Where the user's Python file `path` raised an error, or what led to it, and what it says; None if it did not."""
    for cause in list(_causes(error))[::-1]:
        lines = [frame.lineno for frame in traceback.extract_tb(cause.__traceback__) if frame.filename == path]
        if isinstance(cause, SyntaxError) and cause.filename == path:
            lines.append(cause.lineno)
        if lines:
            text = cause.msg if isinstance(cause, SyntaxError) else str(cause)
            return f"{path}, line {lines[-1]}: {type(cause).__name__}: {' '.join(text.split())}"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def run_main(main: Callable[[], None], words: Sequence[str] = ()) -> None:
    """Runs a binary's main function, turning a `UserError` into its sentence and exit status 2.

    `words` of the command line that belong to no flag are refused: what was meant by them would not be done. File names
    that are no text, as from other systems, are printed with their bytes spelt out.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if words:
            raise UserError(f"{words[0]!r} belongs to no flag: write --NAME=VALUE for each, without blanks in it.")
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

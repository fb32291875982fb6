"""Errors are part of the interface: one sentence that says what is wrong, where, and what to do."""

import difflib
import sys
from collections.abc import Callable, Iterable

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


def run_main(main: Callable[[], None]) -> None:
    """Runs a binary's main function, turning a `UserError` into its sentence and exit status 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

"""How an example ends: whatever happens, in one line, and with an exit code that says which end it was.

      0    all is done
      1    a mistake in the program: Python's traceback, after the run was saved
      2    what its user can mend: flags, data, a folder, a full disk, too little memory
      3    the run diverged: the loss, a gradient or a weight is NaN or infinite
    128 + n    signal n: 130 for Ctrl-C, 143 for a kill, 129 for a terminal that was closed
    141    nobody reads the output any more, as in `... | head`

Every example imports `common`, and so this, before anything that takes time: from then on Ctrl-C is one line.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

MISTAKE, USER, DIVERGED, PIPE = 1, 2, 3, 141


NOT_FINITE = re.compile(r"\b(nans?|infs?|infinit[ey]|not finite|did not converge)\b", re.IGNORECASE)
"""In the text of an error that a NaN has led to, in the functions of tinygen and of `numpy.linalg`."""


class Ended(Exception):
    """The end of an example: the line that says why, and its exit code."""

    def __init__(self, code: int, line: str) -> None:
        super().__init__(line)
        self.code = code


def end_by_signal(number: int, where: str = "") -> Ended:
    """The end that signal `number` asked for."""
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    return Ended(128 + number, f"stopped{by}{where}")


def ending(error: BaseException) -> Ended | None:
    """How an example ends with this error. None for a mistake in the program: that wants its traceback."""
    if isinstance(error, Ended):
        return error
    if isinstance(error, KeyboardInterrupt):  # nothing is imported here: it may have come from an import
        return end_by_signal(signal.SIGINT)
    if isinstance(error, BrokenPipeError):
        return Ended(PIPE, "nobody reads the output any more")
    if isinstance(error, MemoryError):
        return Ended(USER, f"error: out of memory ({error or 'it says no more'}): smaller sizes need less")
    from tinygen.data import DataError
    from tinygen.storage.files import CheckpointError

    if isinstance(error, OSError | DataError | CheckpointError):
        return Ended(USER, f"error: {error}")
    if isinstance(error, ArithmeticError | ValueError) and NOT_FINITE.search(str(error)):
        return Ended(DIVERGED, f"the run diverged: {error}")
    return None


def finish(end: Ended, notes: list[str]) -> NoReturn:
    """Say it, in one line, and exit."""
    line = "; ".join([str(end), *notes])
    with contextlib.suppress(OSError):  # there may be nobody to say it to
        print(f"{os.path.basename(sys.argv[0])}: {' '.join(line.split())}", file=sys.stderr, flush=True)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except OSError:  # Python would complain at the very end: what is left goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    raise SystemExit(end.code)


def prepare_console() -> None:
    """A letter that the console does not have is shown as its number. Lines come as they are printed, in a
    pipe too. The file number of a console that is closed is taken, so that no file of the run gets it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (until the end)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)


def start(parse_args: Callable[[], Any], main: Callable[[Any], None]) -> None:
    """Run an example: read its flags, then call `main` with them. However it ends, it ends in one line."""
    prepare_console()
    try:
        main(parse_args())
        sys.stdout.flush()
    except BaseException as error:
        end = ending(error)
        if end is None:
            raise
        finish(end, getattr(error, "__notes__", []))


def last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C before `start`, or after it."""
    if issubclass(kind, KeyboardInterrupt):
        finish(end_by_signal(signal.SIGINT), [])
    sys.__excepthook__(kind, error, trace)


sys.excepthook = last_words

"""How an example ends: with one line, and with an exit code that says why it ended.

      0    the example has finished
      1    a mistake in the program: Python's traceback, after the run was saved
      2    the user can correct it: flags, data, a folder, a full disk, too little memory
      3    the run diverged: the loss, a gradient or a weight is NaN or infinite
    128 + n    signal n: 130 for Ctrl-C, 143 for a kill, 129 for a terminal that was closed
    141    nobody reads the output any more, as in `... | head`

Every example imports this file first, before the slow imports, so that Ctrl-C ends with one line during these
imports, too.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, Self

MISTAKE, USER, DIVERGED, PIPE = 1, 2, 3, 141


NOT_FINITE = re.compile(r"\b(nans?|infs?|infinit[ey]|not finite|did not converge)\b", re.IGNORECASE)
"""Words in the messages of errors that a NaN causes, in tinygen and in `numpy.linalg`."""


class Ended(Exception):
    """The end of an example: the line that says why, and its exit code."""

    def __init__(self, code: int, line: str) -> None:
        super().__init__(line)
        self.code = code


def end_by_signal(number: int, where: str = "") -> Ended:
    """The end of a run that signal `number` stops."""
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    return Ended(128 + number, f"stopped{by}{where}")


SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU")  # each would kill


class Stop:
    """A context in which a signal that would end the program sets `asked` instead, so that the loop can end
    between two steps. A second Ctrl-C raises KeyboardInterrupt at once; other signals may be repeated."""

    def __init__(self) -> None:
        self.asked: Ended | None = None

    def __enter__(self) -> Self:
        numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
        hup = getattr(signal, "SIGHUP", None)  # `nohup` ignores it, and so do we
        numbers = [n for n in numbers if n != hup or signal.getsignal(n) != signal.SIG_IGN]
        self.before = {number: signal.signal(number, self.ask) for number in numbers}
        return self

    def ask(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = self.asked or end_by_signal(number)

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def ending(error: BaseException) -> Ended | None:
    """How an example ends with this error. None for a mistake in the program, which keeps its traceback."""
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


def finish(end: Ended, notes: list[str], abort: Callable[[int], Any] | None = None) -> NoReturn:
    """Print the line, and exit with the code. With `abort` there are other processes, which it ends."""
    line = "; ".join([str(end), *notes])
    with contextlib.suppress(OSError):  # nobody may read stderr any more
        print(f"{os.path.basename(sys.argv[0])}: {' '.join(line.split())}", file=sys.stderr, flush=True)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except OSError:  # else Python reports an error at exit: send the rest of the output to nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    if abort is not None:
        abort(end.code)
    raise SystemExit(end.code)


def prepare_console() -> None:
    """Set up stdout and stderr. A character that the console cannot show is printed as its code. Output is
    flushed after every line, also in a pipe. A closed console is replaced, so that no file of the run gets
    its file descriptor."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (until the end)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)


def start(parse_args: Callable[[], Any], main: Callable[[Any], None]) -> None:
    """Run an example: read its flags, then call `main` with them; with --full, once for each of three
    seeds. Every end prints one line. Several processes (shared/together.py) end together."""
    prepare_console()
    comm: Any = None
    try:
        from shared.together import (  # only now: see above
            Follower,
            be_quiet,
            in_turn,
            leave_together,
            processes,
        )

        comm = processes()
        be_quiet(comm)
        args = in_turn(parse_args, comm)
        if getattr(args, "size", None) == "full" and "seed" in args:
            from shared.full import run_seeds

            run_seeds(main, args)
        else:
            with contextlib.suppress(Follower):
                main(args)
        sys.stdout.flush()
        leave_together(comm)
    except BaseException as error:
        end = ending(error)
        if end is None:
            raise
        end_all: Callable[[int], Any] | None = None
        if comm is not None:
            from tinygen.parallel.communicator import abort

            end_all = partial(abort, comm)
        finish(end, getattr(error, "__notes__", []), end_all)


def last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The hook for errors outside of `start`: Ctrl-C gives one line there too."""
    if issubclass(kind, KeyboardInterrupt):
        finish(end_by_signal(signal.SIGINT), [])
    sys.__excepthook__(kind, error, trace)


sys.excepthook = last_words

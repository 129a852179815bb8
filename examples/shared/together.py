"""An example in several processes:

    mpiexec -n 4 python -m mpi4py examples/gpt_text.py

No flag says so: `processes` finds it out. Every process computes the loss of its rows of each batch
(`Run.share`, `Run.backward`), and has the same weights after each step. Process 0 prints, writes the metrics,
the checkpoints and the model, and does alone what comes after the training; the others follow it until there.
"""

from __future__ import annotations

from shared.endings import USER, Ended

import math
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from tinygen.parallel import Communicator, gather, wait, world


class Follower(Ended):
    """The end of a process that is not the first: it has nothing to say and nothing to write."""

    def __init__(self) -> None:
        super().__init__(0, "process 0 does the rest")


@cache
def processes() -> Communicator | None:
    """The communicator of all processes; None if there is one. One line if mpi4py is missing."""
    try:
        return world()
    except RuntimeError as error:
        raise Ended(USER, f"error: {error}") from None


def in_turn(function: Callable[[], Any], comm: Communicator | None) -> Any:
    """The result of `function`, which process 0 calls first: its error ends all, and is printed once."""
    for rank in range(1 if comm is None else comm.size):
        if comm is None or comm.rank == rank:
            result = function()
        gather(None, comm)
    return result


def is_follower() -> bool:
    comm = processes()
    return comm is not None and comm.rank > 0


def be_quiet(comm: Communicator | None) -> None:
    """Only process 0 prints; errors of the others still go to stderr."""
    if comm is not None and comm.rank:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until the end)


def leave_together(comm: Communicator | None) -> None:
    """Wait for process 0, which evaluates and draws, as long as that takes."""
    if comm is not None:
        wait(comm.Ibarrier(), comm, "the end", limit=math.inf)

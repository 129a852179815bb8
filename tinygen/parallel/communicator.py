"""The processes of a program: found, and waited for.

`mpiexec -n 4 python -m mpi4py train.py` starts the program four times. Each process has a rank, 0 to 3, and a
communicator, through which arrays go. It is mpi4py's `MPI.COMM_WORLD`; or anything with the same few methods,
`Communicator`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np

from tinygen.arrays import to_device
from tinygen.types import Array

T = TypeVar("T")


class Request(Protocol):
    """A message on its way."""

    def Test(self) -> bool:
        """Whether it has arrived. To ask also moves the message on."""


class Communicator(Protocol):
    """What is used of a communicator of mpi4py's. Methods with a capital letter send the memory of an array;
    the others send any object."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0 on."""

    @property
    def size(self) -> int:
        """The number of processes."""

    def Iallreduce(self, sendbuf: Any, recvbuf: Any) -> Request:
        """Start a sum of arrays over all processes. With None for `sendbuf`, in place."""

    def Ibarrier(self) -> Request:
        """Complete when all processes have called it."""

    def Bcast(self, buf: Any, root: int = 0) -> None:
        """Send the array of process `root` to all."""

    def allgather(self, sendobj: Any) -> list[Any]:
        """The objects of all processes, in the order of their ranks."""

    def isend(self, obj: Any, dest: int, tag: int = 0) -> Any:
        """Start to send an object to one process."""

    def iprobe(self, source: int = -2, tag: int = -1) -> bool:
        """Whether a message is there."""

    def recv(self, buf: Any = None, source: int = -2, tag: int = -1) -> Any:
        """Receive an object."""

    def Abort(self, errorcode: int = 0) -> Any:
        """End all processes."""


# -- the world -------------------------------------------------------------------------------------

LAUNCHERS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS")
"""Variables in which the launchers of MPICH, Open MPI and others tell the number of processes."""


def launched() -> int:
    """The number of processes that `mpiexec` has started together with this one; 1 without it."""
    sizes = [os.environ.get(name, "") for name in LAUNCHERS]
    return max([int(size) for size in sizes if size.isdecimal()], default=1)


def world() -> Communicator | None:
    """The communicator of all processes, or None if this process is alone.

    From then on, an error that nobody catches ends all processes, after its traceback and the rank are
    printed. Raises RuntimeError if there are several processes, but no mpi4py."""
    if launched() == 1:
        return None
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise RuntimeError(
            f'{launched()} processes need mpi4py: pip install "tinygen[mpi]"; or start one, without mpiexec'
        ) from error
    comm: Communicator = MPI.COMM_WORLD
    if comm.size == 1:
        return None
    sys.excepthook = end_all(comm, sys.excepthook)
    return comm


def end_all(comm: Communicator, hook: Callable[..., Any]) -> Callable[..., None]:
    """An `excepthook` that ends all processes after `hook` has printed the error: without it, the others
    would wait for this process forever."""
    if getattr(hook, "ends_all", False):
        return hook

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        try:
            hook(kind, error, trace)
            print(f"in process {comm.rank} of {comm.size}", file=sys.stderr, flush=True)
        except SystemExit as end:
            abort(comm, end.code if isinstance(end.code, int) else 1)
        abort(comm, 1)

    report.ends_all = True  # type: ignore[attr-defined]
    return report


def abort(comm: Communicator, code: int) -> None:
    """End all processes with this exit code. mpiexec would drop the lines that it has not passed on yet, so
    it gets a second for them."""
    time.sleep(1)
    comm.Abort(code)


# -- waiting ---------------------------------------------------------------------------------------

PATIENCE = 600.0
"""Seconds that a process waits for the others, unless TINYGEN_PATIENCE says another number."""

ASK, ANSWER = 7001, 7002  # tags


class Hang(RuntimeError):
    """Some processes do not come to the point where the others wait."""


def patience() -> float:
    return float(os.environ.get("TINYGEN_PATIENCE", PATIENCE))


def wait(
    request: Request, comm: Communicator, what: str = "a sum of gradients", limit: float | None = None
) -> None:
    """Wait until the message has arrived. Raises Hang, which names the processes that do not come, when that
    takes longer than `limit` seconds, or `patience()`.

    It asks again and again, and sleeps in between, longer and longer up to a millisecond: with more processes
    than cores, a process that only asks would take the time of one that computes."""
    began, pause, limit = time.monotonic(), 0.0, patience() if limit is None else limit
    while not request.Test():
        time.sleep(pause)
        pause = min(pause + 2e-5, 1e-3)
        answer_questions(comm)
        if time.monotonic() - began > limit:
            raise Hang(hang_message(request, comm, what, limit))


def answer_questions(comm: Communicator) -> None:
    """Tell each process that asks that this one is waiting, too."""
    while comm.iprobe(tag=ASK):
        comm.isend(comm.rank, comm.recv(tag=ASK), ANSWER)


def hang_message(request: Request, comm: Communicator, what: str, limit: float) -> str:
    """Ask all processes whether they wait here as well. Those that give no answer within a second are the
    ones that all wait for."""
    others = [rank for rank in range(comm.size) if rank != comm.rank]
    questions = [comm.isend(comm.rank, rank, ASK) for rank in others]
    here, until = {comm.rank}, time.monotonic() + 1
    while time.monotonic() < until:
        answer_questions(comm)
        while comm.iprobe(tag=ANSWER):
            here.add(comm.recv(tag=ANSWER))
        for question in questions:
            question.Test()
        time.sleep(1e-3)
    missing = sorted(set(range(comm.size)) - here)
    if not missing:
        return f"after {limit:g} s {what} has not arrived, but all {comm.size} processes wait for it"
    return (
        f"process {', '.join(map(str, missing))} of {comm.size} has not come to {what} for {limit:g} s; "
        f"process {', '.join(map(str, sorted(here)))} waits there (TINYGEN_PATIENCE sets the seconds)"
    )


# -- what goes around ------------------------------------------------------------------------------


def sum_over_processes(x: Array, comm: Communicator) -> Array:
    """The sum of an array, or of a NumPy number, over all processes, which all get with the same bits.
    Raises TypeError for a Tensor: there are no gradients of gradients through it."""
    if hasattr(x, "requires_grad"):
        raise TypeError("a sum over processes takes arrays: no gradients of gradients go through it")
    on_gpu = not isinstance(x, np.ndarray | np.generic)
    through_host = on_gpu and not getattr(comm, "on_device", False)
    given = to_device(x, "cpu") if through_host else x
    total: Array = given.copy() if on_gpu and not through_host else np.array(given, order="C", ndmin=1)
    wait(comm.Iallreduce(None, total), comm, "a sum over the batch")
    total = total.reshape(np.shape(x))
    return to_device(total, "cuda") if through_host else total


def gather(value: Any, comm: Communicator | None) -> list[Any]:
    """The values of all processes, in the order of their ranks: any objects that can be pickled."""
    if comm is None:
        return [value]
    wait(comm.Ibarrier(), comm, "a gathering")
    return comm.allgather(value)


def from_first(make: Callable[[], T], comm: Communicator | None) -> T:
    """What `make()` returns in process 0, in all processes. Only process 0 calls it."""
    if comm is None:
        return make()
    made: T = gather(make() if comm.rank == 0 else None, comm)[0]
    return made

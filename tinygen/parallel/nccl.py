"""Processes with a GPU each: sums of arrays on GPUs go from GPU to GPU by NCCL, through `cupyx.distributed`.

Without it, `average_gradients` copies each bucket to the CPU, and MPI adds it there.
"""

from __future__ import annotations

from typing import Any

from tinygen.arrays import device_of
from tinygen.parallel.communicator import Communicator, Request
from tinygen.types import Array


class NCCL:
    """A communicator that adds arrays on GPUs by NCCL, and does all else by MPI's communicator `comm`.

    Process k uses GPU k mod n of the n GPUs of its machine. Make it before the model goes to the GPU. Sums
    have a stream of their own, so that the backward pass goes on beside them. RuntimeError without CuPy or
    GPU.

    It is tested on arrays that stand in for those of a GPU, and has never run on two GPUs."""

    on_device = True

    def __init__(self, comm: Communicator) -> None:
        try:
            import cupy
            from cupyx.distributed import init_process_group
        except ImportError as error:
            raise RuntimeError('NCCL needs CuPy: pip install "tinygen[cuda13]", or [cuda12]') from error
        if not cupy.cuda.is_available():
            raise RuntimeError("NCCL needs a GPU for each process, and here is none: average through MPI")
        cupy.cuda.Device(comm.rank % cupy.cuda.runtime.getDeviceCount()).use()
        self.comm, self.cuda = comm, cupy.cuda
        self.group = init_process_group(comm.size, comm.rank, use_mpi=True)
        self.stream = cupy.cuda.Stream(non_blocking=True)

    def Iallreduce(self, sendbuf: None, recvbuf: Array) -> Request:
        """Start the sum of an array in place: on its stream, when the array is complete on the stream of the
        backward pass."""
        if device_of(recvbuf) == "cpu":
            return self.comm.Iallreduce(sendbuf, recvbuf)
        self.stream.wait_event(self.cuda.get_current_stream().record())
        self.group.all_reduce(recvbuf, recvbuf, "sum", self.stream)
        return Recorded(self.stream.record())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.comm, name)


class Recorded:
    """A sum on a stream; it has arrived when the GPU has passed `event`."""

    def __init__(self, event: Any) -> None:
        self.event = event

    def Test(self) -> bool:
        """Whether the GPU has come so far."""
        return bool(self.event.done)

"""Data-parallel training: every process has all parameters and some rows of the batch, and the gradients are
added over all processes before the optimizer's step (Li et al. 2020, arXiv:2006.15704, section 3).

    comm = world()                                     # None if there is one process
    broadcast(model, comm)                             # the start of process 0
    for step in range(steps):
        x, y = random_batch(text, 64, 12, rng)         # the whole batch, the same in all processes
        with share(len(x), comm) as rows:              # from here on: the rows of this process
            loss = model(x[rows], y[rows])[1]
            optimizer.zero_grad()
            with average_gradients(model.parameters(), comm):
                loss.backward()
        optimizer.step()                               # the same step in all processes

The loss of the batch is L = Σ_k s_k L_k with the shares s_k = n_k / n; so its gradient is Σ_k s_k ∂L_k. Every
process begins its backward pass with s_k instead of 1, and the results are added.

The sum travels while the backward pass goes on. The gradients of the last layers are complete first. They
fill a bucket, an array of about a megabyte: sums of many small arrays would each cost the latency of the
network, and one sum of all gradients could start only at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

import numpy as np

from tinygen.arrays import device_of, to_device
from tinygen.backward import Watch
from tinygen.modes import switch
from tinygen.parallel.communicator import Communicator, Request, gather, sum_over_processes, wait
from tinygen.rows import ROWS, Rows
from tinygen.tensor import Array, Tensor

BUCKET = 1 << 20
"""The bytes of a bucket: docs/parallel.md has measurements."""


def own_rows(n: int, rank: int, size: int) -> slice:
    """The rows of process `rank` when n rows are dealt out to `size` processes in order, as equally as
    possible: the first n mod size processes have one more. ValueError when there are fewer rows than
    processes."""
    if n < size:
        raise ValueError(f"a batch of {n} rows cannot be dealt out to {size} processes: take a larger batch")
    least, more = divmod(n, size)
    start = rank * least + min(rank, more)
    return slice(start, start + least + (rank < more))


@contextmanager
def share(n: int, comm: Communicator | None) -> Iterator[slice]:
    """`with share(len(batch), comm) as rows:` the loss and the backward pass of batch[rows], the rows of this
    process. Inside, means, statistics and counts are of the whole batch, and generators draw for the whole
    batch and keep these rows (`tinygen/rows.py`)."""
    if comm is None:
        yield slice(0, n)
        return
    rows = own_rows(n, comm.rank, comm.size)
    add, collect = (lambda x: sum_over_processes(x, comm)), (lambda x: gather(x, comm))
    token = ROWS.set(Rows(rows.start, rows.stop, n, add, collect))
    try:
        yield rows
    finally:
        ROWS.reset(token)


def batch_loss(loss: float, comm: Communicator | None) -> float:
    """The loss of the whole batch from the losses of all processes, within `share`."""
    rows = ROWS.get()
    if comm is None or rows is None:
        return loss
    return float(sum_over_processes(np.float64(rows.share * loss), comm))


# -- buckets ---------------------------------------------------------------------------------------


class Bucket:
    """Some parameters, whose gradients travel together. `flat` holds the gradients, and one more number for
    each parameter: how many processes have a gradient of it."""

    def __init__(self, params: Sequence[Tensor]) -> None:
        self.params = params
        ends = list(accumulate(p.size for p in params))
        self.places = {p: slice(end - p.size, end) for p, end in zip(params, ends, strict=True)}
        self.counts = {p: ends[-1] + i for i, p in enumerate(params)}
        self.flat: Array = None
        self.filled: set[Tensor] = set()

    def fill(self, p: Tensor, g: Array | None) -> None:
        """Put the gradient of `p` into its place; None for a parameter without one."""
        if self.flat is None:
            self.flat = np.zeros_like(p._data, shape=(self.places[self.params[-1]].stop + len(self.params),))
        if g is not None:
            self.flat[self.places[p]] = g.reshape(-1)
            self.flat[self.counts[p]] = 1
        self.filled.add(p)

    def empty(self) -> None:
        """Write the sums into `.grad`; None where no process has a gradient."""
        counts = to_device(self.flat[-len(self.params) :], "cpu")
        for p, count in zip(self.params, counts, strict=True):
            total = self.flat[self.places[p]].reshape(p.shape)
            if not count:
                p.grad = None
            elif p.grad is None:
                p.grad = total.copy()
            else:
                p.grad[...] = total
        self.flat = None


def in_buckets(params: Iterable[Tensor], size: int) -> list[Bucket]:
    """The parameters from the last to the first, as backward completes them; each bucket has one dtype, and
    is closed when it has `size` bytes."""
    groups: list[list[Tensor]] = []
    bytes_there = size
    for p in reversed([p for p in params if p.requires_grad]):
        if bytes_there >= size or p.dtype != groups[-1][0].dtype:
            groups.append([])
            bytes_there = 0
        groups[-1].append(p)
        bytes_there += p.size * p.dtype.itemsize
    return [Bucket(group) for group in groups]


class Sums(Watch):
    """Sends a bucket off as soon as it is full, and those before it are on their way. So the order is the
    same in all processes, as MPI asks for, even where they do not use the same parameters."""

    def __init__(self, params: Iterable[Tensor], comm: Communicator, share: float, bucket: int) -> None:
        self.comm, self.share = comm, share
        self.buckets = in_buckets(params, bucket)
        self.home = {p: bucket for bucket in self.buckets for p in bucket.params}
        self.sent: list[tuple[Bucket, Array, Request]] = []

    def complete(self, leaf: Tensor, g: Array) -> None:
        """The gradient of a leaf is complete: with what `.grad` has from before, it goes into its bucket."""
        bucket = self.home.get(leaf)
        if bucket is not None:
            bucket.fill(leaf, g if leaf.grad is None else leaf.grad + g)
            self.send()

    def send(self) -> None:
        """Send the buckets that are full, in their order; and ask after those that are on their way, since
        MPI moves them only when it is called."""
        for bucket in self.buckets[len(self.sent) :]:
            if len(bucket.filled) < len(bucket.params):
                break
            message = to_device(bucket.flat, "cpu") if self.through_host(bucket.flat) else bucket.flat
            self.sent.append((bucket, message, self.comm.Iallreduce(None, message)))
        for _, _, request in self.sent[-2:]:
            request.Test()

    def through_host(self, flat: Array) -> bool:
        """Whether a bucket on a GPU is copied to the CPU for the sum: NCCL takes it as it is."""
        return device_of(flat) == "cuda" and not getattr(self.comm, "on_device", False)

    def finish(self) -> None:
        """Send the rest, wait for all, and write the sums into `.grad`."""
        for bucket in self.buckets:
            for p in bucket.params:
                if p not in bucket.filled:
                    bucket.fill(p, p.grad)
        self.send()
        for bucket, message, request in self.sent:
            wait(request, self.comm)
            if message is not bucket.flat:
                bucket.flat[...] = to_device(message, "cuda")
            bucket.empty()


@contextmanager
def average_gradients(
    parameters: Iterable[Tensor], comm: Communicator | None, bucket: int = BUCKET
) -> Iterator[None]:
    """`with average_gradients(model.parameters(), comm): loss.backward()`. Afterwards `.grad` is the gradient
    of L = Σ_k s_k L_k, where L_k is the loss of process k, with the same bits in all processes. Within
    `share`, s_k is its share of the rows; otherwise all shares are equal.

    One backward pass belongs into the block. With gradient accumulation it is the last one: what earlier
    passes have left in `.grad`, of losses multiplied by s_k, is part of the sum. `bucket` is the number of
    bytes that are sent together. With `comm=None` nothing is done.

    Eq.: ∂L = Σ_k (n_k / n) ∂L_k  (Li et al. 2020, section 3.1, for unequal parts)
    Held by: tests/parallel/test_threads.py::test_in_threads
    """
    if comm is None:
        yield
        return
    rows = ROWS.get()
    sums = Sums(parameters, comm, 1 / comm.size if rows is None else rows.share, bucket)
    with switch(watch=sums):
        yield
    sums.finish()

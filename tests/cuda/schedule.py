"""A block of Numba's simulator whose threads run in a given order.

Numba's simulator runs them as Python threads, which the operating system mixes, so that a missing barrier
shows only sometimes. Here one thread at a time runs up to its next barrier, then the next thread in the
given order. If a barrier is missing, a thread always reads values that other threads have not written yet,
or overwrites values that they still have to read. Shared and local memory is filled with NaN first. A
barrier that some threads never reach is an error.

This file uses internals of Numba's simulator (of 0.61 to 0.68); `test_schedule.py` fails if they have
changed.
"""

import contextlib
import sys
import threading

import numpy as np
import pytest
from numba.cuda.simulator import kernel as simulator
from numba.cuda.simulator import kernelapi
from numba.np.numpy_support import as_dtype

ORDERS = {
    "up": lambda threads, step: threads,
    "down": lambda threads, step: threads[::-1],
    "shuffled": lambda threads, step: [
        threads[i] for i in np.random.default_rng(step).permutation(len(threads))
    ],
}


class Thread(simulator.BlockThread):
    def __init__(self, *args):
        super().__init__(*args)
        self.go = threading.Semaphore(0)
        self.done = False
        self.error = None

    def run(self):
        self.go.acquire()
        if not self.abort:
            try:
                threading.Thread.run(self)
            except Exception as error:
                self.error = error
        self.done = True
        self._manager.back.release()

    def syncthreads(self):
        self._manager.back.release()
        self.go.acquire()
        if self.abort:
            raise RuntimeError("another thread of the block has failed")


def manager(order):
    class Manager(simulator.BlockManager):
        def __init__(self, *args):
            super().__init__(*args)
            self.back = threading.Semaphore(0)

        def run(self, grid_point, *args):
            points = np.ndindex(*self._block_dim)
            threads = [Thread(lambda: self._f(*args), self, grid_point, p, self._debug) for p in points]
            for thread in threads:
                thread.start()
            simulator._get_kernel_context().shared._allocations.clear()  # each block has its own
            step = 0
            try:
                while not all(thread.done for thread in threads):
                    for thread in order(threads, step):
                        thread.go.release()
                        self.back.acquire()
                        if thread.error is not None:
                            raise thread.error
                    if len({thread.done for thread in threads}) > 1:
                        raise RuntimeError("some threads of the block wait at a barrier, others have ended")
                    step += 1
            finally:
                for thread in threads:
                    thread.abort = True
                    thread.go.release()

    return Manager


class Shared(kernelapi.FakeCUDAShared):
    """One array for all threads of a block that allocate at the same place in the source."""

    def array(self, shape, dtype):
        caller = sys._getframe(1)
        place = caller.f_code, caller.f_lineno
        if place not in self._allocations:
            self._allocations[place] = full_of_nan(np.empty(shape, as_dtype(dtype)))
        return self._allocations[place]


class Local(kernelapi.FakeCUDALocal):
    def array(self, shape, dtype):
        return full_of_nan(np.empty(shape, as_dtype(dtype)))


def full_of_nan(array):
    if array.dtype.kind == "f":
        array[...] = np.nan
    return array


@contextlib.contextmanager
def scheduled(name):
    """Simulated blocks run in the order of this name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulator, "BlockManager", manager(ORDERS[name]))
        patch.setattr(kernelapi, "FakeCUDAShared", Shared)
        patch.setattr(kernelapi, "FakeCUDALocal", Local)
        yield

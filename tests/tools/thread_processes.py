"""Threads of this process as the processes of a parallel program, with the methods of `Communicator`. So its
logic is tested without MPI.

A sum is complete when all threads have begun it; the numbers are added in the order of the ranks."""

import copy
import threading
import time
from contextvars import Context


class Message:
    def __init__(self, ready, take=lambda: None):
        self.ready, self.take, self.done = ready, take, False

    def Test(self):
        if not self.done and self.ready():
            self.take()
            self.done = True
        return self.done


class ThreadCommunicator:
    def __init__(self, rank, size, board):
        self.rank, self.size, self.board, self.calls = rank, size, board, 0
        self.aborted = None

    def post(self, value):
        """Lay a value down for the next collective call. Returns its number."""
        self.calls += 1
        with self.board["lock"]:
            self.board.setdefault(self.calls, {})[self.rank] = value
        return self.calls

    def all_there(self, call):
        if self.board.get("failed"):
            raise RuntimeError("another process has failed")
        return len(self.board[call]) == self.size

    def Iallreduce(self, sendbuf, recvbuf):
        assert sendbuf is None
        assert recvbuf.flags.c_contiguous
        call = self.post(recvbuf.copy())

        def take():
            values = [self.board[call][rank] for rank in range(self.size)]
            assert len({(v.shape, v.dtype) for v in values}) == 1
            recvbuf[...] = sum(values[1:], start=values[0])

        return Message(lambda: self.all_there(call), take)

    def Ibarrier(self):
        call = self.post("barrier")
        return Message(lambda: self.all_there(call))

    def collect(self, value):
        call = self.post(value)
        while not self.all_there(call):
            time.sleep(1e-4)
        return [self.board[call][rank] for rank in range(self.size)]

    def Bcast(self, buf, root=0):
        buf[...] = self.collect(buf.copy())[root]

    def allgather(self, sendobj):
        return copy.deepcopy(self.collect(copy.deepcopy(sendobj)))

    def isend(self, obj, dest, tag=0):
        with self.board["lock"]:
            self.board["mail"].setdefault((dest, tag), []).append(obj)
        return Message(lambda: True)

    def iprobe(self, source=None, tag=0):
        return bool(self.board["mail"].get((self.rank, tag)))

    def recv(self, buf=None, source=None, tag=0):
        with self.board["lock"]:
            return self.board["mail"][self.rank, tag].pop(0)

    def Abort(self, errorcode=0):
        self.aborted = errorcode


def run_processes(size, program, timeout=60):
    """`program(comm)` in `size` threads. Returns what they return; raises the first error."""
    board = {"lock": threading.Lock(), "mail": {}}
    results, errors = [None] * size, []

    def work(rank):
        try:
            results[rank] = Context().run(program, ThreadCommunicator(rank, size, board))
        except BaseException as error:
            errors.append(error)
            board["failed"] = True

    threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads)
    return results

"""Processes that are threads of this one, and exchange messages by queues: the calls of mpi4py's communicator
that pages use. A message is copied when it is sent, as MPI does."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from queue import Queue

SECONDS = 3  # after which a message that does not come is an error


class Communicator:
    """What one of the processes knows: its rank, their number, and how to reach the others."""

    def __init__(self, rank, mail):
        self.rank, self.size, self.mail = rank, len(mail), mail

    def send(self, x, dest):
        self.mail[self.rank][dest].put(deepcopy(x))

    def recv(self, source):
        return self.mail[source][self.rank].get(timeout=SECONDS)

    def sendrecv(self, x, dest, source):
        self.send(x, dest)
        return self.recv(source)


def run_processes(size, work, communicator=Communicator):
    """Runs `work(comm)` in `size` threads. Returns their results, in the order of the ranks."""
    mail = [[Queue() for _ in range(size)] for _ in range(size)]
    with ThreadPoolExecutor(size) as pool:
        results = list(pool.map(work, [communicator(rank, mail) for rank in range(size)]))
    assert all(queue.empty() for row in mail for queue in row), "a message that nobody has received"
    return results

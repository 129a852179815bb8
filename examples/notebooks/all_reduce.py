"""Three processes learn a linear map together. Here they are threads, with queues for their messages."""

from concurrent.futures import ThreadPoolExecutor
from queue import Queue

import numpy as np
from pages.adamw import AdamW
from pages.all_reduce import init, ring_all_reduce, train_step, tree_all_reduce


class Threads:
    """What one process knows: its rank, their number, and how to reach the others."""

    def __init__(self, rank, mail):
        self.rank, self.size, self.mail = rank, len(mail), mail

    def send(self, x, dest):
        self.mail[self.rank][dest].put(x.copy())

    def recv(self, source):
        return self.mail[source][self.rank].get(timeout=5)

    def sendrecv(self, x, dest, source):
        self.send(x, dest)
        return self.recv(source)


# Of 16 rows, the processes have 6, 5 and 5.
rng = np.random.default_rng(0)
x, truth = rng.standard_normal((16, 4)), rng.standard_normal((4, 2))
rows = np.array_split(np.arange(16), 3)


def process(comm):
    """Its losses, and its parameters at the end: by ring and by tree, in turns."""
    params, mine = init(4, 2, np.random.default_rng(1)), rows[comm.rank]
    update, ways = AdamW(params, alpha=0.1).update, (ring_all_reduce, tree_all_reduce)
    losses = [train_step(params, x[mine], x[mine] @ truth, comm, update, ways[i % 2]) for i in range(81)]
    return losses, params


# All have the same losses and the same parameters, to the last bit.
mail = [[Queue() for _ in range(3)] for _ in range(3)]
with ThreadPoolExecutor(3) as pool:
    found = list(pool.map(process, [Threads(rank, mail) for rank in range(3)]))
print("loss:", *(f"{x:.5f}" for x in found[0][0][::20]))
assert all(losses == found[0][0] for losses, _ in found)
assert all(np.array_equal(params["W"], found[0][1]["W"]) for _, params in found)

# **Try this.** Count the messages and their bytes in `send`, for ring and tree: are they what the page
# says? Let one process start from other parameters: what does it learn?

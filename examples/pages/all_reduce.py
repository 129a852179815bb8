"""All-reduce on one page: data-parallel training (Sergeev & Del Balso 2018, arXiv:1802.05799; Hockney 1994).

Each of P processes has its own rows of the batch, hence its own gradient g_p. Before each step, an all-reduce
gives the sum to every process. Processes only send and receive; a message of n bytes takes α + βn seconds:

    g = Σ_p g_p                                                                 by messages alone
    ring:  2 (P - 1) steps with n/P bytes each, so 2 (P - 1) (α + βn/P)         Patarasuk & Yuan 2009
    tree:  2 ⌈log₂ P⌉ steps with n bytes each,  so 2 ⌈log₂ P⌉ (α + βn)          Thakur et al. 2005

The ring sends the fewest bytes, the tree has the fewest steps. All processes run this code. `comm` says which
of them this is (`comm.rank`) and how many there are (`comm.size`), as mpi4py's MPI.COMM_WORLD does.
Letters in shapes: N numbers to add, B rows of this process, D inputs, C outputs.
"""

import numpy as np


def ring_all_reduce(x, comm):
    """The sum over all processes of their x (N,). Each process sends to its right neighbor alone."""
    P, p = comm.size, comm.rank
    left, right = (p - 1) % P, (p + 1) % P
    total = x.copy()  # (N,)
    chunks = np.array_split(total, P)  # P views into `total`
    for i in range(p, p - P + 1, -1):  # reduce-scatter: each chunk goes around the ring, and grows
        chunks[(i - 1) % P] += comm.sendrecv(chunks[i % P], dest=right, source=left)  # (...)
    for i in range(p, p - P + 1, -1):  # all-gather: each complete chunk goes around the ring
        chunks[i % P][:] = comm.sendrecv(chunks[(i + 1) % P], dest=right, source=left)  # (...)
    return total


def tree_all_reduce(x, comm):
    """The sum over all processes of their x (N,): up a binomial tree to process 0, and down again."""
    P, p = comm.size, comm.rank
    total = x.copy()  # (N,)
    distances = [2**level for level in range((P - 1).bit_length())]  # 1, 2, 4, ... < P
    for d in distances:  # reduce: every second process that is left sends its sum, and has no more to send
        if p % (2 * d) == d:
            comm.send(total, dest=p - d)
        elif p % (2 * d) == 0 and p + d < P:
            total += comm.recv(source=p + d)  # (N,)
    for d in reversed(distances):  # broadcast: the same messages in the opposite direction
        if p % (2 * d) == d:
            total = comm.recv(source=p - d)  # (N,)
        elif p % (2 * d) == 0 and p + d < P:
            comm.send(total, dest=p + d)
    return total


def init(D, C, rng):
    """A linear map. All processes draw the same, from generators with the same seed."""
    return {
        "W": rng.standard_normal((D, C)) / np.sqrt(D),  # (D, C)
        "b": np.zeros(C),  # (C,)
    }


def loss_and_grads(params, x, y):
    """½|xW + b - y|², the sum over the rows of x (B, D) and y (B, C), and its gradients."""
    e = x @ params["W"] + params["b"] - y  # (B, C)
    return 0.5 * np.sum(e**2), {"W": x.T @ e, "b": e.sum(axis=0)}  # ()


def train_step(params, x, y, comm, update, all_reduce=ring_all_reduce):
    """One step of all processes. This one has the rows x (B, D) and y (B, C); others may have more, or fewer.
    Returns the mean loss of all rows."""
    loss, grads = loss_and_grads(params, x, y)  # ()
    bucket = np.concatenate([[loss, len(x)], *[g.ravel() for g in grads.values()]])  # (N,): one message
    total = all_reduce(bucket, comm)  # (N,)
    means = np.split(total[2:] / total[1], np.cumsum([g.size for g in grads.values()])[:-1])
    update(params, {name: g.reshape(params[name].shape) for name, g in zip(grads, means, strict=True)})
    return float(total[0] / total[1])

"""Several processes train one model, by MPI: gradients averaged during the backward pass, one start, one
order of the data, and an optimizer whose state is divided (ZeRO). See `gradients.py` for a loop."""

from tinygen.parallel.communicator import (
    Communicator,
    Hang,
    from_first,
    gather,
    sum_over_processes,
    wait,
    world,
)
from tinygen.parallel.gradients import average_gradients, batch_loss, own_rows, share
from tinygen.parallel.nccl import NCCL
from tinygen.parallel.state import Epochs, broadcast, fingerprint, require_same
from tinygen.parallel.zero import ShardedOptimizer

__all__ = [
    "NCCL",
    "Communicator",
    "Epochs",
    "Hang",
    "ShardedOptimizer",
    "average_gradients",
    "batch_loss",
    "broadcast",
    "fingerprint",
    "from_first",
    "gather",
    "own_rows",
    "require_same",
    "share",
    "sum_over_processes",
    "wait",
    "world",
]

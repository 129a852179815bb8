"""Processes with a GPU each, on arrays that stand in for those of a GPU: the sums go by NCCL, or by way of
the CPU. No machine with two GPUs has seen this."""

import sys
import threading
import types
from types import SimpleNamespace

import numpy as np
import pytest
from foreign import Foreign
from thread_processes import ThreadCommunicator, run_processes

from tinygen import nn, ops
from tinygen.parallel import NCCL, average_gradients, require_same, share


class Group:
    """In the place of `cupyx.distributed.NCCLBackend`: the sum by threads."""

    sums = 0

    def __init__(self, comm):
        self.comm = comm

    def all_reduce(self, in_array, out_array, op, stream):
        assert (in_array is out_array, op, stream.waited) == (True, "sum", "filled")
        request = self.comm.Iallreduce(None, out_array.inner)
        while not request.Test():
            pass
        Group.sums += 1


class Stream:
    waited = None

    def __init__(self, non_blocking):
        assert non_blocking

    def wait_event(self, event):
        self.waited = event

    def record(self):
        return SimpleNamespace(done=True)


@pytest.fixture
def cupy(monkeypatch):
    module, distributed = types.ModuleType("cupy"), types.ModuleType("cupyx.distributed")
    module.asarray = Foreign
    used = module.used = []
    module.cuda = SimpleNamespace(
        is_available=lambda: True,
        Device=lambda i: SimpleNamespace(use=lambda: used.append(i)),
        runtime=SimpleNamespace(getDeviceCount=lambda: 2),
        Stream=Stream,
        get_current_stream=lambda: SimpleNamespace(record=lambda: "filled"),
    )
    board = {}

    def init_process_group(size, rank, use_mpi):
        return Group(ThreadCommunicator(rank, size, board["nccl"]))

    distributed.init_process_group = init_process_group
    module.board = board
    for name, fake in (
        ("cupy", module),
        ("cupyx", types.ModuleType("cupyx")),
        ("cupyx.distributed", distributed),
    ):
        monkeypatch.setitem(sys.modules, name, fake)
    return module


def gradients(comm, by_nccl):
    if by_nccl:
        comm = NCCL(comm)
    layers = nn.Conv2d(1, 2, 3, rng=0), nn.BatchNorm(2), nn.Conv2d(2, 1, 1, rng=1)
    model = nn.Sequential(*layers).astype(np.float64)
    x = np.random.default_rng(0).standard_normal((5, 1, 6, 6))
    if comm is not None:
        model, x = model.to("cuda"), Foreign(x)
    with share(5, comm) as rows:
        loss = ops.mean(ops.softplus(model(x[rows])))
        with average_gradients(model.parameters(), comm, 64):
            loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    if comm is None:
        return grads
    assert all(isinstance(g, Foreign) for g in grads.values())
    grads = {name: g.get() for name, g in grads.items()}
    require_same(grads, comm)
    return grads


@pytest.mark.parametrize("by_nccl", [False, True], ids=["through the CPU", "NCCL"])
def test_gradients_on_several_gpus(cupy, by_nccl):
    cupy.board["nccl"] = {"lock": threading.Lock(), "mail": {}}
    Group.sums = 0
    expected = gradients(None, False)
    for found in run_processes(3, lambda comm: gradients(comm, by_nccl)):
        for name, g in expected.items():
            np.testing.assert_allclose(found[name], g, rtol=0, atol=1e-12)
    if by_nccl:
        assert sorted(cupy.used) == [0, 0, 1]
        assert Group.sums >= 3 * 4  # at least two buckets and the statistics of batch norm, in each process


def test_without_cupy_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match="NCCL needs CuPy"):
        NCCL(SimpleNamespace(rank=0, size=2))

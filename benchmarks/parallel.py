"""A training step of a GPT in two processes with one thread each, beside one process with one or two threads.

All take the same batch. The two processes divide its rows, and add their gradients by MPI: during the
backward pass (with buckets of several sizes), after it, or not at all, which shows the time of the sums.
Then only the sums, of several sizes: their times give the α and β of this machine for docs/parallel.md.

    python -m benchmarks parallel --rounds 5

"tinygen" is one process with two threads. "peak MB" is of all processes of a side together.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import gpt, gpt_baby, gpt_small
from benchmarks.paired import Comparison, Report, Worker
from benchmarks.worker import OURS, fingerprint, peak_memory

UNIT = "ms a step"
BESIDE: tuple[str, ...] = ()
PEERS: tuple[str, ...] = ()
MODES = False
ONLY = True  # it knows --only
SIZES = {"small": gpt_small.SIZE, "baby": gpt_baby.SIZE}
BUCKETS = {"64 kB": 1 << 16, "256 kB": 1 << 18, "1 MB": 1 << 20, "4 MB": 1 << 22, "all": 1 << 40}
TWO = "2 processes"
SUMS = {"8 B": 8, "64 kB": 1 << 16, "1 MB": 1 << 20, "4 MB": 1 << 22, "16 MB": 1 << 24, "64 MB": 1 << 26}


def steps(size: gpt.Size, comm: Any) -> dict[str, Callable[[], Any]]:
    """The cases of a side: what happens with the gradients, or how large a sum is."""
    from tinygen.optim import AdamW, decay_groups
    from tinygen.parallel import average_gradients, batch_loss, share, wait

    model = gpt.tinygen_model(size)
    optimizer = AdamW(decay_groups(model, gpt.DECAY), lr=gpt.LR, betas=gpt.BETAS, eps=gpt.EPS)
    parameters, data = list(model.parameters()), cycle(gpt.batches(size))

    def train(during: Any, after: Any, bucket: int = 1 << 20) -> Any:
        """A step, whose gradients are added over `during` during the backward pass, `after` after it."""
        x, y = next(data)
        with share(len(x), comm) as rows:
            _, loss = model(x[rows], y[rows])
            optimizer.zero_grad()
            with average_gradients(parameters, during, bucket):
                loss.backward()
            if after is not None:
                with average_gradients(parameters, after, bucket):
                    pass
            value = batch_loss(loss.item(), during)
        optimizer.step()
        return value

    def add(array: Any) -> None:
        wait(comm.Iallreduce(None, array), comm)

    if comm is None:
        return {"alone": lambda: train(None, None)}
    cases: dict[str, Callable[[], Any]] = {
        f"{TWO}, buckets of {name}": partial(train, comm, None, bucket) for name, bucket in BUCKETS.items()
    }
    cases |= {
        f"{TWO}, sums after backward": lambda: train(None, comm),
        f"{TWO}, without sums": lambda: train(None, None),
    }
    arrays = {name: np.zeros(n // 4, np.float32) for name, n in SUMS.items()}
    return cases | {f"a sum of {name}": partial(add, array) for name, array in arrays.items()}


# -- one side: the program of each process -----------------------------------------------------------


def requests(comm: Any) -> Iterator[Any]:
    """The parent's requests, which only process 0 reads."""
    from tinygen.parallel import from_first

    while line := from_first(sys.stdin.readline, comm):
        yield json.loads(line)


def serve(name: str) -> None:
    """Answer the parent's requests, as `worker.work` does; process 0 speaks for all."""
    from tinygen import __version__
    from tinygen.parallel import gather, world

    comm = world()
    cases = steps(SIZES[name], comm)

    def answer(**message: Any) -> None:
        if comm is None or comm.rank == 0:
            print(json.dumps(message), flush=True)

    answer(cases=list(cases), version=__version__)
    for request in requests(comm):
        step = cases[request["case"]]
        if request["warm"]:
            step()
        gather(None, comm)
        start = time.perf_counter()
        for _ in range(request["count"]):
            result = step()
        seconds = max(gather(time.perf_counter() - start, comm))
        memory = sum(gather(peak_memory(), comm))
        answer(seconds=seconds, memory=memory, result=fingerprint(result) if request["compare"] else None)


# -- the measurement ---------------------------------------------------------------------------------


def mpiexec() -> str | None:
    """The launcher of MPICH's wheel, which is beside Python, or of the system."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("mpiexec", path=beside) or shutil.which("mpiexec")


def start(name: str, processes: int, threads: int) -> Worker:
    """The processes of a side, which train the GPT of this size."""
    launch = [mpiexec() or "", "-n", str(processes)] if processes > 1 else []
    module = ["-m", "mpi4py"] if processes > 1 else []
    command = [*launch, sys.executable, *module, "-m", "benchmarks.parallel", name]
    return Worker("benchmarks.parallel", f"{processes} × {threads}", command, threads)


def measure(workload: str, sides: Sequence[str], rounds: int, seconds: float, only: str = "") -> Report:
    """The report: the sums alone, then each GPT whose case contains `only`, in all ways, which take
    turns."""
    if importlib.util.find_spec("mpi4py") is None or mpiexec() is None:
        return Report(UNIT, [], {}, {}, ["mpi4py with mpich"])
    found: list[Comparison] = []
    memory: dict[str, int] = {}
    for name, size in SIZES.items():
        if only not in str(size):
            continue
        workers = {
            OURS: start(name, 1, 2),
            "1 process, 1 thread": start(name, 1, 1),
            TWO: start(name, 2, 1),
        }
        try:
            times, memory = alternate_ways(workers, rounds, seconds)
            version = workers[OURS].version
        finally:
            for worker in workers.values():
                worker.close()
        sums = {way: times.pop(way) for way in list(times) if way.startswith("a sum")}
        if not found:
            found.append(Comparison.from_times(TWO, sums))
        found.append(Comparison.from_times(str(size), times))
    return Report(UNIT, found, memory, {OURS: version} if found else {}, [])


def alternate_ways(
    workers: dict[str, Worker], rounds: int, seconds: float
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """{way: milliseconds a step, round by round}, and {way: peak memory of its side, in the warm-up}. All
    that train must reach the same loss after two steps, or RuntimeError."""
    ways = {
        (side if len(worker.cases) == 1 else case): (worker, case)
        for side, worker in workers.items()
        for case in worker.cases
    }
    counts: dict[str, int] = {}
    memory: dict[str, int] = {}
    results: dict[str, list[list[float]]] = {}
    for way, (worker, case) in ways.items():
        worker.run(case, 2, compare=True)
        results.setdefault(worker.side, worker.result)
        memory[way] = worker.memory
        counts[way] = max(1, round(seconds / worker.run(case, 1, warm=False)))
    losses = [result[0][0] for result in results.values()]
    if max(losses) - min(losses) > 1e-3 * max(losses):
        raise RuntimeError(f"the losses after three steps are {losses}: not the same work")
    times: dict[str, list[float]] = {way: [] for way in ways}
    order = list(ways)
    for _ in range(rounds):
        for way in order:
            worker, case = ways[way]
            times[way].append(1e3 * worker.run(case, counts[way], warm=False))
        order = [*order[3:], *order[:3]]
    return times, memory


if __name__ == "__main__":
    serve(sys.argv[1])

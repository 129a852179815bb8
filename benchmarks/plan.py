"""The plan of docs/parallel.md: the model of `tinygen/parallel/cost.py` and `sizes.py` with the α and β of
real networks, for GPT-2 and GPT-3 on many machines.

    python -m benchmarks.plan                           # prints the tables
    python -m benchmarks.plan --into docs/parallel.md   # writes them there

Nothing is measured here; docs/parallel.md gives the source of each number. Those of this machine are from
`python -m benchmarks parallel` (2026-12-01).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinygen.parallel.cost import (
    Network,
    Step,
    all_gather,
    best_all_reduce,
    halving_all_reduce,
    pipeline_idle,
    reduce_scatter,
    ring_all_reduce,
    tree_all_reduce,
)
from tinygen.parallel.sizes import GPT2, GPT3, MIXED, SINGLE, Transformer, model_states

START, END = "<!-- plan: start -->", "<!-- plan: end -->"
SUMS_HERE = {8: 0.0709, 1 << 16: 0.328, 1 << 20: 0.434, 1 << 22: 0.848, 1 << 24: 4.35, 1 << 26: 17.18}
"""{bytes: milliseconds} of a sum over two processes of one machine."""


class Measured(NamedTuple):
    """Milliseconds a step of two processes with one thread each: without sums, with sums after the backward
    pass, and with sums during it, in buckets of 1 MB."""

    model: Transformer
    without: float
    after: float
    during: float


STEPS_HERE = (
    Measured(Transformer(4, 128, 4, 64, 65), 17.36, 20.87, 20.25),
    Measured(Transformer(6, 384, 6, 256, 65), 769.7, 797.7, 791.6),
)


def fitted(sums: dict[int, float]) -> Network:
    """α and β of a ring of two processes, in which a sum takes 2 α + β n (β has the adding in it): by least
    squares of the relative errors."""
    n, seconds = np.array(list(sums)), np.array(list(sums.values())) / 1e3
    latency, beta = np.linalg.lstsq(np.stack([1 / seconds, n / seconds], 1), np.ones(len(n)))[0]
    return Network(float(latency) / 2, float(beta))


HERE = fitted(SUMS_HERE)
ETHERNET_1 = Network(25e-6, 1 / 116e6)
ETHERNET_10 = Network(45e-6, 1 / 1.2e9)
INFINIBAND = Network(1.2e-6, 1 / 24e9)
INFINIBAND_GPU = Network(14e-6, 1 / 22.5e9)
NVLINK = Network(3.4e-6, 1 / 235e9)
NETWORKS = {
    "two processes, one machine": HERE,
    "Ethernet, 1 Gb/s": ETHERNET_1,
    "Ethernet, 10 Gb/s": ETHERNET_10,
    "InfiniBand, 200 Gb/s": INFINIBAND,
    "InfiniBand, 200 Gb/s a GPU": INFINIBAND_GPU,
    "NVLink in a node of 8 GPUs": NVLINK,
}
MACHINES = (8, 64, 1024)
TWO_CORES = 370e9  # operations a second of two cores: `python -m benchmarks parallel`, two processes
A100 = 91e12  # of an A100 with GPT-2, from nanoGPT's days
KERNELS = 187e12  # of an A100 in the products of GPT-3, 60 % of its peak
MEMORY = 80e9  # bytes of an A100
BATCH = 480  # nanoGPT's batch, in sequences

Table = list[list[str]]


def duration(seconds: float) -> str:
    """Three digits, in µs, ms or s."""
    for unit, scale in ("s", 1), ("ms", 1e3):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def gigabytes(n: float) -> str:
    return f"{n / 1e9:.3g}"


def networks() -> Table:
    rows = [["network", "α, µs", "1/β, GB/s"]]
    rows += [[name, f"{1e6 * x.alpha:.3g}", f"{1e-9 / x.beta:.3g}"] for name, x in NETWORKS.items()]
    return rows


def here() -> Table:
    """The model with the α and β of this machine, beside its measured steps."""
    rows = [["GPT", "without sums", "after backward: model", "measured", "during it: model", "measured"]]
    for model, without, after, during in STEPS_HERE:
        n = 4 * model.parameters
        step = Step(without / 3e3, 2 * without / 3e3, 0, n)
        K = math.ceil(n / 2**20)
        modelled = [1e3 * step.seconds(2, HERE, K, overlap, ring_all_reduce) for overlap in (False, True)]
        found = [without, modelled[0], after, modelled[1], during]
        name = f"{model.layers} layers, width {model.hidden}"
        rows.append([name, *(f"{ms:.1f} ms" for ms in found)])
    return rows


def sums() -> Table:
    """The sum of GPT-2's gradients in float32."""
    n = 4 * GPT2.parameters
    rows = [["network", "machines", "ring", "tree", "halving"]]
    for name in ("Ethernet, 1 Gb/s", "Ethernet, 10 Gb/s", "InfiniBand, 200 Gb/s"):
        for P in MACHINES:
            ways = (ring_all_reduce, tree_all_reduce, halving_all_reduce)
            rows.append([name, f"{P:,}", *(duration(way(n, P, NETWORKS[name])) for way in ways)])
    return rows


def gpt2_step(sequences: float, flops: float) -> Step:
    """A step of one process: a third of its operations is forward. The update is part of the rate."""
    seconds = sequences * GPT2.sequence * GPT2.flops_per_token / flops
    return Step(seconds / 3, 2 * seconds / 3, 0, 4 * GPT2.parameters)


def gpt2() -> Table:
    """nanoGPT's batch divided among the machines; with 1,024, one sequence each."""
    rows = [["machine", "network", "machines", "sequences each", "computing", "step", "hidden", "efficiency"]]
    for machine, flops, names in (
        ("two cores", TWO_CORES, ("Ethernet, 1 Gb/s", "Ethernet, 10 Gb/s")),
        ("one A100", A100, ("Ethernet, 10 Gb/s", "InfiniBand, 200 Gb/s a GPU")),
    ):
        for name in names:
            for P in MACHINES:
                step, network = gpt2_step(max(1, BATCH / P), flops), NETWORKS[name]
                K = step.best_buckets(P, network)
                rows.append(
                    [
                        *(machine, name, f"{P:,}", f"{max(1, BATCH / P):g}", duration(step.alone)),
                        duration(step.seconds(P, network, K)),
                        f"{step.hidden(P, network, K):.0%}",
                        f"{step.efficiency(P, network, K):.0%}",
                    ]
                )
    return rows


def memory() -> Table:
    """Gigabytes of weights, gradients and optimizer in each process."""
    rows = [["model", "precision", "machines", "all in each", "ZeRO 1", "ZeRO 2", "ZeRO 3"]]
    for name, model, label, precision in (
        ("GPT-2", GPT2, "float32", SINGLE),
        ("GPT-3", GPT3, "16 bits, float32 in Adam", MIXED),
    ):
        for P in MACHINES:
            states = [model_states(model.parameters, P, stage, precision) for stage in range(4)]
            rows.append([name, label, f"{P:,}", *map(gigabytes, states)])
    return rows


class Plan(NamedTuple):
    """How 1,024 GPUs train GPT-3: t of them divide each layer, p the layers, d the batch."""

    t: int
    p: int
    d: int
    stage: int = 0
    batch: int = 1536

    @property
    def bytes(self) -> float:
        """Of a GPU: its states; the inputs of its layers, of each sequence on its way; one layer's other
        activations. ZeRO 3 takes all of its sequences at once, since each time it gathers all weights."""
        states = model_states(GPT3.parameters / (self.t * self.p), self.d, self.stage)
        at_once = self.batch // self.d if self.stage == 3 else 1
        one_layer = GPT3.activations(at_once, self.t) / GPT3.layers
        return states + GPT3.activations(at_once, keep="inputs") + one_layer

    @property
    def computing(self) -> float:
        """Seconds, with activations that are computed again: four passes instead of three."""
        operations = 4 / 3 * self.batch * GPT3.sequence * GPT3.flops_per_token
        return operations / (self.t * self.p * self.d * KERNELS)

    @property
    def tensor(self) -> float:
        """Two sums of the activations a layer in each of three passes: forward, again, backward."""
        one = best_all_reduce(2 * GPT3.sequence * GPT3.hidden, self.t, NVLINK)
        return 6 * GPT3.layers / self.p * self.batch / self.d * one

    @property
    def idle(self) -> float:
        return (self.computing + self.tensor) * pipeline_idle(self.p, self.batch // self.d)

    @property
    def data(self) -> float:
        """The sum of the gradients, after the last backward pass. ZeRO 3 gathers the weights for two passes,
        and scatters the gradients."""
        n = 2 * GPT3.parameters / (self.t * self.p)
        if self.stage < 3:
            return best_all_reduce(n, self.d, INFINIBAND_GPU)
        passes = 2 * all_gather(n, self.d, INFINIBAND_GPU) + reduce_scatter(n, self.d, INFINIBAND_GPU)
        return max(0, passes - self.computing)  # what the computing does not hide

    @property
    def seconds(self) -> float:
        return self.computing + self.tensor + self.idle + self.data


PLANS = {
    "data alone": Plan(1, 1, 1024),
    "ZeRO 3, 2 sequences each": Plan(1, 1, 1024, 3, 2048),
    "ZeRO 3, 4 sequences each": Plan(1, 1, 1024, 3, 4096),
    "tensor": Plan(8, 1, 128),
    "tensor, ZeRO 1": Plan(8, 1, 128, 1),
    "tensor, pipeline": Plan(8, 8, 16),
    "tensor, pipeline, ZeRO 1": Plan(8, 8, 16, 1),
}


def gpt3() -> Table:
    """Seconds a step. The last column is the rate of a GPU with all operations, also the repeated ones."""
    rows = [
        [
            *("plan", "t × p × d", "sequences", "GB a GPU", "computing", "tensor", "idle", "data", "step"),
            "TFLOP/s a GPU",
        ]
    ]
    for name, plan in PLANS.items():
        sizes = f"{plan.t} × {plan.p} × {plan.d}"
        fits = plan.bytes <= MEMORY
        parts = (plan.computing, plan.tensor, plan.idle, plan.data, plan.seconds)
        told = [f"{x:.3g}" for x in parts] + [f"{KERNELS * plan.computing / plan.seconds / 1e12:.0f}"]
        rows.append(
            [
                name,
                sizes,
                f"{plan.batch:,}",
                f"{plan.bytes / 1e9:,.0f}",
                *(told if fits else ["does not fit", *[""] * 5]),
            ]
        )
    return rows


# -- the page ----------------------------------------------------------------------------------------

TABLES = {"here": here, "networks": networks, "sums": sums, "gpt2": gpt2, "memory": memory, "gpt3": gpt3}


def markdown(table: Table) -> str:
    head, *body = table
    lines = [head, [":--"] + ["--:"] * (len(head) - 1), *body]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def written(page: str) -> str:
    """The page with its tables made anew: each stands between two comments with its name."""
    for name, table in TABLES.items():
        start, end = (mark.replace("plan", f"plan {name}") for mark in (START, END))
        before, _, rest = page.partition(start)
        _, found, after = rest.partition(end)
        if not found:
            raise SystemExit(f"the page has no place for this table: put {start} and {end} there")
        page = f"{before}{start}\n\n{markdown(table())}\n\n{end}{after}"
    return page


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plan", description="The plan of docs/parallel.md."
    )
    parser.add_argument("--into", metavar="PAGE.md", type=Path, help="write the tables there")
    args = parser.parse_args(arguments)
    if args.into:
        args.into.write_text(written(args.into.read_text("utf-8")), "utf-8")
    else:
        print("\n\n".join(f"{name}\n{markdown(table())}" for name, table in TABLES.items()))


if __name__ == "__main__":
    main()

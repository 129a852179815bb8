"""The formulas for the time of data-parallel training: against a simulation of the processes (`events.py`),
and against the page's code with a clock. Times are fractions, so that equal means equal."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from events import Exchange, Signal, Simulation, Work, halving, ring, tree
from hypothesis import given, settings
from hypothesis import strategies as st
from in_threads import Communicator, run_processes
from pages.page import load

from tinygen.parallel.cost import (
    Network,
    Step,
    all_gather,
    best_all_reduce,
    halving_all_reduce,
    last_end,
    levels,
    pipeline_idle,
    reduce_scatter,
    ring_all_reduce,
    tree_all_reduce,
)

NETWORK = Network(Fraction(3, 7), Fraction(2, 11), Fraction(5, 13))
BYTES = Fraction(64)
WAYS = {
    "ring": (ring_all_reduce, ring),
    "tree": (tree_all_reduce, tree),
    "halving": (halving_all_reduce, halving),
}
SIZES = [
    (way, P)
    for way in WAYS
    for P in (1, 2, 3, 4, 5, 7, 8, 16, 33)
    if way != "halving" or P in (1, 2, 4, 8, 16)
]


def test_a_message():
    """From one process to the other, at the times 0 and 5: it begins when both are ready."""

    def sender():
        yield Exchange(to="b", item="x", n=BYTES)

    def receiver():
        yield Work(5)
        assert (yield Exchange(source="a")) == "x"

    assert Simulation(NETWORK).run({"a": sender(), "b": receiver()}) == 5 + NETWORK.message(BYTES)
    assert NETWORK.message(BYTES) == Fraction(3, 7) + Fraction(128, 11)


def simulated(way, P, n=BYTES, network=NETWORK):
    """(seconds, bytes that each has sent) of one sum; all must have all numbers, each once."""
    simulation, ends = Simulation(network), []

    def process(p):
        ends.append((yield from way(p, P, n, network)))

    seconds = simulation.run({p: process(p) for p in range(P)})
    assert len(ends) == P
    assert all(part == frozenset(range(P)) for have in ends for part in have.values())
    return seconds, simulation.sent


@pytest.mark.parametrize(("way", "P"), SIZES)
def test_all_reduce(way, P):
    formula, program = WAYS[way]
    assert simulated(program, P)[0] == formula(BYTES, P, NETWORK)


@pytest.mark.parametrize("P", [2, 3, 8])
def test_the_halves_of_the_ring(P):
    """Without γ, both halves take the same time; the first also adds."""
    free = Network(NETWORK.alpha, NETWORK.beta)
    assert reduce_scatter(BYTES, P, free) == all_gather(BYTES, P, free) == ring_all_reduce(BYTES, P, free) / 2
    assert (
        reduce_scatter(BYTES, P, NETWORK) - all_gather(BYTES, P, NETWORK)
        == (P - 1) * NETWORK.gamma * BYTES / P
    )


@pytest.mark.parametrize("P", [2, 3, 4, 8, 16])
def test_the_ring_sends_as_few_bytes_as_possible(P):
    """2 (P - 1) n/P from each process, the lower bound of Patarasuk & Yuan (2009), theorem 1."""
    bound = 2 * (P - 1) * BYTES / P
    assert set(simulated(ring, P)[1].values()) == {bound}
    if P in (2, 4, 8, 16):
        assert set(simulated(halving, P)[1].values()) == {bound}
    assert max(simulated(tree, P)[1].values()) >= bound


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["ring", "tree", "halving"]), st.lists(st.integers(0, 60), min_size=8, max_size=8))
def test_late_processes(way, late):
    """Processes that begin late: a sum ends not before the formula says, and not later than if all had waited
    for the last one."""
    formula, program = WAYS[way]

    def process(p):
        yield Work(late[p])
        yield from program(p, 8, BYTES, NETWORK)

    end = Simulation(NETWORK).run({p: process(p) for p in range(8)})
    seconds = formula(BYTES, 8, NETWORK)
    assert max(seconds, max(late)) <= end <= max(late) + seconds


class Clock(Communicator):
    """A message of n numbers takes α + βn on a clock. Both sides tell each other when they were ready."""

    def __init__(self, rank, mail):
        super().__init__(rank, mail)
        self.now = Fraction(0)

    def arrival(self, n, other):
        return max(self.now, other) + NETWORK.alpha + NETWORK.beta * n

    def send(self, x, dest):
        super().send((x, self.now), dest)
        self.now = self.arrival(len(x), super().recv(dest))

    def recv(self, source):
        x, ready = super().recv(source)
        super().send(self.now, source)
        self.now = self.arrival(len(x), ready)
        return x

    def sendrecv(self, x, dest, source):
        super().send((x, self.now), dest)
        got, ready = super().recv(source)
        super().send(self.now, source)
        came = self.arrival(len(got), ready)
        left = self.arrival(len(x), super().recv(dest))
        self.now = max(came, left)
        return got


@pytest.mark.parametrize(("way", "P"), list(product(["ring", "tree"], [1, 2, 4, 6, 8])))
def test_the_page_takes_the_time_of_the_formula(way, P):
    """The code of `examples/pages/all_reduce.py`, for 48 numbers that are divisible by P."""

    def work(comm):
        total = getattr(load("all_reduce"), f"{way}_all_reduce")(np.full(48, comm.rank), comm)
        assert np.all(total == P * (P - 1) // 2)
        return comm.now

    times = run_processes(P, work, Clock)
    free = Network(NETWORK.alpha, NETWORK.beta)
    assert max(times) == WAYS[way][0](Fraction(48), P, free)


def test_which_way_is_best():
    """Small sums are fastest by the tree, large ones by the ring, where P is no power of two."""
    network = Network(Fraction(1), Fraction(1))
    for P in (5, 6, 12):
        assert (
            best_all_reduce(0, P, network) == tree_all_reduce(0, P, network) < ring_all_reduce(0, P, network)
        )
        assert best_all_reduce(10**6, P, network) == ring_all_reduce(10**6, P, network)
        assert best_all_reduce(10**6, P, network) < tree_all_reduce(10**6, P, network)
    assert best_all_reduce(100, 8, network) == halving_all_reduce(Fraction(100), 8, network) == 6 + 175


def test_levels():
    assert [levels(P) for P in (1, 2, 3, 4, 5, 8, 9, 1024)] == [0, 1, 2, 2, 3, 3, 4, 10]
    with pytest.raises(ValueError, match="1 or more, got 0"):
        levels(0)
    with pytest.raises(ValueError, match="power of two of processes, got 6"):
        halving_all_reduce(1, 6, NETWORK)


# -- buckets ---------------------------------------------------------------------------------------


def simulated_step(step, P, network, K, program, overlap):
    """Each process has two activities: one computes, the other adds the buckets in their order."""
    ready = {(p, k): Signal() for p in range(P) for k in range(K)}
    summed = {p: Signal() for p in range(P)}
    simulation = Simulation(network)

    def compute(p):
        yield Work(step.forward)
        for k in range(K):
            yield Work(step.backward / K)
            if overlap:
                ready[p, k].set(simulation)
        for k in range(K):
            ready[p, k].set(simulation)
        yield summed[p]
        yield Work(step.update)

    def add(p):
        for k in range(K):
            yield ready[p, k]
            yield from program(p, P, step.n / K, network, lambda q: ("add", q))
        summed[p].set(simulation)

    activities = {("compute", p): compute(p) for p in range(P)} | {("add", p): add(p) for p in range(P)}
    return simulation.run(activities)


STEP = Step(Fraction(10), Fraction(20), Fraction(2), BYTES)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize(("way", "P"), [("ring", 2), ("ring", 5), ("tree", 2), ("tree", 6), ("halving", 8)])
@pytest.mark.parametrize("K", [1, 2, 7])
@pytest.mark.parametrize("speed", [Fraction(1, 50), Fraction(1, 3), 1])
def test_a_step(overlap, way, P, K, speed):
    """Behind the backward pass or after it; on networks that are slower than the computing, or faster."""
    network = Network(NETWORK.alpha * speed, NETWORK.beta * speed, NETWORK.gamma * speed)
    formula, program = WAYS[way]
    expected = STEP.seconds(P, network, K, overlap, formula)
    assert simulated_step(STEP, P, network, K, program, overlap) == expected


def test_a_step_of_one_process():
    assert STEP.seconds(1, NETWORK) == STEP.alone == 32
    assert STEP.seconds(1, NETWORK, buckets=5, overlap=False) == 32
    with pytest.raises(ValueError, match="at least one bucket is needed, got 0"):
        STEP.seconds(2, NETWORK, 0)


times = st.lists(st.fractions(0, 20), min_size=1, max_size=6)


@settings(max_examples=50, deadline=None)
@given(times, st.data())
def test_buckets_behind_the_backward_pass(gaps, data):
    """Unequal buckets: the queue of `last_end`, the maximum in its equation, and the simulation agree."""
    took = data.draw(st.lists(st.fractions(0, 20), min_size=len(gaps), max_size=len(gaps)))
    ready = [sum(gaps[: k + 1]) for k in range(len(gaps))]
    signals = [Signal() for _ in gaps]
    simulation = Simulation(NETWORK)

    def compute():
        for gap, signal in zip(gaps, signals, strict=True):
            yield Work(gap)
            signal.set(simulation)

    def add():
        for signal, seconds in zip(signals, took, strict=True):
            yield signal
            yield Work(seconds)

    end = simulation.run({"compute": compute(), "add": add()})
    assert last_end(ready, took) == end == max(r + sum(took[k:]) for k, r in enumerate(ready))


def test_how_much_is_hidden():
    """On a fast network only the last bucket is not; on a slow one, as much as the backward pass is long."""
    fast, slow = (Network(0, speed * NETWORK.beta) for speed in (Fraction(1, 100), 100))
    assert [STEP.hidden(4, fast, K) for K in (1, 2, 10)] == [0, Fraction(1, 2), Fraction(9, 10)]
    c = ring_all_reduce(BYTES, 4, slow)
    assert STEP.hidden(4, slow, 10) == STEP.backward * Fraction(9, 10) / c
    assert STEP.hidden(1, fast, 3) == 1
    assert STEP.efficiency(4, fast, 10) == 32 / (32 + ring_all_reduce(BYTES / 10, 4, fast))


def test_the_best_number_of_buckets():
    """By trying all; on a slow network it is next to √(B/A), where A is the part of a sum that is latency."""
    slow = Network(Fraction(1, 20), Fraction(1))
    K = STEP.best_buckets(8, slow)
    tried = [STEP.seconds(8, slow, k) for k in range(1, 200)]
    assert tried[K - 1] == min(tried)
    assert abs(K - float(STEP.backward / (6 * slow.alpha)) ** 0.5) <= 1
    assert STEP.best_buckets(8, slow, most=3) == 3


@pytest.mark.parametrize(("p", "m"), [(1, 4), (2, 3), (4, 4), (5, 9), (8, 1)])
def test_a_pipeline(p, m):
    """m microbatches go through p stages, forward and then backward, each as soon as it can."""
    forward, backward = Fraction(2), Fraction(3)
    signals = {(way, s, i): Signal() for way in "FB" for s in range(p) for i in range(m)}
    simulation = Simulation(Network(0, 0))

    def stage(s):
        for i in range(m):
            if s > 0:
                yield signals["F", s - 1, i]
            yield Work(forward)
            signals["F", s, i].set(simulation)
        for i in range(m):
            yield signals["B", s + 1, i] if s + 1 < p else signals["F", s, i]
            yield Work(backward)
            signals["B", s, i].set(simulation)

    seconds = simulation.run({s: stage(s) for s in range(p)})
    ideal = m * (forward + backward)
    assert (seconds - ideal) / ideal == pytest.approx(pipeline_idle(p, m), rel=1e-12)

"""What data-parallel training costs in time, on paper: messages, sums over processes, a step.

Hockney's model (1994) gives a message of n bytes α + βn seconds: α is the latency, 1/β the bandwidth. All
processes are alike, each sends and receives one message at a time, and no message delays another one. In a
real network messages share links, and the slowest process decides: then these times are lower bounds.

The formulas need numbers that can be added and multiplied: floats, or `Fraction`s for exact times.
`sizes.py` has the bytes and the operations of a model, docs/parallel.md the times of real networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """`alpha` seconds a message, `beta` seconds a byte, and `gamma` seconds to add a byte to a sum."""

    alpha: float
    beta: float
    gamma: float = 0

    def message(self, n: float) -> float:
        """The seconds of a message of n bytes.

        Eq.: T(n) = α + β n  (Hockney 1994)
        Held by: tests/parallel/test_cost.py::test_a_message
        """
        return self.alpha + self.beta * n


# -- sums over processes ---------------------------------------------------------------------------

AllReduce = Callable[[float, int, Network], float]
"""The seconds in which P processes add n bytes each, and all have the sum."""


def reduce_scatter(n: float, P: int, network: Network) -> float:
    """The seconds of a ring in which each of P processes gets another P-th of the sum of n bytes.

    Eq.: T = (P - 1) (α + β n/P + γ n/P)  (Patarasuk & Yuan 2009)
    Held by: tests/parallel/test_cost.py::test_all_reduce
    """
    return (P - 1) * (network.message(n / P) + network.gamma * n / P)


def all_gather(n: float, P: int, network: Network) -> float:
    """The seconds of a ring in which P processes exchange their P-ths of n bytes.

    Eq.: T = (P - 1) (α + β n/P)  (Thakur et al. 2005)
    Held by: tests/parallel/test_cost.py::test_all_reduce
    """
    return (P - 1) * network.message(n / P)


def ring_all_reduce(n: float, P: int, network: Network) -> float:
    """The seconds of a sum around a ring. No way to add sends fewer bytes than its 2 (P - 1) n/P.

    Eq.: T = 2 (P - 1) (α + β n/P) + (P - 1) γ n/P  (Patarasuk & Yuan 2009)
    Held by: tests/parallel/test_cost.py::test_all_reduce
    """
    return reduce_scatter(n, P, network) + all_gather(n, P, network)


def tree_all_reduce(n: float, P: int, network: Network) -> float:
    """The seconds of a sum up a binomial tree, and of its broadcast down the tree.

    Eq.: T = ⌈log₂ P⌉ (2 α + 2 β n + γ n)  (Thakur et al. 2005)
    Held by: tests/parallel/test_cost.py::test_all_reduce
    """
    return levels(P) * (2 * network.message(n) + network.gamma * n)


def halving_all_reduce(n: float, P: int, network: Network) -> float:
    """The seconds of Rabenseifner's sum: partners exchange halves, then quarters, ...; then they gather in
    reverse. It has as few bytes as the ring and as few steps as the tree. ValueError if P is no power of two.

    Eq.: T = 2 log₂ P α + 2 (P - 1)/P β n + (P - 1)/P γ n  (Thakur et al. 2005)
    Held by: tests/parallel/test_cost.py::test_all_reduce
    """
    if 2 ** levels(P) != P:
        raise ValueError(f"recursive halving needs a power of two of processes, got {P}")
    part = n / P * (P - 1)
    return 2 * levels(P) * network.alpha + (2 * network.beta + network.gamma) * part


def levels(P: int) -> int:
    """⌈log₂ P⌉, the levels of a binary tree with P leaves. ValueError unless P ≥ 1."""
    if P < 1:
        raise ValueError(f"the number of processes must be 1 or more, got {P}")
    return (P - 1).bit_length()


def best_all_reduce(n: float, P: int, network: Network) -> float:
    """The seconds of the fastest of the three, as a library of messages chooses by n and P."""
    ways: list[AllReduce] = [ring_all_reduce, tree_all_reduce]
    if 2 ** levels(P) == P:
        ways.append(halving_all_reduce)
    return min(way(n, P, network) for way in ways)


# -- a step ----------------------------------------------------------------------------------------


def last_end(ready: Sequence[float], took: Sequence[float]) -> float:
    """When the last of several sums ends. They are made one after the other, each not before its gradients
    are `ready`, and take `took` seconds.

    Eq.: end = max_k (r_k + c_k + c_{k+1} + … + c_K)  (Lindley 1952, a queue)
    Held by: tests/parallel/test_cost.py::test_buckets_behind_the_backward_pass
    """
    end = ready[0]
    for r, c in zip(ready, took, strict=True):
        end = max(end, r) + c
    return end


@dataclass(frozen=True)
class Step:
    """A training step of one process: the seconds of its forward pass, backward pass and update, and the
    bytes of its gradients. The backward pass gives the gradients at an even rate."""

    forward: float
    backward: float
    update: float
    n: float

    @property
    def alone(self) -> float:
        """The seconds of a step with one process."""
        return self.forward + self.backward + self.update

    def seconds(
        self,
        P: int,
        network: Network,
        buckets: int = 1,
        overlap: bool = True,
        all_reduce: AllReduce = best_all_reduce,
    ) -> float:
        """The seconds of a step of P processes, whose gradients are added in K equal `buckets` that take c
        seconds each: during the backward pass, or after it.

        Eq.: T = F + max(B/K + K c, B + c) + U during it; T = F + B + K c + U after it  (Lindley 1952)
        Held by: tests/parallel/test_cost.py::test_a_step
        """
        if buckets < 1:
            raise ValueError(f"at least one bucket is needed, got {buckets}")
        c = all_reduce(self.n / buckets, P, network) if P > 1 else 0
        if overlap:
            end = max(self.backward / buckets + buckets * c, self.backward + c)
        else:
            end = self.backward + buckets * c
        return self.forward + end + self.update

    def hidden(
        self, P: int, network: Network, buckets: int, all_reduce: AllReduce = best_all_reduce
    ) -> float:
        """The share of the sums' time that lies behind the backward pass, from 0 to 1."""
        took = buckets * all_reduce(self.n / buckets, P, network)
        left = self.seconds(P, network, buckets, True, all_reduce) - self.alone
        return 1 - left / took if took else 1.0

    def best_buckets(
        self, P: int, network: Network, most: int = 1000, all_reduce: AllReduce = best_all_reduce
    ) -> int:
        """The number of buckets, at most `most`, for the shortest step: more begin earlier, each costs α."""
        return min(
            range(1, most + 1), key=lambda K: self.seconds(P, network, K, overlap=True, all_reduce=all_reduce)
        )

    def efficiency(
        self, P: int, network: Network, buckets: int = 1, all_reduce: AllReduce = best_all_reduce
    ) -> float:
        """The time of a step with one process, divided by its time with P, when each process has as much work
        as the one: 1 if messages cost nothing (weak scaling)."""
        return self.alone / self.seconds(P, network, buckets, True, all_reduce)


def pipeline_idle(stages: int, microbatches: int) -> float:
    """The idle time of a pipeline, in which each process has some of the layers, divided by its working time.

    Eq.: t_idle / t_ideal = (p - 1) / m  (Narayanan et al. 2021, arXiv:2104.04473, section 2.2.1)
    Held by: tests/parallel/test_cost.py::test_a_pipeline
    """
    return (stages - 1) / microbatches

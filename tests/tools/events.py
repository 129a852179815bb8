"""A discrete-event simulation of processes that compute and exchange messages in Hockney's model.

An activity is a generator. It yields what it does next, and goes on when that is done:

    Work(seconds)                  it computes
    Exchange(to, item, n, source)  it sends `item` of n bytes to the activity `to`, and receives from `source`
                                   meanwhile; either may be None. The yield returns what was received
    Signal()                       it waits until someone has called `signal.set(simulation)`

A message begins when both sides are ready for it, and takes α + βn; an activity has one exchange at a time.
Nothing here knows a formula: times come from events in a queue, the earliest first.
"""

import heapq
from itertools import count
from typing import NamedTuple


class Work(NamedTuple):
    seconds: object


class Exchange(NamedTuple):
    to: object = None
    item: object = None
    n: object = 0
    source: object = None


class Signal:
    def __init__(self):
        self.on, self.waiting = False, []

    def set(self, simulation):
        self.on = True
        while self.waiting:
            simulation.at(simulation.now, self.waiting.pop())


class Simulation:
    """Of activities {name: generator}. `ends` are their ends; `sent` counts the bytes that each has sent."""

    def __init__(self, network):
        self.network, self.now, self.ends = network, 0, {}
        self.queue, self.order, self.activities = [], count(), {}
        self.offers, self.open, self.received, self.sent = {}, {}, {}, {}

    def run(self, activities):
        self.activities = activities
        for name in activities:
            self.at(0, name)
        while self.queue:
            self.now, _, name, arrived = heapq.heappop(self.queue)
            if arrived is None:
                self.resume(name)
                continue
            if "item" in arrived:
                self.received[name] = arrived["item"]
            self.open[name] -= 1
            if self.open[name] == 0:
                self.resume(name, self.received.pop(name, None))
        stuck = activities.keys() - self.ends.keys()
        assert not stuck, f"{stuck} wait forever"
        return max(self.ends.values())

    def at(self, time, name, arrived=None):
        heapq.heappush(self.queue, (time, next(self.order), name, arrived))

    def resume(self, name, value=None):
        try:
            wish = self.activities[name].send(value)
        except StopIteration:
            self.ends[name] = self.now
            return
        if isinstance(wish, Work):
            self.at(self.now + wish.seconds, name)
        elif isinstance(wish, Signal):
            if wish.on:
                self.at(self.now, name)
            else:
                wish.waiting.append(name)
        else:
            self.exchange(name, wish)

    def exchange(self, name, wish):
        self.open[name] = (wish.to is not None) + (wish.source is not None)
        if wish.to is not None:
            self.sent[name] = self.sent.get(name, 0) + wish.n
            self.offer((name, wish.to), {"item": wish.item, "n": wish.n})
        if wish.source is not None:
            self.offer((wish.source, name), {})

    def offer(self, pair, side):
        """One side is ready. With the second one, the message begins, and ends for both at once."""
        other = self.offers.pop(pair, None)
        if other is None:
            self.offers[pair] = side
            return
        message = {**side, **other}
        arrives = self.now + self.network.alpha + self.network.beta * message["n"]
        self.at(arrives, pair[0], {})
        self.at(arrives, pair[1], {"item": message["item"]})


# -- sums ------------------------------------------------------------------------------------------
# Each is a part of an activity of process p. It returns what p has at the end: {chunk: the processes whose
# numbers are in its sum}. `name(p)` is the activity of process p that takes part.


def merged(a, b):
    assert all(not a[chunk] & b[chunk] for chunk in b), "a number is added twice"
    return {**a, **{chunk: a[chunk] | b[chunk] for chunk in b}}


def ring(p, P, n, network, name=lambda p: p):
    have = {chunk: frozenset([p]) for chunk in range(P)}
    left, right = name((p - 1) % P), name((p + 1) % P)
    for phase in ("reduce", "gather"):
        for step in range(P - 1):
            chunk = (p - step + (phase == "gather")) % P
            got = yield Exchange(right, {chunk: have[chunk]}, n / P, left)
            if phase == "reduce":
                have = merged(have, got)
                yield Work(network.gamma * (n / P))
            else:
                have = {**have, **got}
    return have


def tree(p, P, n, network, name=lambda p: p):
    have, d = {0: frozenset([p])}, 1
    while d < P:
        if p % (2 * d) == d:
            yield Exchange(to=name(p - d), item=have, n=n)
        elif p % (2 * d) == 0 and p + d < P:
            have = merged(have, (yield Exchange(source=name(p + d))))
            yield Work(network.gamma * n)
        d *= 2
    while d > 1:
        d //= 2
        if p % (2 * d) == d:
            have = yield Exchange(source=name(p - d))
        elif p % (2 * d) == 0 and p + d < P:
            yield Exchange(to=name(p + d), item=have, n=n)
    return have


def halving(p, P, n, network, name=lambda p: p):
    have, low, high, d = {chunk: frozenset([p]) for chunk in range(P)}, 0, P, P // 2
    halves = []
    while d >= 1:  # the partners differ in one bit; the one with a 0 keeps the lower half of the chunks
        middle = (low + high) // 2
        keep, give = ((low, middle), (middle, high))[:: -1 if p & d else 1]
        part = n / P * (give[1] - give[0])
        got = yield Exchange(name(p ^ d), {c: have[c] for c in range(*give)}, part, name(p ^ d))
        have = merged(have, got)
        yield Work(network.gamma * part)
        halves.append((d, keep))
        (low, high), d = keep, d // 2
    for d, own in reversed(halves):
        part = n / P * (own[1] - own[0])
        got = yield Exchange(name(p ^ d), {c: have[c] for c in range(*own)}, part, name(p ^ d))
        have = {**have, **got}
    return have

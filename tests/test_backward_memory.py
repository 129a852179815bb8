"""Walking the tape frees it; and threads do not disturb each other."""

import gc
import threading
import tracemalloc
import weakref

import numpy as np

from tinygen import Tensor, no_grad, op, ops


def leaf(*shape, seed=0, dtype=np.float64):
    return Tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=True)


# -- memory ----------------------------------------------------------------------------------------

BIG = 100_000  # entries: 0.8 MB in float64


def test_backward_frees_as_it_goes():
    """Without that, the gradients would come on top of the values: twice the memory."""
    x = leaf(BIG)
    tracemalloc.start()
    try:
        y = x
        for _ in range(30):
            y = np.tanh(y)  # keeps its value
        loss = y.sum()
        del y
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        loss.backward()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    one = BIG * 8
    assert before > 29 * one
    assert peak < before + 4 * one
    assert after < 2 * one  # x.grad


def test_nothing_is_alive_afterwards():
    x = leaf(BIG)
    arrays = []

    @op
    def watched(x):
        y = np.exp(-x)
        arrays.append(weakref.ref(y))
        return y, lambda g: (arrays.append(weakref.ref(g)), -g * y)[1]

    loss = watched(watched(watched(x))).sum()
    gc.disable()  # no cycle is to be needed
    try:
        loss.backward()
        assert len(arrays) == 6
        assert all(a() is None for a in arrays)
    finally:
        gc.enable()


def test_a_graph_that_is_dropped_frees_its_arrays():
    x = leaf(BIG)
    arrays = []

    @op
    def watched(x):
        y = np.exp(-x)
        arrays.append(weakref.ref(y))
        return y, lambda g: -g * y

    y = np.split(watched(x), 2)[0]
    gc.disable()
    try:
        del y
        assert arrays[0]() is None
    finally:
        gc.enable()


def test_values_die_with_their_tensors_when_no_rule_needs_them():
    x = leaf(BIG)
    y = x + 1.0
    value = weakref.ref(y.data)
    z = y + 1.0
    del y
    assert value() is None
    z.sum().backward()


# -- threads ---------------------------------------------------------------------------------------


def test_rules_that_nobody_will_ask_keep_nothing():
    x = Tensor(np.ones((3, 4), np.float32), requires_grad=True)
    y = x * 2.0  # by 2.0 there is no gradient, which alone would need the value of x
    alive = weakref.ref(y._data)
    z = y * 3.0
    del y
    assert alive() is None
    z.backward(np.ones((3, 4)))
    np.testing.assert_array_equal(x.grad, np.full((3, 4), 6.0))
    w = Tensor(np.ones((2, 4)), requires_grad=True)
    ops.linear(Tensor(np.ones((3, 4))), w).sum().backward()  # no bias, and x is a constant
    np.testing.assert_array_equal(w.grad, np.full((2, 4), 3.0))


def test_every_thread_has_its_own_switches():
    seen = []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append((leaf(1) * 2).requires_grad))
        thread.start()
        thread.join()
        assert not (leaf(1) * 2).requires_grad
    assert seen == [True]


def test_graphs_in_several_threads():
    results = {}

    def work(seed):
        x = leaf(50, seed=seed)
        for _ in range(20):
            y = np.tanh(x)
            for _ in range(20):
                y = np.sin(y) * y
            x.grad = None
            y.sum().backward()
        results[seed] = x.grad

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    alone = dict(results)
    for seed in range(4):
        work(seed)
        np.testing.assert_array_equal(results[seed], alone[seed])

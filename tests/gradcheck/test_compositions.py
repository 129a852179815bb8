"""Random compositions of right ops are all OK, and a single wrong op hidden in one is found and named.

A composition is a few steps, each an op on earlier results, of shapes that broadcast, with results used
more than once, or not at all."""

import numpy as np
import pytest

from tinygen import gradcheck, op, ops

SHAPES = [(), (3,), (2, 1), (1, 3), (2, 3), (3, 3), (2, 3, 3)]
UNARY = [
    *(np.tanh, np.sin, np.square, ops.sigmoid, ops.softplus, ops.gelu, ops.silu, ops.relu, np.abs),
    lambda a: np.exp(0.3 * a),
    lambda a: np.log(a * a + 1.3),
    lambda a: np.sqrt(a * a + 0.7),
    lambda a: a**3,
    lambda a: a.mean(),
]
WITH_AXES = [
    *(ops.softmax, ops.log_softmax),
    lambda a: a.sum(axis=-1, keepdims=True),
    lambda a: ops.logsumexp(a, -1),
    lambda a: np.cumsum(a, -1),
    lambda a: a[..., ::-1],
    lambda a: a[0],
    lambda a: np.concatenate([a, 2 * a], axis=-1)[..., : a.shape[-1]],
]
BINARY = [
    *(np.add, np.subtract, np.multiply, np.maximum),
    lambda a, b: a / (1.5 + b * b),
    lambda a, b: np.where(b > 0.1, a, b * 2),
]


def composition(rng, extra=None):
    """A random function, and inputs for it; `extra` is put in somewhere, where its result is used."""
    inputs = [rng.normal(size=SHAPES[rng.integers(len(SHAPES))]) for _ in range(rng.integers(1, 4))]
    plan = [(rng.random(), *map(int, rng.integers(1000, size=3))) for _ in range(rng.integers(2, 9))]
    place = int(rng.integers(len(plan)))

    def f(*xs):
        pool = list(xs)
        for n, (kind, which, i, j) in enumerate(plan):
            a, b = pool[i % len(pool)], pool[j % len(pool)]
            if kind < 0.4:
                y = UNARY[which % len(UNARY)](a)
            elif kind < 0.6 and a.ndim:
                y = WITH_AXES[which % len(WITH_AXES)](a)
            elif kind < 0.7 and a.ndim > 1 and b.ndim > 1 and a.shape[-1] == b.shape[-2]:
                y = a @ b
            elif kind < 0.95 and broadcast(a.shape, b.shape) and a is not b:
                y = BINARY[which % len(BINARY)](a, b)
            else:
                y = np.swapaxes(a, -1, -2) if a.ndim > 1 else a * 1.5
            if n == place and extra is not None:
                y = extra(y)
                pool = [y]
            pool.append(y)
        return tuple(pool[-2:])

    return f, inputs


def broadcast(a, b):
    try:
        np.broadcast_shapes(a, b)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("block", range(4))
def test_no_false_alarm(block):
    for seed in range(50 * block, 50 * block + 50):
        f, inputs = composition(np.random.default_rng(seed))
        report = gradcheck(f, *inputs, order=1 + seed % 2)
        assert report, f"seed {seed}:\n{report}"


def test_no_false_alarm_along_directions():
    for seed in range(100):
        f, inputs = composition(np.random.default_rng(seed))
        report = gradcheck(f, *inputs, max_entries=0)
        assert report, f"seed {seed}:\n{report}"


@op
def wrong_by_a_thousandth(x):
    y = np.tanh(x + 0.1)
    return y, lambda g: g * (1 - y * y) * 1.001


def test_a_single_wrong_op_is_found_and_named():
    found = 0
    for seed in range(60):
        f, inputs = composition(np.random.default_rng(seed), wrong_by_a_thousandth)
        report = gradcheck(f, *inputs)
        if all(r.idle for r in report.results):
            continue  # what comes after has made it all constant
        assert not report, f"seed {seed}:\n{report}"
        assert report.culprit.op == "wrong_by_a_thousandth"
        found += 1
    assert found > 50

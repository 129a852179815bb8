"""checkpoint(): equal gradients from fewer bytes, whatever the function closes over and contains."""

import gc
import tracemalloc
import weakref
from types import FunctionType

import numpy as np
import pytest

import tinygen
from tinygen import Tensor, checkpoint, gradcheck, op, ops
from tinygen.modes import MODE, Mode

rng = np.random.default_rng(0)
X = rng.normal(size=(3, 4))
W = rng.normal(size=(4, 4))


def leaf(array):
    return Tensor(array.copy(), requires_grad=True)


def gradients(run):
    """Of the sum of run(x, w)² by x and w, in their shapes' dtype."""
    x, w = leaf(X), leaf(W)
    y = run(x, w)
    (y * y).sum().backward()
    return y.data, x.grad, w.grad


def same_with_and_without(block):
    """block(x, w, checkpoint) gives the same, bit for bit, when checkpoint is an ordinary call."""
    for a, b in zip(
        gradients(lambda x, w: block(x, w, checkpoint)),
        gradients(lambda x, w: block(x, w, lambda f, *args: f(*args))),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_arguments():
    same_with_and_without(lambda x, w, c: c(lambda x, w: np.tanh(x @ w) * x, x, w))


def test_closures_over_parameters_and_inner_tensors():
    def block(x, w, c):
        inner = np.sin(x)
        return c(lambda x: np.tanh(x @ w) * inner + w.sum(), x) + inner

    same_with_and_without(block)


def test_constants_numbers_and_arrays():
    same_with_and_without(
        lambda x, w, c: c(lambda x, k, a, t: (x * k + a) @ w * t, x, 2.0, np.ones(4), Tensor(np.full(4, 3.0)))
    )


def test_dropout_draws_once():
    def block(x, w, c):
        noise = np.random.default_rng(3)
        return c(lambda x: ops.dropout(np.exp(x @ w), 0.5, noise), x)

    same_with_and_without(block)


def test_attention_with_dropout():
    same_with_and_without(
        lambda x, w, c: c(lambda x: ops.attention(x, x @ w, x, causal=True, dropout=0.4, seed=3), x)
    )


def test_several_outputs_inside_and_outside():
    def block(x, w, c):
        left, right = c(lambda x: tuple(np.split(np.exp(x @ w), 2, axis=1)), x)
        return left * right + left

    same_with_and_without(block)
    same_with_and_without(lambda x, w, c: c(lambda x: np.split(x @ w, 4, axis=1)[2] * 2.0, x))


def test_one_output_of_several_goes_in():
    def block(x, w, c):
        _, part = np.split(np.sin(x), 2, axis=1)
        return c(lambda p: np.exp(p @ w[:2]), part)

    same_with_and_without(block)


def test_nested():
    def block(x, w, c):
        def inner(h):
            return np.tanh(h @ w)

        def outer(x):
            h = np.exp(x) * 0.1
            return c(inner, h) * h + c(inner, h * 2.0)

        return c(outer, x)

    same_with_and_without(block)


def test_in_a_row_and_side_by_side():
    def block(x, w, c):
        def layer(h):
            return np.tanh(h @ w) + h

        a = c(layer, c(layer, x))
        return a * c(layer, x)

    same_with_and_without(block)


def test_a_function_that_returns_its_argument_or_nothing_of_it():
    same_with_and_without(lambda x, w, c: c(lambda x: x, x) @ w)
    same_with_and_without(lambda x, w, c: x @ w + c(lambda x: Tensor(np.ones(4)), x))


def test_parts_that_the_result_does_not_use():
    def block(x, w, c):
        def f(x):
            np.exp(x)  # left lying about
            return x @ w

        return c(f, x)

    same_with_and_without(block)


def test_float32_and_mixed_dtypes():
    x, w = Tensor(X.astype(np.float32), requires_grad=True), leaf(W)
    y = checkpoint(lambda x: np.tanh(x @ w) * x * np.float64(2), x)
    assert y.dtype == np.float64
    y.sum().backward()
    assert x.grad.dtype == np.float32


def test_a_value_that_was_cast_is_cast_again():
    @op
    def leaking(x):
        return x * np.float64(1 / 3), lambda g: g * (1 / 3)

    grads = []
    for c in (checkpoint, lambda f, x: f(x)):
        x = Tensor(X.astype(np.float32), requires_grad=True)
        c(lambda x: np.exp(leaking(x)), x).sum().backward()
        grads.append(x.grad)
    np.testing.assert_array_equal(*grads)


def test_first_and_second_order():
    assert gradcheck(lambda x, w: checkpoint(lambda x: np.tanh(x @ w) * x, x), X, W, order=2)
    assert gradcheck(lambda x: checkpoint(lambda x: np.split(np.exp(x), 2, axis=1)[1], x), X, order=2)
    assert gradcheck(lambda x: checkpoint(lambda x: checkpoint(np.sin, x) * x, x), X, order=2)


def test_gradients_inside():
    """A transform within the function, as in a gradient penalty."""
    same_with_and_without(lambda x, w, c: c(lambda x: tinygen.grad(lambda v: np.tanh(v @ w).sum())(x) * x, x))


def test_under_no_grad_it_only_computes():
    with tinygen.no_grad():
        y = checkpoint(lambda x: x * 2.0, leaf(X))
    assert not y.requires_grad


def test_parts_under_no_grad():
    def block(x, w, c):
        def f(x):
            with tinygen.no_grad():
                scale = np.exp(x).sum()
            return x @ w / scale

        return c(f, x)

    same_with_and_without(block)


def test_retain_graph():
    x = leaf(X)
    loss = checkpoint(lambda x: np.tanh(x), x).sum()
    loss.backward(retain_graph=True)
    once = x.grad.copy()
    loss.backward()
    np.testing.assert_array_equal(x.grad, 2 * once)
    with pytest.raises(RuntimeError, match="freed"):
        loss.backward()


def test_two_results_walked_one_after_the_other():
    x = leaf(X)
    a, b = checkpoint(lambda x: (np.exp(x), np.sin(x)), x)
    a.sum().backward()
    b.sum().backward()
    np.testing.assert_allclose(x.grad, np.exp(X) + np.cos(X))


def test_a_parameter_written_in_between():
    x, w = leaf(X), leaf(W)
    loss = checkpoint(lambda x: np.tanh(x @ w), x).sum()
    w.data -= 1.0
    with pytest.raises(RuntimeError, match="written into"):
        loss.backward()
    assert w.grad is None


def test_an_error_while_computing_again():
    calls = []

    @op
    def sometimes(x):
        calls.append(1)
        if len(calls) > 1:
            raise MemoryError("the second time")
        return x * 2, lambda g: g * 2

    x = leaf(X)
    loss = checkpoint(lambda x: np.exp(sometimes(x)), x).sum()
    with pytest.raises(MemoryError, match="the second time"):
        loss.backward()
    assert x.grad is None
    assert MODE.get() == Mode()
    assert (x * 1).requires_grad


def test_each_op_is_computed_twice():
    calls = []

    @op
    def counted(x):
        calls.append(1)
        return x * 2, lambda g: g * 2

    loss = checkpoint(lambda x: counted(counted(x)), leaf(X)).sum()
    assert len(calls) == 2
    loss.backward()
    assert len(calls) == 4


BIG = 100_000


def layers(h):
    for _ in range(10):
        h = np.tanh(h * 1.1)
    return h


def kept_bytes(run):
    x = Tensor(np.ones(BIG), requires_grad=True)
    tracemalloc.start()
    try:
        y = x
        for _ in range(5):
            y = run(layers, y)
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        y.sum().backward()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return kept / (8 * BIG), peak / (8 * BIG)


def test_fewer_bytes_are_kept():
    """Five blocks of ten layers: the inputs of the blocks are kept, and in backward also the values of one
    block."""
    plain, _ = kept_bytes(lambda f, x: f(x))
    kept, peak = kept_bytes(checkpoint)
    assert plain > 50
    assert kept < 6
    assert peak < 6 + 24 + 4  # 2 a layer: the product and its tanh


def test_parts_of_a_value_are_not_kept():
    arrays = []

    @op
    def watched(x):
        y = np.exp(-x)
        arrays.append(weakref.ref(y))
        return y, lambda g: -g * y

    def f(x):
        left, right = np.split(watched(x), 2)
        return watched(left) * watched(right)

    y = checkpoint(f, leaf(X[:2]))
    assert all(a() is None for a in arrays)
    y.sum().backward()


@pytest.mark.parametrize(
    "run",
    [
        lambda f, x: checkpoint(f, x),
        lambda f, x: checkpoint(lambda x: np.split(checkpoint(f, f(x)) * x, 2)[0], np.sin(x)),
        lambda f, x: tinygen.vjp(lambda x: checkpoint(f, x), x)[0],
        lambda f, x: checkpoint(lambda x: tinygen.grad(lambda v: f(v).sum())(x) * x, x),
    ],
)
def test_an_abandoned_graph_is_freed_at_once(run):
    """Without the collector, for which a training loop on large arrays may have to wait long."""
    values = []

    @op
    def watched(x):
        y = np.exp(-x)
        values.append(weakref.ref(y))
        return y, lambda g: -g * watched(x)

    x = leaf(X[:2])
    run(watched, x)  # the first time, what is made once is made
    while gc.collect():  # what the tests before have left may take several rounds
        pass
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        y = run(watched, x)
        node = weakref.ref(y.node or y)
        del y
        assert node() is None
        assert all(v() is None for v in values)
        gc.collect()
        assert not [thing for thing in gc.garbage if belongs_to_tinygen(thing)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def belongs_to_tinygen(thing):
    """A function or an object of tinygen's, but not of another thread's work, such as a compiler's."""
    module = getattr(thing if isinstance(thing, FunctionType) else type(thing), "__module__", None)
    return str(module).startswith("tinygen")


def test_nothing_is_alive_after_backward():
    arrays = []

    @op
    def watched(x):
        y = np.exp(-x)
        arrays.append(weakref.ref(y))
        return y, lambda g: -g * y

    x = leaf(X)
    gc.disable()
    try:
        loss = checkpoint(lambda x: watched(watched(x)), x).sum()
        assert all(a() is None for a in arrays)
        loss.backward()
        assert len(arrays) == 4
        assert all(a() is None for a in arrays)
    finally:
        gc.enable()

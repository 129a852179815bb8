"""Walking the tape: right sums, fresh gradients, freed memory, and errors that leave nothing behind."""

import gc
import math
import threading
import tracemalloc
import weakref

import numpy as np
import pytest
from foreign import Foreign
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import Tensor, grad, no_grad, op


def leaf(*shape, seed=0, dtype=np.float64):
    return Tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=True)


# -- sums over paths -------------------------------------------------------------------------------


def test_a_diamond():
    """The smallest graph where walking in the wrong order doubles something: c = b + b, b = a + a."""
    a = Tensor(1.0, requires_grad=True)
    b = a + a
    c = b + b
    c.backward()
    assert a.grad == 4.0


def test_a_diamond_whose_arms_have_different_lengths():
    a = Tensor(np.array(2.0), requires_grad=True)
    b = a * a  # 4, db/da = 4
    long = ((b * 1.0) * 1.0) * 3.0
    (b * long).backward()  # 3 b²: 6 b · 4
    assert a.grad == 96.0


def test_every_number_of_uses():
    """One use is borrowed, the second allocates, from the third on it is added in place."""
    for uses in range(1, 6):
        x = leaf(3)
        parts = [x * float(i + 1) for i in range(uses)]
        sum(parts[1:], start=parts[0]).sum().backward()
        np.testing.assert_array_equal(x.grad, np.full(3, sum(range(1, uses + 1))))


OPS = [
    (lambda a, b: a + b, lambda a, b: (1.0, 1.0)),
    (lambda a, b: a - b, lambda a, b: (1.0, -1.0)),
    (lambda a, b: a * b, lambda a, b: (b, a)),
    (lambda a, b: np.tanh(a) * b, lambda a, b: ((1 - math.tanh(a) ** 2) * b, math.tanh(a))),
    (lambda a, b: np.sin(a + b), lambda a, b: (math.cos(a + b),) * 2),
]


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=30
    ),
    leaves=st.lists(st.floats(-2, 2), min_size=1, max_size=4),
)
def test_random_graphs_against_forward_differentiation(steps, leaves):
    """A naive reference: every value carries its derivatives by all leaves, by the chain rule, forward."""
    xs = [Tensor(np.array(v), requires_grad=True) for v in leaves]
    values, plain = list(xs), list(leaves)
    derivatives = list(np.eye(len(leaves)))
    for k, i, j in steps:
        i, j = i % len(values), j % len(values)
        f, df = OPS[k]
        da, db = df(plain[i], plain[j])
        derivatives.append(da * derivatives[i] + db * derivatives[j])
        plain.append(float(f(plain[i], plain[j])))
        values.append(f(values[i], values[j]))
    values[-1].backward()
    found = [0.0 if x.grad is None else float(x.grad) for x in xs]
    np.testing.assert_allclose(found, derivatives[-1], rtol=1e-9, atol=1e-9)


def test_one_tensor_in_two_places_of_an_op_with_a_joint_rule():
    @op
    def product(a, b):
        return a * b, lambda g: (g * b, g * a)

    x = leaf(3)
    product(x, x).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * x.data)


# -- deep and wide ---------------------------------------------------------------------------------

DEEP = 100_000


def chain(x, n=DEEP):
    for _ in range(n):
        x = x * 1.0
    return x


def test_a_deep_chain():
    x = Tensor(np.ones(1), requires_grad=True)
    chain(x).sum().backward()
    assert x.grad == [1.0]


def test_a_deep_chain_is_dropped_without_backward():
    y = chain(Tensor(np.ones(1), requires_grad=True))
    node = weakref.ref(y.node)
    del y
    gc.collect()
    assert node() is None


def test_second_derivatives_of_a_deep_chain():
    x = Tensor(np.array([3.0]), requires_grad=True)
    (slope,) = tinygen.vjp(lambda x: chain(x, 10_000) * x, x)[1]([1.0])
    slope.backward()  # of 2 x
    assert x.grad == [2.0]


def test_a_deep_chain_in_a_checkpoint():
    x = Tensor(np.ones(1), requires_grad=True)
    tinygen.checkpoint(chain, x).sum().backward()
    assert x.grad == [1.0]


def test_a_wide_op():
    xs = [leaf(2, seed=i) for i in range(3000)]
    np.stack(xs).sum().backward()
    assert all((x.grad == 1).all() for x in xs)


# -- several outputs -------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [(0,), (1,), (2,), (0, 2), (2, 1, 0), (1, 1)])
def test_outputs_that_nobody_used_send_zeros(used):
    x = leaf(2, 6)
    parts = np.split(x, [1, 4], axis=1)
    total = sum(((i + 1.0) * parts[i].sum() for i in used[1:]), start=(used[0] + 1.0) * parts[used[0]].sum())
    del parts
    total.backward()
    bounds = [0, 1, 4, 6]
    expected = np.zeros((2, 6))
    for i in used:
        expected[:, bounds[i] : bounds[i + 1]] += i + 1
    np.testing.assert_array_equal(x.grad, expected)


def test_dropped_outputs_in_the_second_order():
    def f(x):
        first, _, last = np.split(x * x * x, 3)
        return (first * last).sum()

    x = np.array([0.5, 2.0, 3.0])
    hessian = tinygen.hessian(f)(x).numpy()
    assert hessian == pytest.approx(np.array([[81.0, 0, 20.25], [0, 0, 0], [20.25, 0, 2.25]]))


def test_outputs_of_several_dtypes_and_shapes():
    @op
    def pair(x):
        return (x.astype(np.float32)[:1], x * 2), lambda gs: seen.append(gs) or gs[1] * 2

    seen = []
    x = leaf(3)
    pair(x)[1].sum().backward()
    ((unused, used),) = seen
    assert (unused.shape, unused.dtype, unused.tolist()) == ((1,), np.dtype(np.float64), [0.0])
    assert used.shape == (3,)
    np.testing.assert_array_equal(x.grad, np.full(3, 2.0))


# -- what backward() asks for ----------------------------------------------------------------------


def test_a_leaf_by_itself():
    x = Tensor(2.0, requires_grad=True)
    x.backward()
    assert x.grad == 1.0


def test_several_numbers_need_a_gradient():
    y = leaf(2, 3) * 2
    with pytest.raises(
        ValueError, match=r"shape \(2, 3\) needs the gradient .* reduce it to one number first"
    ):
        y.backward()
    with pytest.raises(ValueError, match=r"gradient has shape \(3,\), the tensor \(2, 3\)"):
        y.backward(np.ones(3))


@pytest.mark.parametrize(
    "given", [[1.0, 2.0], np.array([1, 2]), np.array([1.0, 2.0]), Tensor([1.0, 2.0])], ids=repr
)
def test_the_gradient_may_be_anything_like_an_array(given):
    x = leaf(2, dtype=np.float32)
    (x * 3.0).backward(given)
    assert type(x.grad) is np.ndarray
    assert x.grad.dtype == np.float32
    assert x.grad.tolist() == [3.0, 6.0]


def test_one_number_of_any_shape_needs_no_gradient():
    x = leaf(1, 1)
    (x * 3).backward()
    assert x.grad.tolist() == [[3.0]]


def test_nothing_that_requires_grad():
    with pytest.raises(RuntimeError, match="does not depend on anything that requires grad"):
        (Tensor([1.0]) * 2).backward()
    with no_grad():
        y = leaf(1) * 2
    with pytest.raises(RuntimeError, match="outside of no_grad"):
        y.backward()


def test_only_leaves_get_a_grad():
    x, constant = leaf(3), Tensor(np.ones(3))
    y = x * constant
    y.sum().backward()
    assert y.grad is None
    assert constant.grad is None


# -- twice -----------------------------------------------------------------------------------------


def test_backward_twice_says_where_and_what_to_do():
    y = np.exp(leaf(3)).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"`sum` \(.*test_backward.py:\d+\).*retain_graph=True"):
        y.backward()


def test_a_freed_part_of_another_graph():
    shared = np.exp(leaf(3))
    first, second = shared.sum(), (shared * 2).sum()
    first.backward()
    with pytest.raises(RuntimeError, match="went through `exp`"):
        second.backward()


def test_retain_graph_and_accumulation():
    x = leaf(3)
    y = np.exp(x).sum()
    y.backward(retain_graph=True)
    once = x.grad.copy()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad, 3 * once)
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


def test_two_graphs_add_up_in_grad():
    x = leaf(3)
    (x * 2).sum().backward()
    (x * 5).sum().backward()
    np.testing.assert_array_equal(x.grad, np.full(3, 7.0))
    x.grad = None
    (x * 5).sum().backward()
    np.testing.assert_array_equal(x.grad, np.full(3, 5.0))


# -- written in between ----------------------------------------------------------------------------


def in_place(w):
    w.data -= 0.1


def assigned(w):
    w.data = np.zeros_like(w.data)


@pytest.mark.parametrize("write", [in_place, assigned])
def test_a_parameter_written_between_forward_and_backward(write):
    w = leaf(3)
    loss = (w * w).sum()
    write(w)
    with pytest.raises(RuntimeError, match=r"`multiply` .* was written into .* call backward.. before"):
        loss.backward()
    assert w.grad is None
    (w * w).sum().backward()  # computed again, it works
    np.testing.assert_array_equal(w.grad, 2 * w.data)


def test_a_constant_written_between_forward_and_backward():
    x, constant = leaf(3), Tensor(np.ones(3))
    loss = (x * constant).sum()
    constant[1] = 5.0
    with pytest.raises(RuntimeError, match="was written into"):
        loss.backward()


def test_a_write_after_backward_and_one_before_forward_are_fine():
    w = leaf(3)
    in_place(w)
    (w * w).sum().backward()
    in_place(w)
    (w * w).sum().backward()


def test_a_write_seen_by_one_of_two_graphs():
    w, other = leaf(3), leaf(3)
    kept = (other * 2).sum()
    lost = (w * w).sum()
    in_place(w)
    kept.backward()
    with pytest.raises(RuntimeError):
        lost.backward()


def test_a_write_is_noticed_by_the_second_of_two_backwards():
    w = leaf(3)
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    in_place(w)
    with pytest.raises(RuntimeError, match="written into"):
        loss.backward()


# -- the gradients of leaves -----------------------------------------------------------------------


def assert_fresh(*tensors):
    arrays = [t.grad for t in tensors]
    for i, (t, g) in enumerate(zip(tensors, arrays, strict=True)):
        assert type(g) is np.ndarray
        assert (g.shape, g.dtype) == (t.shape, t.dtype)
        assert g.flags.writeable
        assert g.flags.c_contiguous
        assert not np.shares_memory(g, t.data)
        assert not any(np.shares_memory(g, other) for other in arrays[:i])


def test_two_leaves_that_get_one_array():
    a, b = leaf(3), leaf(3)
    (a + b).sum().backward()
    assert_fresh(a, b)
    a.grad *= 0.5
    assert b.grad.tolist() == [1, 1, 1]


def test_the_given_gradient_is_not_handed_on():
    g = np.ones(3)
    a = leaf(3)
    (a + 0.0).backward(g)
    assert not np.shares_memory(a.grad, g)
    b = leaf(3)
    b.backward(g)
    assert not np.shares_memory(b.grad, g)


@pytest.mark.parametrize(
    "rule",
    [
        lambda g: (g, g, g),
        lambda g: (g, g[::-1], g.reshape(3, 1).reshape(3)),
        lambda g: (np.broadcast_to(g[:1], 3),) * 3,
        lambda g: (g.astype(np.float32),) * 3,
        lambda g: (g[None] * np.ones((2, 1)),) * 3,
        lambda g: (1.0 * g.sum() * np.ones(3), g, 2 * g),
    ],
    ids=["the same", "views", "stride 0", "float32", "to be summed", "fresh"],
)
def test_whatever_a_rule_returns(rule):
    @op
    def f(a, b, c):
        return a + b + c, rule

    a, b, c = leaf(3), leaf(3, seed=1), leaf(3, seed=2)
    y = f(a, b, c)
    y.sum().backward(retain_graph=True)
    assert_fresh(a, b, c)
    before = [t.grad.copy() for t in (a, b, c)]
    y.sum().backward()
    assert_fresh(a, b, c)
    for t, g in zip((a, b, c), before, strict=True):
        np.testing.assert_array_equal(t.grad, 2 * g)


def test_an_array_that_a_rule_returned_is_not_added_into():
    """The second gradient to arrive is added to the first one out of place: the first is borrowed."""
    returned = []

    @op
    def watched(x):
        return x * 1, lambda g: returned.append(g * 1) or returned[-1]

    x = leaf(3)
    (watched(x) + watched(x) * 2.0 + watched(x) * 3.0 + x).sum().backward()
    np.testing.assert_array_equal(sorted(g[0] for g in returned), [1, 2, 3])
    np.testing.assert_array_equal(x.grad, np.full(3, 7.0))


def test_shapes_that_need_a_copy():
    x = leaf(2, 3)
    x.T.sum(axis=0).sum().backward()
    assert_fresh(x)
    y = leaf(2, 3)
    (y.T * np.arange(6.0).reshape(3, 2)).sum().backward()
    assert_fresh(y)
    np.testing.assert_array_equal(y.grad, [[0, 2, 4], [1, 3, 5]])


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0)])
def test_small_shapes(shape):
    x = leaf(*shape)
    (x * 2.0).sum().backward()
    assert_fresh(x)


def test_a_number_as_a_rules_result():
    @op
    def constant_slope(x):
        return 2.0 * x, lambda g: 2.0 * float(g)

    x = Tensor(np.array(1.0), requires_grad=True)
    constant_slope(x).backward()
    assert_fresh(x)
    assert x.grad == 2.0


def test_a_float32_leaf_below_float64():
    x, y = leaf(3, dtype=np.float32), leaf(3)
    (x * y).sum().backward()
    assert_fresh(x, y)


# -- rules that are wrong --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3), (3,), (4, 3, 2), (3, 3)])
def test_a_gradient_of_a_wrong_shape(shape):
    """Summing over axes that were broadcast cannot make `shape` of (3, 2)."""

    @op
    def wrong(x):
        return x * 2, lambda g: np.zeros((3, 2))

    x = leaf(*shape)
    with pytest.raises(ValueError, match="a rule returned a gradient of shape") as caught:
        wrong(x).backward(np.ones(shape))
    assert f"for an input of {shape}" in str(caught.value)
    assert x.grad is None


def test_a_missing_rule():
    @op
    def half(a, b):
        return a * b, lambda g: g * b, None

    a, b = leaf(2), leaf(2)
    half(a, b.detach()).sum().backward()
    with pytest.raises(TypeError, match=r"`half` has no gradient for its argument 1: detach\(\) it first"):
        half(a, b).sum().backward()


def test_more_arguments_than_rules():
    @op
    def short(a, b, c):
        return a * b * c, lambda g: g * b * c, lambda g: g * a * c

    with pytest.raises(TypeError, match="`short` has no gradient for its argument 2"):
        short(leaf(2), leaf(2), leaf(2)).sum().backward()

    @op
    def single(a, b):
        return a * b, lambda g: g * b

    with pytest.raises(TypeError, match="`single` has no gradient for its argument 1"):
        single(leaf(2), leaf(2)).sum().backward()


def test_an_error_in_a_rule_touches_no_grad():
    @op
    def failing(x):
        def rule(g):
            raise ZeroDivisionError("on purpose")

        return x * 1, rule

    good, bad = leaf(3), leaf(3)
    loss = (np.exp(good) * failing(bad)).sum() + good.sum()
    with pytest.raises(ZeroDivisionError, match="on purpose") as caught:
        loss.backward()
    assert "in the gradient of `failing`, called at" in caught.value.__notes__[0]
    assert "test_backward.py:" in caught.value.__notes__[0]
    assert good.grad is None
    assert bad.grad is None
    assert (good * 1).requires_grad  # ops still record
    (good * 2).sum().backward()
    assert good.grad.tolist() == [2, 2, 2]


def test_devices_that_do_not_mix_in_a_rule():
    x = Tensor(Foreign(np.ones(2)), requires_grad=True)
    with pytest.raises(TypeError, match="Unsupported type") as caught:
        (x * x).backward(np.ones(2))
    assert "in the gradient of `multiply`" in caught.value.__notes__[0]


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
        assert [a() for a in arrays] == [None] * 6
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


# -- higher orders ---------------------------------------------------------------------------------


def test_second_order_by_hand():
    """backward() of something that was built from a gradient: (d/dx of x³)² = 9 x⁴, whose slope is 36 x³."""
    x = Tensor(np.array(2.0), requires_grad=True)
    slope = grad(lambda x: x**3)(x)
    (slope * slope).backward()
    assert x.grad == pytest.approx(36 * 8)


def test_a_penalty_on_the_gradient():
    """What a WGAN trains on: w gets its gradient through the gradient by x."""
    w, x = leaf(3, 3), np.random.default_rng(1).normal(size=3)

    def critic(x):
        return np.tanh(w @ x).sum()

    penalty = (grad(critic)(x) * 1.0).sum()
    penalty.backward()

    def by_hand(w):
        return (w.T @ (1 - np.tanh(w @ x) ** 2)).sum()

    step = 1e-6
    numeric = np.zeros((3, 3))
    for i in np.ndindex(3, 3):
        d = np.zeros((3, 3))
        d[i] = step
        numeric[i] = (by_hand(w.data + d) - by_hand(w.data - d)) / (2 * step)
    np.testing.assert_allclose(w.grad, numeric, atol=1e-8)


def test_gradients_by_inner_tensors():
    """The engine's own entry takes any tensors on the tape as what to differentiate by."""
    from tinygen.backward import backward

    x = leaf(3)
    inner = np.exp(x)
    y = (inner * inner).sum()
    grads = backward([y], [np.array(1.0)], [inner], retain_graph=True)
    np.testing.assert_allclose(grads[inner.node], 2 * inner.data)
    assert x not in grads
    both = backward([y], [np.array(1.0)], [inner, x], create_graph=True)
    np.testing.assert_allclose(both[inner.node].data, 2 * inner.data)
    np.testing.assert_allclose(both[x].data, 2 * inner.data**2)
    both[inner.node].sum().backward()
    np.testing.assert_allclose(x.grad, 2 * inner.data)


def test_what_cannot_be_reached_is_absent():
    from tinygen.backward import backward

    x, y = leaf(2), leaf(2)
    assert y not in backward([(x * 2).sum()], [np.array(1.0)], [x, y])

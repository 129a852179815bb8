"""Walking the tape: right sums over all paths, deep and wide, several outputs, higher orders."""

import gc
import math
import weakref

import numpy as np
import pytest
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


# -- higher orders ---------------------------------------------------------------------------------


def test_second_order_by_hand():
    """backward() of something that was built from a gradient: (d/dx of x³)² = 9 x⁴, whose slope is 36 x³."""
    x = Tensor(np.array(2.0), requires_grad=True)
    slope = grad(lambda x: x**3)(x)
    (slope * slope).backward()
    assert x.grad == pytest.approx(36 * 8)


def test_a_penalty_on_the_gradient():
    """The gradient penalty of a WGAN: w gets its gradient through the gradient by x."""
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


def test_there_is_one_place_where_the_sum_of_a_leaf_is_complete(monkeypatch):
    """Once for each leaf, with the gradient over all paths, before it is added to `.grad`."""
    x, w = (Tensor(np.full(3, value), requires_grad=True) for value in (2.0, 5.0))
    w.grad = np.ones(3)
    seen = []
    add_to_grad = tinygen.backward.add_to_grad

    def spy(leaf, g):
        seen.append((leaf, g.copy(), None if leaf.grad is None else leaf.grad.copy()))
        add_to_grad(leaf, g / 2)  # as if averaged with a process that has zeros

    monkeypatch.setattr(tinygen.backward, "add_to_grad", spy)
    (x * w + x * x + x).sum().backward()
    found = {id(leaf): (g, before) for leaf, g, before in seen}
    assert len(seen) == 2
    np.testing.assert_array_equal(found[id(x)][0], np.full(3, 5.0 + 4.0 + 1.0))
    np.testing.assert_array_equal(found[id(w)][1], np.ones(3))
    np.testing.assert_array_equal(x.grad, np.full(3, 5.0))
    np.testing.assert_array_equal(w.grad, np.full(3, 1.0 + 2.0 / 2))

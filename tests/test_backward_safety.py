"""Walking the tape safely: writes in between, the gradients that leaves get, and rules that are wrong."""

import numpy as np
import pytest
from foreign import Foreign

from tinygen import Tensor, op


def leaf(*shape, seed=0, dtype=np.float64):
    return Tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=True)


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
    for expected in (2 * w.data, 4 * w.data - 0.2):
        (w * w).sum().backward()
        np.testing.assert_allclose(w.grad, expected)
        in_place(w)


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


@pytest.mark.parametrize("dtype", [np.int64, bool])
def test_a_leaf_of_integers_that_was_told_to_require_grad(dtype):
    """Its gradient would be cut to whole numbers."""
    x = Tensor(np.array([1, 0], dtype))
    x.requires_grad = True
    loss = (x * 0.5).sum()
    with pytest.raises(TypeError, match=rf"a leaf of `multiply` .* is of {np.dtype(dtype)}, which has no"):
        loss.backward()


# -- the gradients of leaves -----------------------------------------------------------------------


def assert_fresh(*tensors):
    arrays = [t.grad for t in tensors]
    for i, (t, g) in enumerate(zip(tensors, arrays, strict=True)):
        assert type(g) is np.ndarray
        assert (g.shape, g.dtype) == (t.shape, t.dtype)
        assert g.flags.writeable
        assert g.flags.c_contiguous
        assert g.base is None  # no view that keeps a larger array alive
        assert not np.shares_memory(g, t.data)
        assert not any(np.shares_memory(g, other) for other in arrays[:i])


def test_two_leaves_that_get_one_array():
    for send in (lambda y: y.sum().backward(), lambda y: y.backward(np.ones(3))):
        a, b = leaf(3), leaf(3)
        send(a + b)
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
        lambda g: (np.stack([g, g])[0], np.ones((3, 2))[:, 0], g),
    ],
    ids=["the same", "views", "stride 0", "float32", "to be summed", "fresh", "parts of others"],
)
def test_whatever_a_rule_returns(rule):
    @op
    def f(a, b, c):
        return a + b + c, rule

    a, b, c = leaf(3), leaf(3, seed=1), leaf(3, seed=2)
    y = f(a, b, c)
    y.backward(np.ones(3), retain_graph=True)  # an array of its own; under sum() it would be a view
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


def test_an_array_of_its_own_is_not_copied():
    fresh = []

    @op
    def watched(x):
        return x * 1, lambda g: fresh.append(g * 1) or fresh[-1]

    x = leaf(3)
    watched(x).sum().backward()
    assert x.grad is fresh[0]


def test_an_array_in_fortrans_order():
    @op
    def watched(x):
        return x * 1, lambda g: np.asfortranarray(g * 1)

    x = leaf(2, 3)
    watched(x).sum().backward()
    assert_fresh(x)


def test_from_the_third_gradient_on_they_are_added_in_place(monkeypatch):
    added = []

    def iadd(self, other):
        added.append(other)
        self.inner += other.inner
        return self

    monkeypatch.setattr(Foreign, "__iadd__", iadd)
    x = Tensor(Foreign(np.ones(3)), requires_grad=True)
    np.concatenate([x * float(i) for i in range(5)]).sum().backward()
    assert len(added) == 3
    assert x.grad.get().tolist() == [10.0] * 3


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
    assert "test_backward_safety.py:" in caught.value.__notes__[0]
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

"""Writes into memory that the tape needs, through any tensor: backward raises an error, as its result would
be wrong."""

import gc

import numpy as np
import pytest

from tinygen import Tensor, memory, no_grad, op, ops
from tinygen.nn import Parameter
from tinygen.optim import SGD

X = np.array([0.3, -1.2, 2.0, 0.7])


def leaf(x=X):
    return Tensor(np.array(x), requires_grad=True)


def by_detach(y):
    y.detach()[0] = 9.0


def by_a_view_of_detach(y):
    y.detach()[1:][0] = 9.0


def by_views_of_views(y):
    np.split(y.detach().reshape(2, 2).T, 2)[1][0, 0] = 9.0


def by_data(y):
    d = y.detach()
    d.data -= 1.0


def by_a_view_under_no_grad(y):
    with no_grad():
        part = y[:2]
    part[0] = 9.0


def by_parts_under_no_grad(y):
    with no_grad():
        _, part = np.split(y, 2)
    part[0] = 9.0


def by_its_array(y):
    Tensor(y.data)[0] = 9.0


def by_its_numpy_array(y):
    Tensor(y.numpy()[:2])[0] = 9.0


WRITES = [
    by_detach,
    by_a_view_of_detach,
    by_views_of_views,
    by_data,
    by_a_view_under_no_grad,
    by_parts_under_no_grad,
    by_its_array,
    by_its_numpy_array,
]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    "of",
    [
        lambda x: (lambda y: (y, y))(np.exp(x)),  # its own rule needs the value
        lambda x: (lambda y: (y, y * y))(x * 1.0),  # another's does
        lambda x: (lambda y: (y, np.sin(y)[1:]))(x + 0.0),
        lambda x: (lambda y: (y.reshape(2, 2).reshape(4), y))(np.exp(x)),  # a view of it is written into
        lambda x: (lambda y: (y, y.reshape(2, 2).T))(np.exp(x)),  # a view of it is used
    ],
)
def test_a_value_on_the_tape(write, of):
    x = leaf()
    y, used = of(x)
    loss = used.sum()
    write(y)
    with pytest.raises(RuntimeError, match="was written into between forward and backward"):
        loss.backward()
    assert x.grad is None


def test_whoever_holds_the_value_may_be_gone():
    def values(x):
        e = np.exp(x)
        return e.reshape(2, 2)[0].detach(), e.sum()

    detached, loss = values(leaf())
    detached[0] = 9.0
    with pytest.raises(RuntimeError, match="by way of a detached tensor or a view"):
        loss.backward()

    @op
    def halves(x):
        a, b = np.exp(x[:2]), np.exp(x[2:])
        return (a, b), lambda g: np.concatenate([g[0] * a, g[1] * b])

    a, b = halves(leaf())
    detached = b.detach()
    loss = a.sum()
    del a, b
    detached[0] = 9.0  # the one rule needs both
    with pytest.raises(RuntimeError, match="by way of a detached tensor or a view"):
        loss.backward()


@pytest.mark.parametrize("write", WRITES)
def test_a_leaf_and_a_constant(write):
    for requires_grad in (True, False):
        x, y = leaf(), Tensor(X.copy(), requires_grad=requires_grad)
        loss = (x * y).sum()
        write(y)
        with pytest.raises(RuntimeError, match=r"an input of `multiply` .* was written into"):
            loss.backward()
        assert x.grad is None


def test_a_view_that_is_used_of_a_constant_that_is_written():
    x, c = leaf(X[:2]), Tensor(X.copy())
    loss = (x * c[:2]).sum()
    c[1] = 9.0
    with pytest.raises(RuntimeError, match="was written into"):
        loss.backward()
    a = X.copy()
    loss = (x * Tensor(a[2:])).sum()  # two tensors of one array
    Tensor(a)[3] = 9.0
    with pytest.raises(RuntimeError, match="was written into"):
        loss.backward()


ONES = np.ones((2, 2, 4))


@pytest.mark.parametrize(
    "use",
    [
        lambda x, ids: x[ids],
        lambda x, ids: x.reshape(2, 2)[ids, ids],
        lambda x, ids: np.take(x, ids),
        lambda x, ids: np.take(x.reshape(4, 1), ids, axis=0),
        lambda x, ids: np.take_along_axis(x, ids, 0),
        lambda x, ids: ops.embedding(x.reshape(4, 1), ids),
        lambda x, ids: ops.scatter_add(x[:2], ids, (4,)),
        lambda x, ids: ops.cross_entropy(x.reshape(2, 2), ids),
        lambda x, ids: np.where(ids == 1, x[:2], 0.0) * ids,
        lambda x, ids: x[ids > 0] if ids.shape == (4,) else x[:2] ** ids,
    ],
)
def test_an_index_tensor(use):
    x, ids = leaf(), Tensor(np.array([1, 0]))
    loss = use(x, ids).sum()
    ids[0] = 0
    with pytest.raises(RuntimeError, match="was written into between forward and backward"):
        loss.backward()
    use(x, ids).sum().backward()


def test_a_mask():
    x, mask = leaf(), Tensor(X > 0)
    q = Tensor(ONES, requires_grad=True)
    seen = Tensor(np.ones((2, 2), bool))
    for loss, m in ((np.where(mask, x, 0.0), mask), (x[mask], mask), (ops.attention(q, q, q, seen), seen)):
        m[0] = m[0].numpy()
        with pytest.raises(RuntimeError, match="was written into"):
            loss.sum().backward()


def test_an_optimizers_step_and_what_does_not_matter():
    w, other = Parameter(X), Tensor(X.copy())
    y = np.exp(w * 2.0)
    kept, part, copied = y.detach(), y[:2], Tensor(y.numpy().copy())
    copied[0] = 9.0  # a copy
    other[0] = 9.0  # other memory
    y.sum().backward(retain_graph=True)
    assert kept.numpy()[0] == part.numpy()[0] == np.float32(np.exp(np.float32(0.6)))
    SGD([w], lr=0.1).step()
    with pytest.raises(RuntimeError, match="was written into"):
        y.sum().backward()
    kept[0] = 9.0
    (w * kept).sum().backward()  # written before it was used


def test_memory_is_forgotten_with_its_array():
    gc.collect()
    before = len(memory.KNOWN)
    tensors = [Tensor(np.ones(3)) for _ in range(10)]
    for t in tensors:
        t[0] = 2.0
        t[1:][0] = 3.0
    assert len(memory.KNOWN) == before + 10
    del tensors, t
    assert len(memory.KNOWN) == before


def test_writes_inside_a_checkpoint_and_before_a_replay():
    from tinygen import checkpoint, vjp

    x = leaf()
    y = np.exp(x)
    loss = checkpoint(lambda y: np.sin(y) * y, y).sum()
    y.detach()[0] = 9.0
    with pytest.raises(RuntimeError, match="was written into"):
        loss.backward()
    c = Tensor(X.copy())
    _, pull = vjp(lambda x: x * c, X)
    c[0] = 9.0
    with pytest.raises(RuntimeError, match="was written into"):
        pull(np.ones(4))

"""Numbers, copies, pickles and in-place operators of a Tensor: its graph is kept, or they are refused."""

import copy
import math
import operator
import pickle

import numpy as np
import pytest

from tinygen import Tensor, no_grad
from tinygen.nn import Buffer, Parameter


def leaf(*shape):
    return Tensor(np.random.default_rng(0).uniform(0.1, 0.9, shape), requires_grad=True)


CONVERSIONS = [
    float,
    int,
    complex,
    math.exp,
    math.sqrt,
    math.floor,
    "{:d}".format,
    "%.3f".__mod__,
    lambda x: np.fromiter((x for _ in range(2)), float),
    lambda x: operator.setitem(np.zeros(3), 0, x),
    lambda x: operator.setitem(np.zeros(3, np.int64), 0, x),
    lambda x: operator.setitem(np.zeros(3, complex), 0, x),
    lambda x: operator.setitem(np.zeros(3), slice(0, 1), x),
    lambda x: operator.setitem(np.zeros(3), slice(None), [x, x, x]),
    lambda x: np.zeros(3).fill(x),
    lambda x: np.zeros(3).put(0, x),
    lambda x: np.array([x, 1.0]),
    lambda x: np.float32(x),
    lambda x: np.full(3, x),
    lambda x: np.random.default_rng(0).normal(x),
    lambda x: [1, 2][x],
]


@pytest.mark.parametrize("convert", CONVERSIONS)
@pytest.mark.parametrize("make", [lambda: leaf(2)[0], lambda: leaf(), lambda: np.exp(leaf())])
def test_what_would_make_a_number_of_it_is_refused(convert, make):
    x = make()
    with pytest.raises((TypeError, ValueError)):
        convert(x)
    with no_grad(), pytest.raises((TypeError, ValueError)):
        convert(x)  # parameters within no_grad() too: one rule


def test_the_way_out_is_said_and_works():
    x = leaf(2)[0]
    with pytest.raises(TypeError, match=r"float\(\) of a tensor that requires grad .* t\.item\(\)"):
        math.exp(x)
    with pytest.raises(ValueError, match="sequence") as caught:
        np.zeros(3)[0] = x
    assert "t.item()" in str(caught.value.__cause__ or caught.value.__context__)
    out = np.zeros(2)
    out[0] = x.item()
    out[1] = float(x.detach())
    assert out[0] == out[1] == x.numpy()
    assert f"{x.item():.2f}" == f"{out[0]:.2f}"


def test_constants_are_numbers():
    assert float(Tensor(2.5)) == 2.5
    assert math.exp(Tensor(0.0)) == 1.0
    assert np.fromiter(Tensor([1.0, 2.0]), float).tolist() == [1, 2]
    assert int((leaf() > 5).sum()) == 0
    with no_grad():
        assert float(leaf() * 0) == 0.0


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_of_what_is_on_the_tape_keep_its_graph(duplicate):
    x = leaf(3)
    (duplicate(np.exp(x)) * 2).sum().backward()
    np.testing.assert_array_equal(x.grad, 2 * np.exp(x.numpy()))
    kept = duplicate({"y": [np.sin(x)]})
    kept["y"][0].sum().backward()
    np.testing.assert_array_equal(x.grad, 2 * np.exp(x.numpy()) + np.cos(x.numpy()))


def test_what_is_on_the_tape_is_not_pickled():
    with pytest.raises(TypeError, match=r"from exp, cannot be pickled .*: pickle t\.detach\(\)"):
        pickle.dumps({"losses": [np.exp(leaf(3))]})


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
@pytest.mark.parametrize("make", [lambda: leaf(3), lambda: Parameter(np.ones(3)), lambda: Buffer(np.ones(3))])
def test_leaves_and_their_own_copies(duplicate, make):
    x = make()
    x.grad = np.full(3, 2.0)
    y = duplicate(x)
    assert (type(y), y.requires_grad, y.dtype, y.grad.tolist()) == (
        type(x),
        x.requires_grad,
        x.dtype,
        [2] * 3,
    )
    assert not np.shares_memory(y.data, x.data)
    w = leaf(3)
    (y * 2 * w).sum().backward()
    assert x.grad.tolist() == [2] * 3
    twice = duplicate([x, x])
    assert twice[0] is twice[1]


def test_a_shallow_copy_of_a_leaf_is_refused_and_that_of_a_constant_shares_memory():
    with pytest.raises(TypeError, match=r"copy\.deepcopy\(t\) is another leaf"):
        copy.copy(leaf(3))
    constant = Buffer(np.ones(3))
    other = copy.copy(constant)
    assert type(other) is Buffer
    assert np.shares_memory(other.data, constant.data)


IN_PLACE = ["iadd", "isub", "imul", "itruediv", "ipow", "imatmul", "ifloordiv", "imod", "iand", "ior", "ixor"]


@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.parametrize("make", [lambda: leaf(3), lambda: Parameter(np.ones(3))])
def test_an_in_place_operator_on_a_leaf_is_refused(name, make):
    x = make()
    with pytest.raises(TypeError, match=r"\.grad stays None: .* x\.data \+= \.\.\. to update"):
        getattr(operator, name)(x, np.ones(3))
    with no_grad(), pytest.raises(TypeError, match="stays None"):
        getattr(operator, name)(x, np.ones(3))  # w -= lr * w.grad would train nothing
    assert x.version == 0


def test_an_in_place_operator_on_anything_else_makes_a_new_tensor():
    x = leaf(3)
    y = before = x * 2
    y += x
    assert y is not before
    y.sum().backward()
    assert x.grad.tolist() == [3, 3, 3]
    total = Tensor(0.0)
    for _ in range(2):
        total += np.sum(x)
    x.grad = None
    total.backward()
    assert x.grad.tolist() == [2, 2, 2]
    constant = same = Tensor(np.ones(3))
    constant += 1.0
    assert same.numpy().tolist() == [1, 1, 1]
    same[0] += 1.0
    assert same.numpy().tolist() == [2, 1, 1]


def test_the_setter_advises_something_that_works():
    y = leaf(3) * 2
    with pytest.raises(RuntimeError, match=r"a copy of its values: Tensor\(t\.numpy\(\)\.copy\(\)\)"):
        y.data = np.ones(3)
    written = Tensor(y.numpy().copy())
    written[0] = 9.0
    y.sum().backward()


@pytest.mark.parametrize("value", [np.ones(3), [1.0, 2.0, 3.0], np.ones(3, np.float16), np.arange(3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tensor_keeps_its_dtype_when_data_is_assigned(value, dtype):
    for x in (Parameter(np.zeros(3), dtype), Tensor(np.zeros(3, dtype)), Buffer(np.zeros(3, dtype))):
        x.data = value
        assert x.dtype == dtype
        np.testing.assert_array_equal(x.numpy(), np.asarray(value))
        x.data = x.data * np.float64(2) + np.ones(3)
        assert x.dtype == dtype


def test_numbers_of_another_kind_are_not_assigned():
    steps = Tensor(np.zeros(2, np.int64))
    with pytest.raises(TypeError, match="cannot assign float64 data to a tensor of int64, which keeps"):
        steps.data = np.array([0.5, 1.0])
    with pytest.raises(TypeError, match="cannot assign complex128 data"):
        leaf(2).data = np.ones(2) * 1j
    steps.data = np.array([1, 2], np.int32)
    assert steps.dtype == np.int64

"""Tensor: construction, dtypes, NumPy's and Python's protocols, and moving between devices."""

import operator
import sys
import types

import numpy as np
import pytest
from foreign import Foreign

from tinygen import Tensor, no_grad, ops
from tinygen.arrays import device_of, to_device
from tinygen.tensor import IMPLEMENTS


def leaf(*shape):
    return Tensor(np.random.default_rng(0).normal(size=shape), requires_grad=True)


# -- construction ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, np.float32),
        (2, np.int64),
        (True, np.bool_),
        ([1.0, 2.0], np.float32),
        ([1, 2], np.int64),
        ([True, False], np.bool_),
        ([[1, 2.5], [3, 4]], np.float32),
        (np.float64(1.5), np.float32),
        (np.float32(1.5), np.float32),
        (np.int16(1), np.int16),
        ([], np.float32),
        (np.ones(2), np.float64),
        (np.ones(2, np.float16), np.float16),
        (np.ones((), np.float64), np.float64),
        (range(3), np.int64),
    ],
    ids=repr,
)
def test_dtypes(data, dtype):
    assert Tensor(data).dtype == dtype


def test_a_dtype_that_is_asked_for():
    assert Tensor([1.0], dtype=np.float64).dtype == np.float64
    assert Tensor([1, 2], dtype=np.float32).dtype == np.float32
    assert Tensor(np.ones(2), dtype=np.float32).dtype == np.float32


def test_arrays_are_not_copied():
    a = np.ones(3)
    assert Tensor(a).data is a
    assert Tensor(a, dtype=np.float64).data is a
    assert np.shares_memory(Tensor(a).numpy(), a)


@pytest.mark.parametrize("data", ["ab", ["a"], [None], [{}]], ids=repr)
def test_what_is_not_numbers(data):
    with pytest.raises(TypeError, match=r"cannot make a tensor of .* data: numbers or bools are needed"):
        Tensor(data)


def test_a_tensor_of_a_tensor():
    with pytest.raises(TypeError, match=r"this is a Tensor already: use t\.detach\(\)"):
        Tensor(Tensor([1.0]))


@pytest.mark.parametrize("data", [1, [True], np.arange(3)], ids=repr)
def test_only_floats_have_gradients(data):
    with pytest.raises(TypeError, match="only floating-point tensors have gradients"):
        Tensor(data, requires_grad=True)


def test_properties():
    x = Tensor(np.ones((2, 0, 3), np.float32))
    assert (x.shape, x.ndim, x.size, x.dtype, x.device) == ((2, 0, 3), 3, 0, np.float32, "cpu")
    assert not x.requires_grad
    assert x.grad is None
    assert Tensor([[2.5]]).item() == 2.5
    assert type(Tensor([[2.5]]).item()) is float


def test_repr():
    x = leaf(2)
    x.data = np.array([1.0, 2.0])
    assert repr(x) == "Tensor([1., 2.], dtype=float64, requires_grad=True)"
    assert repr(x * 2) == "Tensor([2., 4.], dtype=float64, from multiply)"
    assert repr(Tensor([1.0])) == "Tensor([1.])"
    assert repr(Tensor(np.arange(3))) == "Tensor([0, 1, 2], dtype=int64)"
    assert len(repr(Tensor(np.ones((1000, 1000))))) < 1000
    assert repr(Tensor(np.ones((20, 6)))).endswith("[1., 1., 1., 1., 1., 1.]], shape=(20, 6), dtype=float64)")
    assert repr(np.split(x, 2)[0]) == "Tensor([1.], dtype=float64, from pick)"


def test_detach_shares_the_values():
    x = leaf(3)
    y = (x * 1).detach()
    assert not y.requires_grad
    assert x.detach().data is x.data


# -- writing ---------------------------------------------------------------------------------------


def test_numbers_are_assigned_with_all_their_digits():
    """Also a NumPy scalar, as an operation on 0-d arrays returns it."""
    t = Tensor(np.array(1.0), requires_grad=True)
    t.data = t.data + np.log(100)
    assert t.item() == 1 + np.log(100)
    t.data = 0.1
    assert t.item() == 0.1
    t = Tensor(np.zeros(2))
    t.data = [0.1, 0.7]
    assert t.numpy().tolist() == [0.1, 0.7]
    with pytest.raises(TypeError, match="cannot assign float64 data to a tensor of int64"):
        Tensor(np.array(1)).data = np.float64(2)


def test_assigning_data():
    x = leaf(2)
    x.data = [1.0, 2.0]
    assert x.numpy().tolist() == [1.0, 2.0]
    before = x.version
    x.data -= 1.0
    assert x.numpy().tolist() == [0.0, 1.0]
    assert x.version > before > 0
    with pytest.raises(ValueError, match=r"cannot assign data of shape \(3,\) to shape \(2,\)"):
        x.data = np.ones(3)
    with pytest.raises(TypeError, match="this is a Tensor already"):
        x.data = Tensor([1.0, 2.0])


def test_what_was_computed_cannot_be_written():
    y = leaf(2) * 2
    with pytest.raises(RuntimeError, match=r"cannot write into a tensor that was computed on the tape"):
        y.data = np.ones(2)
    with pytest.raises(RuntimeError):
        y.data -= 1.0


def test_assigning_entries():
    x = Tensor(np.zeros((2, 3)))
    x[0, 1:] = [1.0, 2.0]
    x[1] = Tensor([3.0, 4.0, 5.0])
    x[Tensor([1]), 0] = 9.0
    assert x.numpy().tolist() == [[0, 1, 2], [9, 4, 5]]


@pytest.mark.parametrize("make", [lambda: leaf(2), lambda: leaf(2) * 2])
def test_entries_of_what_requires_grad_are_not_assigned(make):
    x = make()
    with pytest.raises(TypeError, match=r"np\.where or tinygen\.ops\.scatter_add"):
        x[0] = 1.0
    with no_grad(), pytest.raises(TypeError, match=r"assign to t\.data"):
        x[0] = 1.0


def test_what_requires_grad_is_not_assigned_into_a_constant():
    """The constant would hold its values and not its graph."""
    cache, x = Tensor(np.zeros(2)), leaf()
    with pytest.raises(TypeError, match=r"would drop its graph: .* or assign value\.detach\(\)"):
        cache[0] = x * 2
    assert cache.version == 0
    cache[0] = x.detach()
    assert cache[0] == x.data


# -- NumPy's protocols -----------------------------------------------------------------------------


def test_an_array_on_the_left_keeps_the_graph():
    x = leaf(3)
    a = np.ones(3)
    for y in (
        a + x,
        a - x,
        a * x,
        a / x,
        a**x,
        np.ones((2, 3)) @ x,
        np.float64(2) * x,
        np.float32(2) - x,
        a < x,
    ):
        assert isinstance(y, Tensor)
        assert y.requires_grad == (y.dtype != bool)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: np.copyto(np.ones(3), x), "np.copyto"),
        (lambda x: np.put_along_axis(x, np.zeros(1, int), 1.0, 0), "np.put_along_axis"),
    ],
)
def test_numpy_functions_without_a_rule_are_named(call, name):
    with pytest.raises(TypeError, match=f"^{name} has no gradient rule in tinygen"):
        call(leaf(3))
    with pytest.raises(TypeError, match=f"^{name} has no gradient rule in tinygen"):
        call(Tensor(np.ones(3)))  # whether or not a gradient is wanted


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda x: np.exp(x, where=np.array([True, False, True])), "where"),
        (lambda x: np.cumsum(x, out=np.zeros(3)), "out"),
        (lambda x: np.concatenate([x, x], out=np.zeros(6)), "out"),
        (lambda x: np.clip(x, 0, 1, out=np.zeros(3)), "out"),
    ],
)
def test_arguments_that_would_write_or_hide_something_are_refused(call, argument):
    x = leaf(3)
    before = x.numpy().copy()
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{argument}'|cannot write"):
        call(x)
    np.testing.assert_array_equal(x.numpy(), before)


@pytest.mark.parametrize(
    "call",
    [
        lambda a, x: operator.iadd(a, x),
        lambda a, x: np.add(x, x, out=a),
        lambda a, x: np.add(a, 1.0, out=x),
        lambda a, x: np.add(a, 1.0, out=x.detach()),
        lambda a, x: operator.iadd(a, x.detach()),
    ],
)
def test_an_array_does_not_take_a_tensor_in_place(call):
    a, x = np.ones(3), leaf(3)
    before = x.numpy().copy()
    with pytest.raises(TypeError, match=r"^np\.add cannot write into an array .* `array = array \+ tensor`$"):
        call(a, x)
    np.testing.assert_array_equal(a, 1.0)
    np.testing.assert_array_equal(x.numpy(), before)


def test_asarray():
    x = leaf(3)
    for convert in (np.asarray, np.array, np.ascontiguousarray, lambda t: np.zeros(3) + np.asarray(t)):
        with pytest.raises(TypeError, match=r"would drop its graph: use t\.numpy\(\)"):
            convert(x)
    with pytest.raises(TypeError, match="would drop its graph"):
        np.zeros(3)[:] = x  # what writes a tensor into an array goes the same way
    constant = Tensor(np.ones(3))
    assert np.asarray(constant) is not constant
    assert np.asarray(constant, dtype=np.float32).dtype == np.float32
    assert np.shares_memory(np.asarray(constant), constant.data)
    assert not np.shares_memory(np.array(constant, copy=True), constant.data)
    with pytest.raises(ValueError, match="copy"):
        np.asarray(constant, dtype=np.float32, copy=False)


def test_a_list_of_tensors_is_no_array():
    x = leaf(3)
    with pytest.raises(TypeError, match="would drop its graph"):
        Tensor([x[0], x[1]])
    with pytest.raises(TypeError, match="would drop its graph"):
        np.array([x[0], x[1]])


def test_shape_and_ndim():
    assert np.shape(leaf(2, 3)) == (2, 3)
    assert np.ndim(leaf(2, 3)) == 2


def test_constants_like_a_tensor():
    x = leaf(2, 3)
    assert np.zeros_like(x).numpy().tolist() == [[0, 0, 0], [0, 0, 0]]
    ones = np.ones_like(x, dtype=bool, shape=(2,))
    assert (ones.dtype, ones.shape, ones.requires_grad) == (bool, (2,), False)


# -- DLPack --------------------------------------------------------------------------------------


def test_a_constant_is_handed_over_with_its_memory():
    x = Tensor(np.arange(6.0).reshape(2, 3).T)
    y = np.from_dlpack(x)
    assert y.dtype == np.float64
    assert np.shares_memory(y, x.data)
    np.testing.assert_array_equal(y, x.data)
    assert not np.shares_memory(np.from_dlpack(x, copy=True), x.data)
    assert x.__dlpack_device__() == (1, 0)  # the CPU


@pytest.mark.parametrize("make", [lambda: leaf(3), lambda: leaf(3) * 2])
def test_what_requires_grad_is_not_handed_over(make):
    x = make()
    with pytest.raises(BufferError, match=r"hand over t\.detach\(\) instead"):
        np.from_dlpack(x)
    np.testing.assert_array_equal(np.from_dlpack(x.detach()), x.numpy())


class Other:
    """An array of another library: it speaks DLPack and nothing else."""

    def __init__(self, array, error=None):
        self.array, self.error = array, error

    def __dlpack__(self, **kwargs):
        if self.error:
            raise self.error
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_another_librarys_array_is_taken_with_its_memory_and_dtype():
    a = np.ones(3)
    x = Tensor(Other(a), requires_grad=True)
    assert x.dtype == np.float64
    assert np.shares_memory(x.data, a)
    assert Tensor(Other(a), dtype=np.float32).dtype == np.float32
    assert Tensor(Other(a * 1j)).dtype == np.complex128
    for error in (BufferError("on a tape"), RuntimeError("on another device")):
        with pytest.raises(TypeError, match=rf"a tensor of this \S*Other: {error}"):
            Tensor(Other(a, error))


def test_torch_and_back():
    torch = pytest.importorskip("torch")
    a = torch.arange(6.0, dtype=torch.float64).reshape(2, 3).T
    x = Tensor(a, requires_grad=True)
    assert (x.dtype, x.shape) == (np.float64, (3, 2))
    assert x.numpy().ctypes.data == a.data_ptr()
    np.testing.assert_array_equal(x.numpy(), a.numpy())
    for dtype in (torch.float32, torch.int64, torch.bool, torch.float16):
        b = torch.ones(2, dtype=dtype)
        y = torch.from_dlpack(Tensor(b))
        assert y.dtype == dtype
        assert y.data_ptr() == b.data_ptr()
    x.data[0, 0] = 7.0
    assert a[0, 0] == 7.0
    for convert in (torch.from_dlpack, torch.as_tensor, torch.tensor):
        with pytest.raises((BufferError, TypeError), match="graph"):
            convert(x)
        assert torch.equal(convert(x.detach()), a)
    with pytest.raises(TypeError, match=r"this torch\.Tensor: Can't export tensors that require grad"):
        Tensor(torch.ones(2, requires_grad=True))
    with pytest.raises(TypeError, match=r"this torch\.Tensor: Unsupported dtype"):
        Tensor(torch.ones(2, dtype=torch.bfloat16))
    with pytest.raises(TypeError, match=r"add\(.*cannot compute with a torch\.Tensor; Tensor\(x\) shares"):
        Tensor(np.ones(2)) + torch.ones(2)


# -- Python's protocols ----------------------------------------------------------------------------


@pytest.mark.parametrize("symbol", ["add", "sub", "mul", "truediv", "pow"])
def test_operators(symbol):
    f = getattr(operator, symbol)
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    a = np.array([3.0, 0.5])
    np.testing.assert_array_equal(f(x, a).numpy(), f(x.data, a))
    np.testing.assert_array_equal(f(a, x).numpy(), f(a, x.data))
    np.testing.assert_array_equal(f(x, 2).numpy(), f(x.data, 2))
    np.testing.assert_array_equal(f(2, x).numpy(), f(2, x.data))
    np.testing.assert_array_equal(f(x, Tensor(a)).numpy(), f(x.data, a))


@pytest.mark.parametrize("symbol", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_comparisons(symbol):
    f = getattr(operator, symbol)
    x, a = leaf(3), np.array([0.0, 5.0, -5.0])
    for left, right in ((x, a), (a, x), (x, 0.0), (0.0, x), (x, Tensor(a)), (x, x)):
        plain = [t.data if isinstance(t, Tensor) else t for t in (left, right)]
        result = f(left, right)
        assert result.dtype == bool
        assert not result.requires_grad
        np.testing.assert_array_equal(result.numpy(), f(*plain))


def test_other_operators():
    x = leaf(2, 3)
    np.testing.assert_array_equal((-x).numpy(), -x.data)
    np.testing.assert_array_equal(abs(x).numpy(), abs(x.data))
    np.testing.assert_array_equal((x @ x.T).numpy(), x.data @ x.data.T)
    np.testing.assert_array_equal((np.ones(2) @ x).numpy(), np.ones(2) @ x.data)
    mask = (x > 0) | ~(x > -1) & (x < 0)
    np.testing.assert_array_equal(mask.numpy(), (x.data > 0) | ~(x.data > -1) & (x.data < 0))


def test_methods():
    x = leaf(2, 1, 3)
    for name, arguments in [
        ("sum", (0,)),
        ("mean", (-1,)),
        ("var", ()),
        ("max", (2,)),
        ("min", ()),
        ("argmax", (2,)),
        ("cumsum", (0,)),
        ("squeeze", (1,)),
        ("swapaxes", (0, 2)),
        ("reshape", (3, 2)),
        ("reshape", ((2, -1),)),
        ("transpose", ()),
        ("transpose", (1, 0, 2)),
        ("transpose", ((1, 0, 2),)),
        ("astype", (np.float32,)),
    ]:
        result = getattr(x, name)(*arguments)
        np.testing.assert_allclose(result.numpy(), getattr(x.data, name)(*arguments), rtol=1e-6)
    np.testing.assert_array_equal(x.T.numpy(), x.data.T)


def test_len_and_iteration():
    x = leaf(3, 2)
    assert len(x) == 3
    rows = list(x)
    assert [row.shape for row in rows] == [(2,)] * 3
    sum(rows).sum().backward()
    assert x.grad.tolist() == [[1, 1]] * 3
    with pytest.raises(TypeError, match=r"cannot iterate over a tensor of shape \(\)"):
        iter(Tensor(1.0))
    with pytest.raises(TypeError, match="unsized"):
        len(Tensor(1.0))
    a, b = np.split(leaf(2), 2)
    assert a.shape == b.shape == (1,)


def test_numbers():
    assert float(Tensor(2.5)) == 2.5
    assert int(Tensor(2.5)) == 2
    assert [10, 20, 30][Tensor(1)] == 20
    assert list(range(Tensor(3))) == [0, 1, 2]
    assert bool(Tensor(1.0))
    assert not bool(Tensor([False]))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(Tensor([1.0, 2.0]))
    with pytest.raises(TypeError):
        [1, 2][Tensor(1.5)]


def test_a_tensor_is_itself_as_a_key():
    x, y = Tensor([1.0]), Tensor([1.0])
    assert {x: "x", y: "y"}[x] == "x"
    assert len({x, y, x}) == 2


# -- devices ---------------------------------------------------------------------------------------


@pytest.fixture
def cupy(monkeypatch):
    """A module that stands in for CuPy."""
    module = types.ModuleType("cupy")
    module.asarray = Foreign
    module.cuda = types.SimpleNamespace(is_available=lambda: True)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def test_there_and_back(cupy):
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    there = x.to("cuda")
    assert type(there.data) is Foreign
    assert there.device == "cuda"
    assert there.requires_grad
    assert there.to("cuda") is there
    np.testing.assert_array_equal(there.numpy(), x.data)
    back = there.to("cpu")
    assert type(back.data) is np.ndarray
    assert back.device == "cpu"
    assert x.to("cpu") is x


def test_training_on_the_other_device(cupy):
    w = Tensor(np.array([1.0, 2.0])).to("cuda")
    w.requires_grad = True
    x = Tensor(np.array([3.0, 5.0])).to("cuda")
    (w * x).sum().backward()
    assert type(w.grad) is Foreign
    assert w.grad.get().tolist() == [3.0, 5.0]
    w.data -= w.grad * 0.1
    assert "cuda" in w.device
    assert repr(w).startswith("Tensor([0.7, 1.5]")
    with pytest.raises(TypeError, match=r"^multiply.*arrays on cpu and on cuda do not mix"):
        w * np.ones(2)


def test_arrays_between_devices(cupy):
    a = np.ones(2)
    assert to_device(a, "cpu") is a
    there = to_device(a, "cuda")
    assert (device_of(a), device_of(there)) == ("cpu", "cuda")
    assert to_device(there, "cuda") is there


def test_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it fails
    with pytest.raises(RuntimeError, match='device "cuda" needs CuPy: pip install'):
        Tensor([1.0]).to("cuda")


def test_an_unknown_device():
    with pytest.raises(ValueError, match='unknown device \'gpu\': use "cpu" or "cuda"'):
        Tensor([1.0]).to("gpu")


@pytest.mark.parametrize("symbol", ["and_", "or_", "xor"])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_operators_on_bits_are_numpys(symbol, dtype):
    """Bitwise for integers, logical for bools."""
    f = getattr(operator, symbol)
    a, b = (np.array(x).astype(dtype) for x in ([1, 2, 3, 0], [4, 6, 1, 0]))
    for left, right in ((Tensor(a), Tensor(b)), (Tensor(a), b), (a, Tensor(b)), (Tensor(a), b[0].item())):
        plain = [t.data if isinstance(t, Tensor) else t for t in (left, right)]
        result = f(left, right)
        assert isinstance(result, Tensor)
        assert result.dtype == f(*plain).dtype
        np.testing.assert_array_equal(result.numpy(), f(*plain))
    np.testing.assert_array_equal((~Tensor(a)).numpy(), ~a)
    with pytest.raises(TypeError):
        f(leaf(4), b)


def test_operators_and_methods_are_the_ops_themselves():
    assert Tensor.__add__ is ops.add
    assert Tensor.__matmul__ is ops.matmul
    assert Tensor.__getitem__ is ops.getitem
    assert Tensor.swapaxes is ops.swapaxes
    assert Tensor.sum is IMPLEMENTS[np.sum]
    assert Tensor.__hash__ is object.__hash__
    assert Tensor.__doc__.startswith("An n-dimensional array")

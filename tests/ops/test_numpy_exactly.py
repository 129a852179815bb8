"""NumPy's functions on Tensors, where the gradient can be said exactly: ties, zeros, edges; then ndarray's
methods, Python's operators, and what errors say to those who come from PyTorch."""

import operator
import pickle

import numpy as np
import pytest

import tinygen
from tinygen import Tensor, ops

X = np.array([[0.3, -1.2, 2.0], [0.7, 0.1, -0.4]])


def leaf(values=X, dtype=np.float64):
    return Tensor(np.array(values, dtype=dtype), requires_grad=True)


def gradient(f, values):
    x = leaf(values)
    y = f(x)
    (y * np.arange(1.0, y.size + 1).reshape(y.shape)).sum().backward()  # weights 1, 2, 3, ...
    return x.grad.tolist()


@pytest.mark.parametrize(
    ("f", "values", "expected"),
    [
        (np.sort, [3.0, 1.0, 3.0, 2.0], [3, 1, 4, 2]),  # equal ones stay in order
        (np.unique, [2.0, 1.0, 2.0], [2, 1, 0]),  # the first of equals
        (np.prod, [0.0, 2.0, 3.0], [6, 0, 0]),
        (np.prod, [0.0, 2.0, 0.0], [0, 0, 0]),
        (np.cumprod, [2.0, 0.0, 3.0], [1, 2 * 2 + 3 * 6, 0]),
        (np.prod, [1e-200, 1e-200, 1.0], [1e-200, 1e-200, 0]),
        (np.median, [1.0, 3.0, 2.0, 9.0], [0, 0.5, 0.5, 0]),
        (lambda x: np.quantile(x, 0.25), [1.0, 3.0, 2.0], [0.5, 0, 0.5]),
        (lambda x: np.trim_zeros(x), [0.0, 5.0, 0.0, 6.0, 0.0], [0, 1, 2, 3, 0]),
        (lambda x: np.intersect1d(x, [1.0, 2.0]), [2.0, 1.0, 3.0], [2, 1, 0]),
        (lambda x: np.setdiff1d(x, [1.0]), [2.0, 1.0, 3.0], [1, 0, 2]),
        (lambda x: np.setxor1d(x, [1.0, 7.0]), [2.0, 1.0, 3.0], [1, 0, 2]),
        (lambda x: np.logaddexp(x, -np.inf), [-np.inf, 1.0], [0.5, 2]),
        (lambda x: np.hypot(x, 0.0), [0.0, -2.0], [0, -2]),
        (lambda x: np.fmax(x, 1.0), [1.0, 2.0, np.nan], [0.5, 2, 0]),
        (lambda x: np.clip(x, 0.0, 1.0), [0.0, 0.5, 2.0], [1, 2, 0]),
        (lambda x: np.nan_to_num(x), [np.nan, np.inf, 1.0], [0, 0, 3]),
        (lambda x: np.maximum.accumulate(x), [1.0, 3.0, 2.0], [1, 5, 0]),
        (lambda x: np.diag(x, 1), [5.0, 6.0], [2, 6]),
        (lambda x: np.resize(x, 5), [1.0, 2.0], [9, 6]),
        (lambda x: np.poly1d(x)(2.0).reshape(1), [1.0, 1.0, 1.0], [4, 2, 1]),
        (lambda x: np.interp(x, [0.0, 1.0, 3.0], [0.0, 5.0, 5.0]), [0.5, 2.0, 9.0], [5, 0, 0]),
        (lambda x: np.nanmax(x, axis=0), [[np.nan, 1.0], [2.0, np.nan]], [[0, 2], [1, 0]]),
        (lambda x: np.where(x > 0)[0] * x[0], [1.0, -1.0, 1.0], [0 * 1 + 2 * 2, 0, 0]),
    ],
)
def test_gradients_that_are_known(f, values, expected):
    np.testing.assert_allclose(gradient(f, values), expected, rtol=1e-15)


def test_quantiles_of_infinities():
    for values in ([1.0, np.inf, np.inf], [-np.inf, 1.0, 2.0, 3.0], [np.inf, np.inf], [1.0, np.nan]):
        for q in (0.0, 0.25, 0.5, 1.0):
            with np.errstate(all="ignore"):
                expected = np.quantile(values, q)
            if np.isnan(values).any() or not np.isnan(expected):  # NumPy multiplies infinity by 0
                np.testing.assert_equal(np.quantile(leaf(values), q).item(), expected)
    assert np.quantile(leaf([1.0, np.inf]), 0.0).item() == 1.0


def test_long_products_are_not_slow_or_deep():
    x = Tensor(np.full(3000, 1.0001), requires_grad=True)
    np.cumprod(x)[-1].backward()
    np.testing.assert_allclose(x.grad, 1.0001**2999, rtol=1e-10)


def test_what_nothing_flowed_through_is_a_constant():
    assert not np.max(leaf(np.zeros((0, 2))), axis=0, initial=1.5).requires_grad
    assert np.isnan(np.median(leaf(np.zeros((2, 0))), axis=1)).tolist() == [True, True]
    y = np.full_like(leaf(), 2.0)
    assert isinstance(y, Tensor)
    assert not y.requires_grad


def test_arrays_as_masks():
    """`where` may be an array of NumPy's, a list, or a Tensor."""
    mask = X > 0
    for where in (mask, mask.tolist(), Tensor(mask)):
        for f in (np.sum, np.mean, np.var, np.std, np.prod):
            for axis in (None, 1):
                np.testing.assert_allclose(
                    f(leaf(), axis=axis, where=where).numpy(), f(X, axis=axis, where=mask)
                )
        assert np.max(leaf(), where=where, initial=-9.0).item() == 2.0


def test_dtypes():
    x = leaf(dtype=np.float32)
    y = np.multiply(x, x, dtype=np.float64, casting="same_kind", where=True)
    assert y.dtype == np.float64
    assert y.tolist() == np.multiply(x.numpy(), x.numpy(), dtype=np.float64).tolist()
    for y in (
        np.median(x),
        np.quantile(x, 0.3),
        np.std(x),
        np.average(x, weights=X),
        np.diff(x),
        np.pad(x, 1, "mean"),
    ):
        assert y.dtype == np.float32
    assert np.sum(x, dtype=np.float64).dtype == np.float64
    for y in (np.add.reduce, np.add.accumulate, lambda x, dtype: np.add.reduceat(x, [0, 1], dtype=dtype)):
        assert y(x, dtype=np.float64).dtype == np.float64
        assert y(x, dtype=None).dtype == np.float32
    for f in (
        np.prod,
        np.cumprod,
        np.cumsum,
        np.nansum,
        np.mean,
        np.var,
        np.std,
        np.trace,
        np.stack,
        np.vstack,
    ):
        assert f(x, dtype=np.float64).dtype == np.float64
        assert f(x).dtype == np.float32
    assert np.mean(Tensor(np.arange(4))).dtype == np.float32
    assert np.prod(Tensor(np.arange(1, 4))).item() == 6
    assert np.sort(Tensor(np.array([3, 1]))).dtype == np.int64
    assert np.median(Tensor(np.array([3, 1]))).item() == 2.0


Z = np.array([0.3 + 0.4j, -0.7 - 1.1j, 1.2 + 0.2j])


@pytest.mark.parametrize(
    "f",
    [
        *(np.log2, np.log10, np.exp2, np.tan, np.sinh, np.cosh, np.arcsin, np.arccos, np.arctan, np.arcsinh),
        *(np.arccosh, np.arctanh, np.prod, np.cumprod, np.sort, np.copy, np.diff, np.nan_to_num, np.std),
        lambda z: np.convolve(z, np.array([1.0, 2.0j])),
        lambda z: np.correlate(z, z[:2] * (1 + 2j)),
        lambda z: np.correlate(z[:2], z * 1j, "same"),
        lambda z: np.cov(np.stack([z, z * z])),
        lambda z: np.var(z, where=np.array([True, False, True])),
        lambda z: np.trapezoid(z, np.array([0.0, 1.0, 3.0])),
        lambda z: np.sort_complex(np.real(z)),
        lambda z: np.roots(np.concatenate([z, [0.0]])),
        lambda z: np.roots(np.real(z)),
    ],
)
def test_complex_numbers(f):
    """NumPy's value; and the gradient ∂L/∂x + i ∂L/∂y of L = Re <w, f(z)> beside differences."""

    def loss(z):
        y = f(z)
        return (np.real(y) * np.cos(np.arange(y.size)).reshape(y.shape)).sum() - np.imag(y).sum()

    z = Tensor(Z, requires_grad=True)
    np.testing.assert_allclose(f(z).numpy(), f(Z), rtol=1e-12)
    loss(z).backward()
    h = 1e-6
    for k in range(3):
        e = h * (np.arange(3) == k)
        along = [(loss(Z + s * e) - loss(Z - s * e)) / (2 * h) for s in (1, 1j)]
        assert z.grad[k] == pytest.approx(complex(*along), rel=1e-6, abs=1e-8)


# -- methods and operators -------------------------------------------------------------------------

METHODS = {
    "all": lambda x: (x > 0).all(axis=1),
    "any": lambda x: (x > 1).any(),
    "argmax": lambda x: x.argmax(axis=0, keepdims=True),
    "argmin": lambda x: x.argmin(),
    "argsort": lambda x: x.argsort(axis=0),
    "argpartition": lambda x: x.argpartition(1)[:, 1],
    "astype": lambda x: x.astype(np.float32),
    "choose": lambda x: (x > 0).astype(int).choose([5.0, x]),
    "clip": lambda x: x.clip(-0.5, max=0.5),
    "compress": lambda x: x.compress([True, False, True], axis=1),
    "conj": lambda x: x.conj(),
    "copy": lambda x: x.copy(),
    "cumprod": lambda x: x.cumprod(axis=1),
    "cumsum": lambda x: x.cumsum(0),
    "diagonal": lambda x: x.diagonal(1),
    "dot": lambda x: x.dot(x.T),
    "flatten": lambda x: x.flatten(),
    "item": lambda x: x[0, 0].item(),
    "itemsize": lambda x: x.itemsize,
    "max": lambda x: x.max(axis=1, keepdims=True),
    "mean": lambda x: x.mean(axis=(0, 1), keepdims=True),
    "min": lambda x: x.min(0),
    "mT": lambda x: x.mT,
    "nbytes": lambda x: x.nbytes,
    "nonzero": lambda x: x.nonzero()[1],
    "prod": lambda x: x.prod(axis=-1),
    "ravel": lambda x: x.ravel(order="F"),
    "repeat": lambda x: x.repeat(2, axis=0),
    "reshape": lambda x: x.reshape(3, 2, order="F"),
    "round": lambda x: x.round(),
    "searchsorted": lambda x: x[0].searchsorted(0.5),
    "squeeze": lambda x: x[None].squeeze(0),
    "std": lambda x: x.std(axis=0, ddof=1),
    "strides": lambda x: x.strides,
    "sum": lambda x: x.sum(axis=1, where=x > 0, keepdims=True),
    "take": lambda x: x.take([0, 2], axis=1),
    "tobytes": lambda x: x.tobytes(),
    "tolist": lambda x: x.tolist(),
    "trace": lambda x: x.trace(),
    "transpose": lambda x: x.transpose(),
    "var": lambda x: x.var(axis=1, ddof=1),
    "+": lambda x: +x,
    "//": lambda x: x // 0.7 + 2 // x,
    "%": lambda x: x % 0.7 - 2 % x,
    "divmod": lambda x: divmod(x, 0.7)[1] + divmod(2, x)[0],
    "**": lambda x: pow(abs(x), 1.5) + 2**x,
    "~": lambda x: ~(x > 0),
    "^": lambda x: (x > 0) ^ (x > 1),
    "&": lambda x: True & (x > 0) | (x > 1),
    "<<": lambda x: np.array([1, 2, 3]) << (x > 0).astype(int),
    ">>": lambda x: (x > 0).astype(int) >> 1,
    "in": lambda x: (2.0 in x, 9.0 in x),
    "@": lambda x: x.T @ x,
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_and_operators_are_ndarrays(name):
    value, expected = METHODS[name](leaf()), METHODS[name](X)
    if isinstance(expected, np.ndarray | np.generic):
        assert isinstance(value, Tensor)
        assert value.dtype == expected.dtype
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-15)
    else:
        assert value == expected


@pytest.mark.parametrize(
    "bits", [operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift]
)
def test_bits_of_whole_numbers(bits):
    a, b = np.array([6, 5, 3]), np.array([3, 1, 2])
    assert bits(Tensor(a), b).tolist() == bits(a, b).tolist()
    assert bits(a, Tensor(b)).tolist() == bits(a, b).tolist()
    with pytest.raises(TypeError):
        bits(leaf(), leaf())
    assert (~Tensor(a)).tolist() == (~a).tolist()


def test_numbers_in_texts():
    loss = leaf(1.23456)
    assert f"{loss:.3f}" == "1.235"
    assert f"{loss[None, None]:8.2e}" == "1.23e+00"
    assert f"{leaf([1.0, 2.0])}" == str(leaf([1.0, 2.0]))
    assert round(loss, 2) == 1.23
    assert round(loss) == 1
    assert round(leaf(X), 1).tolist() == X.round(1).tolist()
    with pytest.raises(TypeError, match=r"one number, this tensor has shape \(2, 3\)"):
        f"{leaf():.3f}"


@pytest.mark.parametrize(
    "name", ["sort", "partition", "fill", "put", "resize", "byteswap", "setfield", "setflags"]
)
def test_methods_that_write_in_place_say_what_to_write(name):
    with pytest.raises(
        TypeError, match=rf"^x\.{name}\(\) would write into the tensor.*: write (np|x|tinygen)\."
    ):
        getattr(leaf(), name)(1)


# -- from PyTorch ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: x.sum(dim=0), "unexpected keyword argument 'dim': the word here is axis="),
        (lambda x: x.mean(axis=0, keepdim=True), "'keepdim': the word here is keepdims="),
        (lambda x: x.std(unbiased=False), "'unbiased': the word here is ddof="),
        (lambda x: x.argmax(dim=1), "'dim': the word here is axis="),
        (lambda x: ops.softmax(x, dim=-1), "'dim': the word here is axis="),
        (lambda x: x.sum().backward(create_graph=True), r"'create_graph': .*tinygen\.grad"),
        (
            lambda x: tinygen.grad(x.sum(), x),
            r"take a function, got Tensor: .*loss\.backward\(\), and then x\.grad",
        ),
        (lambda x: tinygen.value_and_grad(x.sum(), x), "take a function, got Tensor"),
        (lambda x: tinygen.vjp(x.sum(), x), "take a function, got Tensor"),
        (lambda x: np.exp(x, where=X > 0), r"'where': .*np\.where"),
        (lambda x: np.tril(x, dtype=np.float32), "unexpected keyword argument 'dtype'"),
    ],
)
def test_keywords_of_pytorch(call, words):
    with pytest.raises(TypeError, match=words):
        call(leaf())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("view", r"x\.reshape\(shape\)"),
        ("permute", r"x\.transpose\(axes\)"),
        ("unsqueeze", r"np\.expand_dims"),
        ("cpu", r'x\.to\("cpu"\)'),
        ("cuda", r'x\.to\("cuda"\)'),
        ("clone", r"x\.copy\(\)"),
        ("requires_grad_", "x.requires_grad = True"),
        ("type", r"x\.astype\(dtype\)"),
        ("mm", "x @ y"),
        ("clamp_", r"np\.clip"),
        ("exp", r"write np\.exp\(x\)"),
        ("log_", r"x = np\.log\(x\)"),
    ],
)
def test_attributes_of_pytorch(name, words):
    with pytest.raises(AttributeError, match=words):
        getattr(leaf(), name)
    assert not hasattr(leaf(), name)


def test_names_that_nobody_knows():
    with pytest.raises(AttributeError, match="'Tensor' object has no attribute 'sume'") as caught:
        leaf().sume  # noqa: B018
    assert caught.value.name == "sume"
    assert {"sum", "node", "__add__"} <= set(dir(leaf()))
    assert {"view", "exp", "log_"}.isdisjoint(dir(leaf()))
    assert not hasattr(Tensor, "__getattr__")  # it would slow down each attribute that is there
    assert pickle.loads(pickle.dumps(leaf().detach())).tolist() == X.tolist()


def test_functions_of_pytorch():
    for name, words in [("cat", r"np\.concatenate"), ("sort", r"np\.sort"), ("mse_loss", r"ops\.mse")]:
        with pytest.raises(AttributeError, match=words):
            getattr(ops, name)
    with pytest.raises(AttributeError, match=r"^tinygen\.ops has no frobnicate$"):
        ops.frobnicate  # noqa: B018


# -- errors name the function ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: np.vstack([x, x[:, :2]]), r"np\.vstack"),
        (lambda x: np.median(x, overwrite_input=True), r"np\.median: overwrite_input=True would write into"),
        (lambda x: np.quantile(x, 2.0), r"np\.quantile: q must lie in \[0, 1\], got 2\.0"),
        (lambda x: np.quantile(x, x), r"np\.quantile: there is no derivative by q: .*detach"),
        (lambda x: np.nan_to_num(x, copy=False), r"np\.nan_to_num: copy=False would write into"),
        (lambda x: np.pad(x, 1, mode="empty"), r"np\.pad: mode 'empty' has no gradient rule"),
        (lambda x: np.pad(x, 1, axis=0), r"np\.pad: unexpected keyword argument 'axis'"),
        (lambda x: np.diagonal(x[0]), r"np\.diagonal: .* shape \(3,\)"),
        (lambda x: np.max(x, where=X > 0), r"np\.max: where= needs initial="),
        (lambda x: np.sort(x, order="f"), r"np\.sort: order="),
        (lambda x: np.convolve(x, x), r"np\.convolve: two vectors"),
        (lambda x: np.choose(np.array([3]), [x, x]), r"np\.choose: numbers in \[0, 2\)"),
        (lambda x: np.average(x, weights=[1.0, 2.0]), r"np\.average: weights"),
        (lambda x: np.gradient(x[:1], axis=0), r"np\.gradient: axis 0 of shape \(1, 3\) is too short"),
        (lambda x: np.add.at(x, [0], 1.0), r"np\.add\.at writes into"),
        (lambda x: np.sum(x, out=np.zeros(())), r"np\.sum cannot write"),
        (lambda x: np.prod(x, axis=0, out=np.zeros(3)), r"np\.prod cannot write"),
        (lambda x: np.vdot(x, x[0]), r"np\.vdot: as many entries .* got 6 and 3"),
        (
            lambda x: np.tensordot(x, x.T[:, ::-1], ((0, 1), (0, 1))),
            r"tensordot: axes \[0, 1\] of \(2, 3\)",
        ),
        (lambda x: np.vsplit(x[0], 3), r"np\.vsplit: at least 2 axes"),
        (lambda x: np.roots(x), r"np\.roots: a vector"),
        (lambda x: np.vander(x), r"np\.vander: a vector"),
        (lambda x: np.compress(x > 0, x), r"np\.compress: the condition"),
        (lambda x: np.interp(x, [0.0, 1.0], [0.0]), r"np\.interp: xp and fp"),
        (lambda x: np.select([x > 0], [x, x]), r"np\.select: 1 conditions"),
    ],
)
def test_errors_begin_with_the_function(call, words):
    with pytest.raises((TypeError, ValueError), match=f"^{words}"):
        call(leaf())


@pytest.mark.parametrize(
    "call",
    [
        lambda x, axis: np.take(x, [0], axis),
        lambda x, axis: np.diff(x, axis=axis),
        lambda x, axis: np.array_split(x, 2, axis),
        lambda x, axis: np.repeat(x, [1, 1], axis),
        lambda x, axis: np.repeat(x, 2, axis),
        lambda x, axis: np.trapezoid(x, axis=axis),
        lambda x, axis: np.rollaxis(x, axis),
        lambda x, axis: np.apply_along_axis(np.sum, axis, x),
        lambda x, axis: np.apply_over_axes(np.sum, x, axis),
        lambda x, axis: np.sort(x, axis),
        lambda x, axis: np.cumprod(x, axis),
        lambda x, axis: np.prod(x, axis),
        lambda x, axis: np.median(x, axis),
        lambda x, axis: np.gradient(x, axis=axis),
        lambda x, axis: np.tensordot(x, x, (axis, 0)),
        lambda x, axis: np.transpose(x, (0, axis)),
    ],
)
@pytest.mark.parametrize("axis", [2, -3])
def test_an_axis_that_is_not_there(call, axis):
    with pytest.raises((np.exceptions.AxisError, ValueError), match=f"axis {axis} is out of bounds"):
        call(leaf(), axis)


def test_lists_in_the_place_of_arrays():
    x = leaf()
    assert (x @ [1.0, 2.0, 3.0]).tolist() == (X @ [1.0, 2.0, 3.0]).tolist()
    assert ([1.0, 2.0] @ x).tolist() == ([1.0, 2.0] @ X).tolist()
    assert np.take(x, (0, 2), 1).tolist() == np.take(X, (0, 2), 1).tolist()
    assert np.take(x, (4,)).tolist() == np.take(X, (4,)).tolist()
    assert np.tensordot(x, [1.0, 2.0], (0, 0)).tolist() == np.tensordot(X, [1.0, 2.0], (0, 0)).tolist()
    with pytest.raises(TypeError, match=r"np\.stack makes one tensor of a list"):
        np.sum([x, x], axis=0)


def test_a_name_for_the_first_argument():
    x = leaf()
    assert np.sum(axis=0, a=x).tolist() == X.sum(axis=0).tolist()
    assert np.linspace(start=0.0, stop=x[0, 2], num=3).requires_grad

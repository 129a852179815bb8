# ruff: noqa: E501 (a call is one line)
"""The table of NumPy's functions: complete, true, and printed in docs/numpy.md."""

import inspect
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, op_of
from cases_numpy import NUMPY

from tinygen import Tensor
from tinygen.ops.numpy.page import page
from tinygen.ops.numpy.table import FAMILIES, METHODS, rows
from tinygen.tensor import IMPLEMENTS

ROWS = rows()
X = np.array([[0.3, -1.2, 2.0], [0.7, 0.1, -0.4]])


def function(name):
    """np.linalg.norm of "linalg.norm", or None where this NumPy does not have it."""
    module, _, name = name.rpartition(".")
    return getattr(getattr(np, module) if module else np, name, None)


def kind(name):
    return ROWS[name].kind


def leaf(values=X):
    return Tensor(values, requires_grad=True)


def public(module):
    return [name for name in dir(module) if not name.startswith("_") and callable(getattr(module, name))]


# -- complete --------------------------------------------------------------------------------------


def test_every_public_callable_of_numpy_has_one_row():
    names = [*public(np), *(f"linalg.{n}" for n in public(np.linalg)), *(f"fft.{n}" for n in public(np.fft))]
    assert [name for name in names if name not in ROWS] == []
    count = Counter(name for family in FAMILIES.values() for row in family for name in row.names.split())
    assert [name for name, n in count.items() if n > 1] == []


def test_every_attribute_of_ndarray_has_a_row():
    names = {name for row in METHODS for name in row.names.split()}
    removed = {"itemset", "newbyteorder", "ptp", "tostring"}  # NumPy 2.0 keeps their names for an error
    assert {name for name in dir(np.ndarray) if not name.startswith("_")} - names - removed == set()


def test_the_page_is_current():
    """python -m tinygen.ops.numpy.page > docs/numpy.md"""
    assert (Path(__file__).parents[2] / "docs" / "numpy.md").read_text() == page()


# -- true ------------------------------------------------------------------------------------------


def test_what_the_table_promises_is_there_and_nothing_else():
    wrong = []
    for name, row in ROWS.items():
        f = function(name)
        answers = inspect.isroutine(f) or isinstance(f, np.ufunc)
        if (
            f is not None
            and name != "poly1d"
            and (answers and f in IMPLEMENTS) != (row.kind in ("gradient", "plain"))
        ):
            wrong.append(name)
    assert wrong == []


def test_every_function_with_gradients_has_cases():
    """In the tables of cases, by its name or by an alias that is the same function."""
    tested = {op_of(case.name).split(".")[0] for case in [*CASES, *NUMPY]} | set(BY_OTHERS)
    tested = {function(name) for name in tested if function(name) is not None}
    missing = [
        n for n, row in ROWS.items() if row.kind == "gradient" and function(n) and function(n) not in tested
    ]
    assert [n for n in missing if not n.startswith(("linalg.", "fft."))] == []


def test_ndarrays_methods_are_there_or_refused():
    for row in METHODS:
        for name in row.names.split():
            if row.kind != "refused":
                assert hasattr(Tensor, name), name
                continue
            with pytest.raises(
                (TypeError, AttributeError), match=r"write (np|x|tinygen)\.|here are (np|x)\."
            ):
                getattr(leaf(), name)(0)


BY_OTHERS = {
    *("fabs", "conj", "radians", "degrees", "amax", "amin", "concat", "row_stack", "poly1d", "trapz"),
    *("sort_complex", "roots"),
}
"""Other names of what has cases, and what test_numpy_exactly.py tests."""

PLAIN = {
    "floor": lambda x: np.floor(x),
    "ceil": lambda x: np.ceil(x),
    "trunc": lambda x: np.trunc(x),
    "rint": lambda x: np.rint(x),
    "fix": lambda x: np.fix(x),
    "round": lambda x: np.round(x, 1),
    "around": lambda x: np.around(x),
    "floor_divide": lambda x: x // 0.7,
    "nextafter": lambda x: np.nextafter(x, 1.0),
    "spacing": lambda x: np.spacing(x),
    "gcd": lambda x: np.gcd(whole(x), 6),
    "lcm": lambda x: np.lcm(whole(x), 6),
    **{n: lambda x, n=n: getattr(np, n)(x, x.T[0, 0]) for n in ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isclose", "allclose", "array_equal", "array_equiv", "isin"]},
    **{n: lambda x, n=n: getattr(np, n)(x > 0, x > 0.2) for n in ["logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"]},
    **{n: lambda x, n=n: getattr(np, n)(x > 0) for n in ["logical_not", "all", "any", "bitwise_not", "bitwise_invert", "invert", "packbits"]},
    **{n: lambda x, n=n: getattr(np, n)(x) for n in ["isnan", "isinf", "isfinite", "isposinf", "isneginf", "signbit", "isreal", "iscomplex", "isrealobj", "iscomplexobj"]},
    "isnat": None,  # of dates
    "in1d": None,  # isin's old name
    "bitwise_count": lambda x: np.bitwise_count(whole(x)),
    **{n: lambda x, n=n: getattr(np, n)(whole(x), 2) for n in ["left_shift", "right_shift", "bitwise_left_shift", "bitwise_right_shift"]},
    "unpackbits": lambda x: np.unpackbits((x > 0).astype(np.uint8)),
    "shares_memory": lambda x: np.shares_memory(x, x),
    "may_share_memory": lambda x: np.may_share_memory(x, x),
    **{n: lambda x, n=n: getattr(np, n)(x, axis=1) for n in ["count_nonzero", "argmax", "argmin", "nanargmax", "nanargmin", "argsort", "size"]},
    "histogram_bin_edges": lambda x: np.histogram_bin_edges(x, 3),
    "digitize": lambda x: np.digitize(x, [0.0, 1.0]),
    "argpartition": lambda x: np.argpartition(x, 1)[:, 1],
    "lexsort": lambda x: np.lexsort((x[0], x[1])),
    "searchsorted": lambda x: np.searchsorted(np.array([0.0, 1.0]), x),
    **{n: lambda x, n=n: getattr(np, n)(x) for n in ["shape", "ndim", "nonzero", "flatnonzero", "argwhere"]},
    "ix_": lambda x: np.ix_(x[0] > 0, x[1] > 0),
    "unravel_index": lambda x: np.unravel_index(whole(x)[0], (9, 2)),
    "ravel_multi_index": lambda x: np.ravel_multi_index((whole(x)[0], whole(x)[1]), (9, 9)),
    "diag_indices_from": lambda x: np.diag_indices_from(x[:, :2]),
    "tril_indices_from": lambda x: np.tril_indices_from(x, 1),
    "triu_indices_from": lambda x: np.triu_indices_from(x),
    "einsum_path": lambda x: np.einsum_path("ij,kj->ik", x, x)[0],
    "zeros_like": lambda x: np.zeros_like(x),
    "ones_like": lambda x: np.ones_like(x, dtype=int),
    "empty_like": lambda x: np.empty_like(x).shape,
    "linalg.matrix_rank": lambda x: np.linalg.matrix_rank(x),
    "array2string": lambda x: np.array2string(x),
    "array_repr": lambda x: np.array_repr(x),
    "array_str": lambda x: np.array_str(x),
    "save": None,  # below
    "savez": None,
    "savez_compressed": None,
    "savetxt": None,
    "result_type": lambda x: np.result_type(x, np.float32),
    "can_cast": lambda x: np.can_cast(x.dtype, np.float64),
    "common_type": lambda x: np.common_type(x),
    "min_scalar_type": lambda x: np.min_scalar_type(x),
}  # fmt: skip


def whole(x):
    return np.abs(np.floor(x)).astype(np.int64)


def parts(value):
    return [part for v in value for part in parts(v)] if isinstance(value, (tuple, list)) else [value]


def test_every_plain_function_is_called_here():
    assert {n for n, row in ROWS.items() if row.kind == "plain"} == set(PLAIN)


@pytest.mark.parametrize("name", [n for n, call in PLAIN.items() if call and function(n)])
def test_plain_values(name):
    """NumPy's values, off the tape, and arrays as Tensors."""
    values, expected = parts(PLAIN[name](leaf())), parts(PLAIN[name](X))
    assert len(values) == len(expected)
    for value, reference in zip(values, expected, strict=True):
        if isinstance(reference, (np.ndarray, np.generic)):
            assert isinstance(value, Tensor)
            assert not value.requires_grad
            assert value.dtype == reference.dtype
            value = value.numpy()
        np.testing.assert_array_equal(value, reference)


def test_files_are_written(tmp_path):
    np.save(tmp_path / "a.npy", leaf())
    np.savez(tmp_path / "a.npz", x=leaf())
    np.savetxt(tmp_path / "a.txt", leaf())
    for read in (
        np.load(tmp_path / "a.npy"),
        np.load(tmp_path / "a.npz")["x"],
        np.loadtxt(tmp_path / "a.txt"),
    ):
        np.testing.assert_array_equal(read, X)


REFUSED = {
    "put": lambda x: np.put(x, [0], 1.0),
    "place": lambda x: np.place(x, X > 0, [1.0]),
    "putmask": lambda x: np.putmask(x, X > 0, 1.0),
    "copyto": lambda x: np.copyto(np.zeros((2, 3)), x),
    "put_along_axis": lambda x: np.put_along_axis(x, np.array([[0], [1]]), 1.0, 1),
    "fill_diagonal": lambda x: np.fill_diagonal(x, 1.0),
    **{n: lambda x, n=n: getattr(np, n)(x) for n in ["array", "asarray", "asanyarray", "asarray_chkfinite", "ascontiguousarray", "asfortranarray", "require", "asmatrix"]},
    "bmat": lambda x: np.bmat([[x, x]]),
    "fromiter": lambda x: np.fromiter(x[0], dtype=float),
    "full": lambda x: np.full((2,), x[0, 0]),
    "vectorize": lambda x: np.vectorize(lambda v: 2 * v)(x),
    "frompyfunc": lambda x: np.frompyfunc(lambda v: 2 * v, 1, 1)(x),
    "nditer": lambda x: np.nditer(x),
    "nested_iters": lambda x: np.nested_iters(x, [[0], [1]]),
    "ndenumerate": lambda x: np.ndenumerate(x),
    "broadcast": lambda x: np.broadcast(x, x),
    "flatiter": None,  # is not called by users
    "busday_count": lambda x: np.busday_count(x, "2026-01-01"),
    "busday_offset": lambda x: np.busday_offset(x, 1),
    "is_busday": lambda x: np.is_busday(x),
    "datetime_as_string": lambda x: np.datetime_as_string(x),
    "datetime_data": None,
    "busdaycalendar": None,
}  # fmt: skip


def test_every_refused_function_is_called_here():
    assert {n for n, row in ROWS.items() if row.kind == "refused"} == set(REFUSED)


@pytest.mark.parametrize("name", [n for n, call in REFUSED.items() if call and function(n)])
def test_refusals_say_why_and_what_to_write(name):
    x = leaf()
    with pytest.raises((TypeError, ValueError)) as caught:
        REFUSED[name](x)
    text = str(
        caught.value.__cause__ or caught.value
    )  # NumPy says "setting an array element with a sequence"
    if function(name) in IMPLEMENTS or f"np.{name} has no gradient rule" in text:
        assert text.endswith(ROWS[name].note)
    elif name not in (
        "nditer",
        "nested_iters",
    ):  # NumPy asks for an array or a number, and does not say for which function
        assert "drop its graph" in text or "no gradient rule" in text
    np.testing.assert_array_equal(x.numpy(), X)

"""einops on Tensors: what it does on arrays, and gradients that hold."""

import subprocess
import sys

import numpy as np
import pytest

from tinygen import Tensor, gradcheck

einops = pytest.importorskip("einops")

import tinygen.einops_backend  # noqa: E402, F401

OPERATIONS = {
    "split heads": lambda e, x: e.rearrange(x, "b t (h d) -> b h t d", h=2),
    "patches": lambda e, x: e.rearrange(x, "b (t s) c -> (b s) t c 1", s=3),
    "an ellipsis": lambda e, x: e.rearrange(x, "... c -> c ..."),
    "the same": lambda e, x: e.rearrange(x, "b t c -> b t c"),
    "several at once": lambda e, x: e.rearrange([x, x * 2, x], "n b t c -> b (n c) t"),
    "sum": lambda e, x: e.reduce(x, "b t c -> c", "sum"),
    "mean": lambda e, x: e.reduce(x, "b (t s) c -> b t c", "mean", s=3),
    "max": lambda e, x: e.reduce(x, "b t c -> b () c", "max"),
    "min": lambda e, x: e.reduce(x, "b t c ->", "min"),
    "repeat": lambda e, x: e.repeat(x, "b t c -> b (t k) c n", k=2, n=3),
    "a product": lambda e, x: e.einsum(x, x, "b t c, b s c -> b t s"),
    "einsum of one": lambda e, x: e.einsum(x, "b t c -> t b"),
    "pack": lambda e, x: e.pack([x, x[:, 0]], "b * c")[0],
    "unpack": lambda e, x: e.unpack(x, [[2], [2, 2]], "b * c")[1],
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_values_and_gradients(name):
    operation = OPERATIONS[name]
    a = np.random.default_rng(0).standard_normal((2, 6, 4))
    y = operation(einops, Tensor(a, requires_grad=True))
    assert isinstance(y, Tensor)
    assert y.requires_grad
    np.testing.assert_allclose(y.numpy(), operation(einops, a), atol=1e-12)
    assert gradcheck(lambda x: operation(einops, x), a, order=2)


def test_dtypes_are_kept():
    x = Tensor(np.ones((2, 3), np.float32))
    for y in (
        einops.reduce(x, "a b -> a", "mean"),
        einops.repeat(x, "a b -> a b 2"),
        einops.einsum(x, x, "a b, a c -> b c"),
    ):
        assert y.dtype == np.float32


def test_shapes_are_parsed():
    x = Tensor(np.ones((2, 6)))
    assert einops.parse_shape(x, "a b") == {"a": 2, "b": 6}
    assert einops.asnumpy(x) is x.data
    with pytest.raises(einops.EinopsError, match="can't divide axis of length 6 in chunks of 4"):
        einops.rearrange(x, "a (b c) -> a b c", c=4)


def test_what_has_no_gradient_is_refused():
    x = Tensor(np.arange(6).reshape(2, 3))
    with pytest.raises(NotImplementedError, match="reduce_mean"):
        einops.reduce(x, "a b -> a", "mean")  # of integers: einops takes no mean of them


def test_it_is_found_whatever_is_imported_first():
    """In a fresh process, and after einops has already looked in vain."""
    code = """
import einops, numpy as np, tinygen
x = tinygen.Tensor(np.ones((2, 3)), requires_grad=True)
try:
    einops.rearrange(x, "a b -> b a")
except RuntimeError as error:
    print(error)
import tinygen.einops_backend
print(einops.rearrange(x, "a b -> b a").shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "Tensor type unknown to einops <class 'tinygen.tensor.Tensor'>",
        "(3, 2)",
    ]

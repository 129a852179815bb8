"""CuPy itself with Tensors, if it is installed. No GPU is needed, since the values of its arrays are never
read."""

import operator

import numpy as np
import pytest

from tinygen import Tensor

cupy = pytest.importorskip("cupy")

OPERATORS = ["add", "sub", "mul", "truediv", "pow", "matmul", "eq", "ne", "lt", "le", "gt", "ge"]


def nowhere():
    """An array of CuPy's of shape (2, 2), at an address that is nobody's."""
    memory = cupy.cuda.UnownedMemory(1, 16, None, 0)
    return cupy.ndarray((2, 2), np.float32, cupy.cuda.MemoryPointer(memory, 0))


@pytest.mark.parametrize("name", OPERATORS)
def test_an_array_of_cupy_s_to_the_left(monkeypatch, name):
    """Its operators ask NumPy, who asks the Tensor."""
    asked = lambda self, ufunc, method, *inputs: (method, inputs)
    monkeypatch.setattr(Tensor, "__array_ufunc__", asked)
    array, tensor = nowhere(), Tensor(nowhere())
    method, inputs = getattr(operator, name)(array, tensor)
    assert method == "__call__"
    assert inputs[0] is array
    assert inputs[1] is tensor


def test_functions_ask_the_tensor_too(monkeypatch):
    monkeypatch.setattr(Tensor, "__array_function__", lambda self, func, types, args, kwargs: func)
    array, tensor = nowhere(), Tensor(nowhere())
    assert np.where(array, 0.0, tensor) is np.where
    assert np.concatenate([array, tensor]) is np.concatenate


def test_devices():
    assert Tensor(nowhere()).device == "cuda"

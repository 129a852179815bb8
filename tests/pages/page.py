"""The pages as modules, and what their tests share."""

import importlib.util
from pathlib import Path

import numpy as np

from tinygen import Tensor

FOLDER = Path(__file__).parents[2] / "examples" / "pages"
PAGES = {path.stem: path for path in sorted(FOLDER.glob("*.py"))}


def load(name):
    spec = importlib.util.spec_from_file_location(f"page_{name}", PAGES[name])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Draws(np.random.Generator):
    """A generator that gives these arrays, one after the other, to whoever asks for noise."""

    def __init__(self, *arrays):
        super().__init__(np.random.PCG64(0))
        self.arrays = list(arrays)

    def standard_normal(self, shape=None, dtype=None):
        array = self.arrays.pop(0)
        assert array.shape == tuple(shape)
        return array


def descend(lr):
    """`update`: gradient descent."""

    def update(params, grads):
        for name, g in grads.items():
            params[name] = params[name] - lr * g

    return update


def tensors(params):
    return {name: Tensor(w, requires_grad=True) for name, w in params.items()}


def value_and_grads(loss, params):
    """The loss of a dict of Tensors, as a number, and the gradient by each."""
    p = tensors(params)
    y = loss(p)
    y.backward()
    return y.item(), {name: w.grad for name, w in p.items()}


def difference(a, b):
    """The largest difference of two numbers, arrays, or dicts and lists of arrays."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        return max(difference(a[name], b[name]) for name in a)
    if isinstance(a, (list, tuple)):
        return max(difference(x, y) for x, y in zip(a, b, strict=True))
    assert np.shape(a) == np.shape(b)
    return float(np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))))

"""NumPy's other functions on Tensors: all that `tinygen/ops/` does not need for itself. They are called by
NumPy's names, `np.sort(x)`; `table.py` lists every function, with what becomes of it.

Most are compositions: a few lines of NumPy, which is what runs on Tensors. Their gradients are right because
those of the functions inside are.
"""

from tinygen.ops.numpy import (
    calculus,
    choose,
    elementwise,
    histograms,
    join,
    nan,
    order,
    polynomials,
    products,
    reduce,
    running,
    shape,
    special,
    statistics,
    table,
    ufuncs,
    values,
)

__all__ = [
    "calculus",
    "choose",
    "elementwise",
    "histograms",
    "join",
    "nan",
    "order",
    "polynomials",
    "products",
    "reduce",
    "running",
    "shape",
    "special",
    "statistics",
    "table",
    "ufuncs",
    "values",
]

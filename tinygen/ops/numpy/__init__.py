"""NumPy's other functions on Tensors: those that `tinygen/ops/` does not need itself. They are called by
NumPy's names, `np.sort(x)`; `table.py` lists every function and how it behaves.

Most are compositions: a few lines of NumPy that run on Tensors. Their gradients are right because the
gradients of the functions inside are.
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

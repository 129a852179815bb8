"""All cases: every public op, in every way of calling it."""

import numpy as np
from cases_conv import CONV, POOL
from cases_elementwise import ELEMENTWISE, REDUCE
from cases_layers import ACTIVATION, ATTENTION, LOSS, NORM
from cases_linalg import LINALG
from cases_recurrent import RECURRENT
from cases_shape import INDEX, SHAPE

CASES = [
    *(*ELEMENTWISE, *REDUCE, *SHAPE, *INDEX, *LINALG, *ACTIVATION),
    *(*NORM, *ATTENTION, *LOSS, *CONV, *POOL, *RECURRENT),
]

ODD = np.array([[-1.0, np.nan, 2.0], [np.inf, 0.5, -np.inf]])
PAIR, BITS = (np.array([[1.0, -2.0, 3.0]]), np.array([[1.0], [3.0]])), np.array([[True, False], [True, True]])
WITHOUT_GRADIENT = {  # tested in test_elementwise.py and test_reduce.py
    **dict.fromkeys(("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"), PAIR),
    **dict.fromkeys(("logical_and", "logical_or"), (BITS, BITS[::-1])),
    **dict.fromkeys(("logical_not",), (BITS,)),
    **dict.fromkeys(("isnan", "isfinite"), (ODD,)),
    **dict.fromkeys(("argmax", "argmin"), (PAIR[0],)),
}
"""{op: arguments for it}."""


def op_of(name: str) -> str:
    """The op of a case's name, "op-what is special about it"."""
    return name.split("-")[0].split(" ")[0]

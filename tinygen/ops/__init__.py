"""Every differentiable operation, one family a file; this is the table of contents. An op that NumPy has too
is called by NumPy's name, `np.exp(x)`; the others are called from here, `ops.softmax(x)`."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.ops import fourier, methods, missing, operators  # noqa: F401 (np.fft, x.sum(), x + y)
from tinygen.ops.activation import *  # relu, gelu, softmax, dropout, ...
from tinygen.ops.attention import *
from tinygen.ops.choices import *  # absolute, maximum, clip, where, ...
from tinygen.ops.complex_numbers import *  # real, imag, angle
from tinygen.ops.conv import *  # convolutions and transposed ones
from tinygen.ops.einsum import *
from tinygen.ops.elementwise import *  # arithmetic, power, exp, log, tanh, ...
from tinygen.ops.error_function import *  # erf
from tinygen.ops.index import *  # getitem, scatter_add, take, embedding
from tinygen.ops.linalg import *  # matmul, linear, ...
from tinygen.ops.loss import *  # cross_entropy, mse, divergences, ...
from tinygen.ops.matrices import decompositions, norms, products, solve  # noqa: F401 (np.linalg)
from tinygen.ops.norm import *  # layer_norm, group_norm, ...
from tinygen.ops.numpy.join import *  # pad
from tinygen.ops.numpy.reduce import *  # sum, mean, max, var, ... with NumPy's arguments
from tinygen.ops.pool import *
from tinygen.ops.recurrent import *  # rnn, lstm, gru
from tinygen.ops.reduce import *  # logsumexp, cumsum, argmax, ...
from tinygen.ops.shape import *  # reshape, concatenate, ...
from tinygen.ops.without_gradient import *  # equal, less, ...
from tinygen.words import FUNCTIONS

__all__ = sorted(  # the names in the families' own lists
    name for name, value in vars().items() if callable(value) and value.__module__.startswith("tinygen.ops.")
)


if not TYPE_CHECKING:  # a type checker would take every name for one that is here

    def __getattr__(name: str) -> Any:
        """For a name that is not here, such as PyTorch's `cat`: an error that says the name here."""
        instead = FUNCTIONS.get(name) or (f"np.{name}" if callable(getattr(np, name, None)) else None)
        raise AttributeError(
            f"tinygen.ops has no {name}" + (f": the name here is {instead}" if instead else "")
        )

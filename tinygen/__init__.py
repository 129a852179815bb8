"""tinygen: generative models from scratch, on NumPy, to be read, run and trusted.

The engine is imported at once, the other packages (`tinygen.nn`, `tinygen.models`, ...) when they are first
used. `gradcheck`, `graph` and `kernels` are functions here, and modules in `from tinygen.graph import Graph`.
"""

from typing import TYPE_CHECKING

from tinygen import ops, protocols  # noqa: F401 (they give Tensor its methods)
from tinygen.checks import AnomalyError
from tinygen.gradcheck import gradcheck
from tinygen.graph import graph
from tinygen.kernels import kernels
from tinygen.lazy import lazy_names
from tinygen.modes import anomaly, enable_grad, no_grad
from tinygen.ops.random import DeviceGenerator
from tinygen.recompute import checkpoint
from tinygen.tape import implements, op
from tinygen.tensor import Tensor
from tinygen.transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp

if TYPE_CHECKING:
    from tinygen import align as align
    from tinygen import data as data
    from tinygen import density as density
    from tinygen import diffusion as diffusion
    from tinygen import judges as judges
    from tinygen import models as models
    from tinygen import nn as nn
    from tinygen import optim as optim
    from tinygen import storage as storage
    from tinygen import testing as testing
    from tinygen import text as text
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        (
            "align",
            "data",
            "density",
            "diffusion",
            "judges",
            "models",
            "nn",
            "optim",
            "storage",
            "testing",
            "text",
        ),
    )[:2]

__version__ = "0.1.0"
__all__ = [
    "AnomalyError",
    "DeviceGenerator",
    "Tensor",
    "anomaly",
    "checkpoint",
    "enable_grad",
    "grad",
    "gradcheck",
    "graph",
    "hessian",
    "hvp",
    "implements",
    "jacobian",
    "jvp",
    "kernels",
    "no_grad",
    "op",
    "ops",
    "value_and_grad",
    "vjp",
]

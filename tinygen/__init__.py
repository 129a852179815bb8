"""tinygen: generative models from scratch, on NumPy, to be read, run and trusted."""

from tinygen import ops, protocols  # noqa: F401 (they give Tensor its methods)
from tinygen.checks import AnomalyError
from tinygen.gradcheck import gradcheck
from tinygen.graph import graph
from tinygen.kernels import kernels
from tinygen.modes import anomaly, enable_grad, no_grad
from tinygen.ops.random import DeviceGenerator
from tinygen.recompute import checkpoint
from tinygen.tape import implements, op
from tinygen.tensor import Tensor
from tinygen.transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp

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

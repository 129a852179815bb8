"""Mistakes in norms: statistics that depend on the input and are taken for constants, axes, eps."""

import numpy as np
from users_planting import normal, positive, right_function, wrong_function

from tinygen import Tensor, nn
from tinygen.gradcheck import Kind
from tinygen.nn import Parameter


@wrong_function("BatchNorm", (Kind.DETACHED, Kind.TERM), normal(6, 3))
class BatchNormWithItsVarianceOffTheTape(nn.Module):
    """The batch's variance goes into the buffer, and is divided by as an array."""

    def __init__(self):
        self.weight = Parameter(positive(3))
        self.register_buffer("running_var", np.ones(3, dtype=np.float32))

    def forward(self, x):
        var = x.numpy().var(axis=0)
        self.running_var.data = 0.9 * self.running_var.data + 0.1 * var
        return (x - x.mean(axis=0)) / np.sqrt(var + 1e-5) * self.weight


@wrong_function("Linear", (Kind.DETACHED, Kind.TERM), normal(2, 5))
class LinearWithStandardizedWeight(nn.Module):
    """Weight standardization, whose mean is taken off the tape."""

    def __init__(self):
        self.weight = Parameter(normal(3, 5))

    def forward(self, x):
        mean = Tensor(self.weight.numpy().mean(axis=1, keepdims=True))
        return x @ (self.weight - mean).T


@wrong_function("spectral_norm", (Kind.DETACHED, Kind.TERM), normal(2, 3))
class SpectralScaleAsANumber(nn.Module):
    def __init__(self):
        self.weight = Parameter(normal(4, 3))

    def forward(self, x):
        return x @ self.weight.T / float(np.linalg.norm(self.weight.numpy(), 2))


@right_function("BatchNorm", normal(6, 3))
class BatchNormThatRecordsAndUsesItsBatch(nn.Module):
    """Its buffers take part in no gradient: they are written, and the batch itself is used."""

    def __init__(self):
        self.weight = Parameter(positive(3))
        self.register_buffer("running_mean", np.zeros(3, dtype=np.float32))

    def forward(self, x):
        mean = x.mean(axis=0)
        self.running_mean.data = 0.9 * self.running_mean.data + 0.1 * mean.numpy()
        centered = x - mean
        return centered / np.sqrt((centered * centered).mean(axis=0) + 1e-5) * self.weight

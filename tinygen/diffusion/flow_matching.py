"""Flow matching: a model learns the velocity at which noise flows to data (Lipman et al. 2023,
arXiv:2210.02747), here on straight paths, the conditional optimal-transport paths of section 4.1.

A point of noise ε ~ N(0, 1) and a point of data x_1 are joined by a straight line,

    x_t = (1 - t) ε + t x_1,    dx_t/dt = x_1 - ε,    t from 0 (noise) to 1 (data).

Many lines pass through one x. The model v(x, t) learns their mean velocity E[x_1 - ε | x_t = x], and the
ordinary differential equation dx/dt = v(x, t) then carries N(0, 1) at t = 0 to the data at t = 1: a
continuous normalizing flow that is trained without solving the equation. This is the path of eq. 20 in the
limit σ_min = 0, where the line ends in the data point itself.

Time here is the paper's, and runs against the time of the other files in this folder. There x_0 is the data
and the noise grows with the steps t = 1 ... T; here x_1 is the data, and the noise shrinks while the real
number t goes from 0 to 1. In their letters the line is x_t = α_t x_1 + σ_t ε with α_t = t and σ_t = 1 - t, so
that α_t² + σ_t² < 1 between the ends.

The model is any function of x (B, ...) and the times t (B,) in [0, 1], both on one device, that returns
velocities in the shape of x, as an array or a Tensor. A network that embeds the number of a step wants to
see 1000 t. A sampler is a generator of its states, as in `sampling`: `last_state(midpoint(model, noise, 20))`
is the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.diffusion.sampling import Model
from tinygen.modes import no_grad
from tinygen.ops.loss import log_normal
from tinygen.ops.random import RNGLike, as_generator, noise_like
from tinygen.tensor import Array, Tensor
from tinygen.transforms import vjp
from tinygen.types import TensorLike

# -- the path and the loss -------------------------------------------------------------------------


def point_on_path(x1: Array, t: Any, eps: Array) -> Array:
    """x_t (B, ...) on the lines from noise eps to data x1, both (B, ...), at one time t or at times (B,).

    Raises TypeError unless x1 is of floats, ValueError for t of another shape or outside [0, 1], and for eps
    of another shape than x1.

    Eq.: x_t = (1 - t) ε + t x_1  (Lipman et al. 2023, eq. 22, with σ_min = 0)
    Held by: tests/diffusion/test_flow_matching.py::test_the_path_by_hand,
        tests/diffusion/test_flow_matching.py::test_the_path_of_gaussian_data
    """
    if x1.dtype.kind != "f":
        raise TypeError(f"a flow is of floats, got {x1.dtype}: scale the data, for pictures to [-1, 1]")
    if eps.shape != x1.shape:
        raise ValueError(f"eps must have one number for each of x1 {x1.shape}, got shape {eps.shape}")
    t = np.asarray(t)
    if t.shape not in ((), x1.shape[:1]):
        raise ValueError(f"t must be one time, or one for each of x1 {x1.shape}, got shape {t.shape}")
    if not np.all((t >= 0) & (t <= 1)):
        raise ValueError(f"t must be within 0 (noise) .. 1 (data), got {t.min()} .. {t.max()}")
    t = np.asarray(t.reshape(t.shape + (1,) * (x1.ndim - 1) * t.ndim), dtype=x1.dtype, like=x1)
    return (1 - t) * eps + t * x1


def flow_matching_loss_at(model: Model, x1: Array, t: Array, eps: Array) -> TensorLike:
    """The mean of (model(x_t, t) - (x_1 - ε))² over everything, for data x1 (B, ...), times t (B,) and noise
    eps (B, ...); if the model returns a Tensor, so is the loss. Its least value is not 0, since many lines
    pass through one x_t: for data N(m, s²) and times that are uniform in [0, 1] it is π s / 2.

    Eq.: L = E |v(x_t, t) - (x_1 - ε)|²  (Lipman et al. 2023, eq. 23, with σ_min = 0)
    Held by: tests/diffusion/test_flow_matching.py::test_the_least_loss_of_gaussian_data,
        tests/diffusion/test_flow_matching.py::test_the_loss_is_the_squared_error_of_the_velocity
    """
    x_t = point_on_path(x1, t, eps)
    return ops.mse(model(x_t, np.asarray(t, dtype=x1.dtype, like=x1)), x1 - eps)


def flow_matching_loss(model: Model, x1: Array, *, rng: RNGLike) -> TensorLike:
    """`flow_matching_loss_at` for a time, uniform in [0, 1), and noise for each of x1 (B, ...)."""
    rng = as_generator(rng)
    return flow_matching_loss_at(model, x1, rng.random(len(x1)), noise_like(x1, rng))


# -- samplers --------------------------------------------------------------------------------------


def velocity(model: Model, x: Array, t: float) -> Array:
    """The model's velocity (B, ...) at x (B, ...) and time t, an array off the tape.

    Raises ValueError when the model returns another shape."""
    with no_grad():
        v = model(x, np.full_like(x, t, shape=(len(x),)))
    return check_velocity(v.data if isinstance(v, Tensor) else v, x)


def check_velocity(v: Any, x: Array) -> TensorLike:
    if v.shape != x.shape:
        raise ValueError(f"the model made {v.shape} of x {x.shape}: a velocity must keep the shape")
    return v


def length_of(steps: int) -> float:
    """The length of each of so many equal steps through [0, 1]."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    return 1 / steps


def euler(model: Model, x: Array, steps: int) -> Iterator[Array]:
    """Yields x (B, ...) at times 1/steps, 2/steps, ..., 1 from noise x at time 0, with one call of the model
    a step. Order 1: twice as many steps make half the error. Raises ValueError for less than one step.

    Eq.: x_{t+h} = x_t + h v(x_t, t)  (Euler's method; Hairer, Nørsett & Wanner 1993, section I.7)
    Held by: tests/diffusion/test_flow_matching.py::test_the_orders_of_the_solvers,
        tests/diffusion/test_flow_matching.py::test_two_steps_by_hand
    """
    h = length_of(steps)
    for k in range(steps):
        x = x + h * velocity(model, x, k * h)
        yield x


def midpoint(model: Model, x: Array, steps: int) -> Iterator[Array]:
    """The same with the velocity in the middle of each step, so two calls of the model a step. Order 2: twice
    as many steps make a quarter of the error.

    Eq.: x_{t+h} = x_t + h v(x_t + h/2 v(x_t, t), t + h/2)
        (the midpoint method; Hairer, Nørsett & Wanner 1993, section II.1)
    Held by: tests/diffusion/test_flow_matching.py::test_the_orders_of_the_solvers,
        tests/diffusion/test_flow_matching.py::test_two_steps_by_hand
    """
    h = length_of(steps)
    for k in range(steps):
        middle = x + h / 2 * velocity(model, x, k * h)
        x = x + h * velocity(model, middle, (k + 0.5) * h)
        yield x


# -- likelihood ------------------------------------------------------------------------------------


def velocity_and_divergence(model: Model, x: Array, t: float) -> tuple[Array, Array]:
    """The velocity (B, D) at points x (B, D) and time t, and its divergence Σ_d ∂v_d/∂x_d (B,), exactly, by D
    walks back over the tape: for few dimensions. The model must return a Tensor for a Tensor x, and must
    treat each point alone."""
    times = np.full_like(x, t, shape=(len(x),))
    with no_grad():
        v, pull = vjp(lambda points: check_velocity(model(points, times), points), x)
    divergence = np.zeros_like(x, shape=(len(x),))
    for d in range(x.shape[1]):
        unit = np.zeros_like(x)
        unit[:, d] = 1
        divergence += pull(unit)[0].data[:, d]
    return v.data, divergence


def flow_log_prob(model: Model, x1: Array, steps: int) -> Array:
    """ln p(x_1) (B,) of points x1 (B, D) under the flow, in nats: each point is carried back to the noise by
    the midpoint method, and on the way the divergence of the velocity is added up. The error is of order 2,
    as in `midpoint`, of which this is the density where the steps are fine. The model must treat each point
    alone (no batch norm in training mode).

    Raises ValueError when x1 is not (B, D), or for less than one step.

    Eq.: ln p_1(x_1) = ln p_0(x_0) - ∫ ∇·v(x_t, t) dt, t from 0 to 1
        (Chen et al. 2018, arXiv:1806.07366, theorem 1, integrated)
    Held by: tests/diffusion/test_flow_matching.py::test_the_likelihood_of_gaussian_data,
        tests/diffusion/test_flow_matching.py::test_the_likelihood_of_a_mixture
    """
    if x1.ndim != 2:
        raise ValueError(f"x1 must be points (B, D), got shape {x1.shape}: flatten pictures")
    h = length_of(steps)
    x, total = x1, np.zeros_like(x1, shape=(len(x1),))
    for k in range(steps, 0, -1):
        middle = x - h / 2 * velocity(model, x, k * h)
        v, divergence = velocity_and_divergence(model, middle, (k - 0.5) * h)
        x = x - h * v
        total = total + h * divergence
    log_noise: Array = log_normal(x, 0.0, 0.0).sum(axis=1)
    return log_noise - total

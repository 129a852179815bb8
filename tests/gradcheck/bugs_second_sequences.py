"""Mistakes in recurrent cells, rotations, convolutions and pooling."""

import numpy as np
from users_planting import normal, positive, right_op, sigmoid, wrong_function, wrong_op

import tinygen
from tinygen import nn
from tinygen.gradcheck import Kind
from tinygen.nn import Parameter


@wrong_op("lstm", (Kind.PLACE, Kind.MASK), normal(2, 12), normal(2, 3))
def lstm_gates_with_input_and_forget_exchanged(a, c):
    i, f, o = (sigmoid(a[:, n : n + 3]) for n in (0, 3, 9))
    candidate = np.tanh(a[:, 6:9])
    new = f * c + i * candidate
    seen = np.tanh(new)

    def back(g):
        dc = g * o * (1 - seen**2)
        di, df = dc * candidate * i * (1 - i), dc * c * f * (1 - f)
        dn, do = dc * i * (1 - candidate**2), g * seen * o * (1 - o)
        return np.concatenate([df, di, dn, do], axis=1), dc * f

    return o * seen, back


@wrong_op("cumsum", Kind.PLACE, normal(5, 2))
def backward_direction_not_turned_back(x):
    """Right to left: flipped, summed up, flipped; its rule forgets to flip at the end."""
    return np.cumsum(x[::-1], axis=0)[::-1], lambda g: np.cumsum(g, axis=0)[::-1]


@wrong_op("scan", Kind.PLACE, normal(5), positive(5) / 2)
def decayed_sum_with_its_gates_off_by_one(x, decay):
    """h[t] = decay[t] h[t-1] + x[t]; on the way back decay[t] is used where decay[t+1] belongs."""
    h = np.zeros(6)
    for t in range(5):
        h[t + 1] = decay[t] * h[t] + x[t]

    def back(g):
        dx, carried = np.zeros_like(x), 0.0
        for t in reversed(range(5)):
            dx[t] = g[t] + decay[t] * carried
            carried = dx[t]
        return dx, dx * h[:-1]

    return h[1:], back


@wrong_op("conv1d", Kind.PLACE, normal(2, 8), normal(3))
def dilated_conv_undilated_in_the_backward(x, w):
    """Its taps lie 2 apart; the gradient of x is spread over neighbors."""
    taps = [x[:, 2 * t : 2 * t + 4] for t in range(3)]

    def dx(g):
        d = np.zeros_like(x)
        for t in range(3):
            d[:, t : t + 4] += w[t] * g
        return d

    return sum(w[t] * taps[t] for t in range(3)), dx, lambda g: np.array([(g * tap).sum() for tap in taps])


@wrong_op("conv1d", Kind.SUM, normal(2, 3, 6), normal(3, 2))
def depthwise_kernels_with_one_gradient_for_all(x, w):
    def dx(g):
        d = np.zeros_like(x)
        for t in range(2):
            d[:, :, t : t + 5] += w[:, t : t + 1] * g
        return d

    def dw(g):
        return np.broadcast_to(np.array([(g * x[:, :, t : t + 5]).sum() for t in range(2)]), w.shape)

    return w[:, :1] * x[:, :, :-1] + w[:, 1:] * x[:, :, 1:], dx, dw


@wrong_op("conv1d", Kind.PLACE, normal(2, 6), normal(3))
def causal_conv_cut_in_the_middle(x, w):
    """Two zeros before x, none after; the gradient is cut as if there were one on each side."""
    padded = np.pad(x, ((0, 0), (2, 0)))

    def dx(g):
        d = np.zeros_like(padded)
        for t in range(3):
            d[:, t : t + 6] += w[t] * g
        return d[:, 1:-1]

    y = sum(w[t] * padded[:, t : t + 6] for t in range(3))
    return y, dx, lambda g: np.array([(g * padded[:, t : t + 6]).sum() for t in range(3)])


@wrong_op("pad", (Kind.MASK, Kind.TERM), normal(2, 5))
def reflected_border_that_sends_nothing_back(x):
    return np.pad(x, ((0, 0), (2, 2)), mode="reflect"), lambda g: g[:, 2:-2]


@tinygen.op
def add_to_channels(x, bias):
    return x + bias[:, None, None], lambda g: g, lambda g: g.sum(axis=(0, 1, 2))


@wrong_function("Conv2d", (Kind.SUM, Kind.PLACE), normal(2, 3, 3, 3), culprit="add_to_channels")
class ConvBiasSummedAsIfChannelsWereLast(nn.Module):
    def __init__(self):
        self.bias = Parameter(normal(3))

    def forward(self, x):
        return add_to_channels(np.tanh(x), self.bias)


@wrong_op("multiply", Kind.COTANGENT, normal(3, 4))
def layer_that_normalizes_what_comes_back(x):
    return np.sin(x), lambda g: np.cos(x) * g / np.sqrt((g * g).sum())


@right_op("conv1d", normal(2, 8), normal(3))
def dilated_conv(x, w):
    taps = [x[:, 2 * t : 2 * t + 4] for t in range(3)]

    def dx(g):
        d = np.zeros_like(x)
        for t in range(3):
            d[:, 2 * t : 2 * t + 4] += w[t] * g
        return d

    return sum(w[t] * taps[t] for t in range(3)), dx, lambda g: np.array([(g * tap).sum() for tap in taps])


@right_op("rope", normal(3, 4))
def rotation_with_float64_angles(x):
    angle = np.arange(3)[:, None] * np.array([1.0, 0.1])
    c, s = np.cos(angle), np.sin(angle)

    def turned(z, s):
        a, b = z[:, :2], z[:, 2:]
        return np.concatenate([a * c - b * s, a * s + b * c], axis=1)

    return turned(x, s), lambda g: turned(g, -s)

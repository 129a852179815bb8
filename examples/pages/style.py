"""Style transfer on one page (Gatys, Ecker & Bethge 2015, arXiv:1508.06576; 2016, CVPR, whose numbers are
given).

A network's features F of a layer are a matrix: N channels at M places. They are the content of a picture.
Their products, summed over the places, are its style. A picture x is changed until its features are near
those of the content, and its Gram matrices near those of the style:

    L_content = ½ Σ_ij (F_ij - P_ij)²                P: of the content                            eq. 1
    G_ij = Σ_k F_ik F_jk                             the Gram matrix                              eq. 3
    E_l = 1/(4 N_l² M_l²) Σ_ij (G_ij - A_ij)²        A: of the style                              eq. 4
    L_total = α L_content + β Σ_l w_l E_l            w_l = 1/(number of layers), β = 1        eq. 5, 7

`layers` is the network: a list of kernels and biases, with half the side before each layer but the first. It
is not changed. `params` is {"x": the picture}; `update(params, grads)` changes it: the paper takes L-BFGS.
Letters in shapes: H height, W width, C channels before a layer, N channels after it, M places.
"""

import math

import numpy as np

from tinygen import Tensor, ops


def init(widths, rng):
    """Random layers; weights are normal with variance 2/(9 C)."""
    kernel = lambda C, N: rng.standard_normal((N, C, 3, 3)) * math.sqrt(2 / (9 * C))
    return [(kernel(C, N), np.zeros(N)) for C, N in zip([3, *widths[:-1]], widths, strict=True)]


def layer(h, weight, bias):
    """A convolution and a ReLU, (1, N, H, W), of h (1, C, H, W), weight (N, C, 3, 3) and bias (N,)."""
    return ops.relu(ops.conv2d(h, weight, bias, padding=1))  # (1, N, H, W)


def features(layers, x):
    """F of each layer, (N, M), for a picture x (3, H, W)."""
    found = []
    h = layer(x[None], *layers[0])  # (1, ..., H, W)
    for weight_and_bias in layers[1:]:
        found.append(h)
        h = layer(ops.avg_pool2d(h, 2), *weight_and_bias)  # (1, ...): half the side
    return [h.reshape(h.shape[1], -1) for h in [*found, h]]


def gram(F):
    """G (N, N) for F (N, M)."""
    return F @ F.T  # (N, N)


def content_loss(F, P):
    """Eq. 1, for F and P (N, M)."""
    return 0.5 * np.sum((F - P) * (F - P))  # ()


def style_loss(F, A):
    """Eq. 4, for F (N, M) and A (N, N)."""
    N, M = F.shape
    return np.sum((gram(F) - A) * (gram(F) - A)) / (4 * N**2 * M**2)  # ()


def total_loss(layers, x, P, A, alpha):
    """Eq. 7 for a picture x (3, H, W); P (N, M) of the last layer, A (N, N) of each."""
    F = features(layers, x)
    style = sum(style_loss(F_l, A_l) for F_l, A_l in zip(F, A, strict=True)) / len(F)  # ()
    return alpha * content_loss(F[-1], P) + style  # ()


def train_step(params, layers, P, A, alpha, update):
    """One step of the picture."""
    x = Tensor(params["x"], requires_grad=True)  # (3, H, W)
    loss = total_loss(layers, x, P, A, alpha)  # ()
    loss.backward()
    update(params, {"x": x.grad})
    return loss.item()


def targets(layers, content, style):
    """P of the content, A of the style; both pictures are (3, H, W)."""
    P = features(layers, content)[-1]  # (N, M)
    A = [gram(F) for F in features(layers, style)]  # each (...): N × N
    return P, A

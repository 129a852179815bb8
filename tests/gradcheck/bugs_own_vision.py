"""Mistakes in what is done to pictures, written to improve the diagnosis on."""

import numpy as np
from users_planting import normal, positive, sigmoid, spread, wrong_op

from tinygen.gradcheck import Kind


@wrong_op("patchify", (Kind.PLACE, Kind.SUM), normal(1, 4, 4, 2))
def patches_put_back_with_rows_and_columns_exchanged(x):
    y = x.reshape(1, 2, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(1, 4, 8)
    return y, lambda g: g.reshape(1, 2, 2, 2, 2, 2).transpose(0, 2, 3, 1, 4, 5).reshape(1, 4, 4, 2)


@wrong_op("channel_shuffle", Kind.PLACE, normal(2, 6, 2))
def channel_shuffle_not_undone(x):
    y = x.reshape(2, 2, 3, 2).swapaxes(1, 2).reshape(2, 6, 2)
    return y, lambda g: g.reshape(2, 2, 3, 2).swapaxes(1, 2).reshape(2, 6, 2)


@wrong_op(
    "group_conv",
    (Kind.PLACE, Kind.SUM),
    normal(2, 4, 3),
    normal(2, 2, 2),
)
def grouped_conv_with_its_groups_exchanged_in_the_backward(x, w):
    xg = x.reshape(2, 2, 2, 3)
    y = np.einsum("goc,ngcl->ngol", w, xg).reshape(2, 4, 3)

    def dx(g):
        return np.einsum("goc,ngol->ngcl", w[::-1], g.reshape(2, 2, 2, 3)).reshape(2, 4, 3)

    return y, dx, lambda g: np.einsum("ngol,ngcl->goc", g.reshape(2, 2, 2, 3), xg)


@wrong_op("pad", (Kind.TERM, Kind.MASK, Kind.SUM), normal(2, 5))
def edge_padding_that_forgets_the_edge(x):
    return np.pad(x, ((0, 0), (2, 1)), mode="edge"), lambda g: g[:, 2:-1]


@wrong_op("pad", (Kind.PLACE, Kind.MASK), normal(2, 5))
def reflected_padding_sent_back_as_symmetric(x):
    """Reflection leaves the border out; the rule counts it."""

    def dx(g):
        d = g[:, 2:-2].copy()
        d[:, :2] += g[:, 1::-1]
        d[:, -2:] += g[:, :-3:-1]
        return d

    return np.pad(x, ((0, 0), (2, 2)), mode="reflect"), dx


@wrong_op("crop", Kind.PLACE, normal(2, 5, 5))
def center_crop_back_in_the_corner(x):
    def dx(g):
        d = np.zeros_like(x)
        d[:, :3, :3] = g
        return d

    return x[:, 1:4, 1:4] * 1.0, dx


@wrong_op("rot90", Kind.PLACE, normal(4, 4))
def rotated_the_same_way_again(x):
    return np.rot90(x), lambda g: np.rot90(g)


@wrong_op("color", Kind.PLACE, normal(2, 3, 3), normal(3, 3))
def color_matrix_not_transposed_for_pictures(x, m):
    return (
        np.einsum("ij,hwj->hwi", m, x),
        lambda g: np.einsum("ij,hwj->hwi", m, g),
        lambda g: np.einsum("hwi,hwj->ij", g, x),
    )


@wrong_op("normalize", (Kind.SLOPE, Kind.CONSTANT), positive(2, 2, 3))
def normalized_channels_without_their_deviation(x):
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.3, 0.25])
    return (x - mean) / std, lambda g: g * 1.0


@wrong_op("total_variation", (Kind.CONSTANT, Kind.TERM, Kind.MASK), normal(4, 4))
def total_variation_with_the_left_side_only(x):
    """Squared differences of neighbors in a row; each picture element is in two of them."""
    d = np.diff(x, axis=1)
    return (d * d).sum(), lambda g: 2 * g * np.pad(-d, ((0, 0), (0, 1)))


@wrong_op("sobel", (Kind.CONSTANT, Kind.PLACE), normal(5, 5))
def edge_filter_sent_back_unflipped(x):
    k = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    seen = np.lib.stride_tricks.sliding_window_view(x, (3, 3))

    def dx(g):
        d = np.zeros_like(x)
        for i in range(3):
            for j in range(3):
                d[i : i + 3, j : j + 3] += k[2 - i, 2 - j] * g
        return d

    return (seen * k).sum(axis=(2, 3)), dx


@wrong_op("resize", Kind.CONSTANT, normal(2, 2, 3))
def nearest_upsampling_averaged_back(x):
    return x.repeat(2, axis=1).repeat(2, axis=2), lambda g: g.reshape(2, 2, 2, 3, 2).mean(axis=(2, 4))


@wrong_op("max_pool", (Kind.TERM, Kind.MASK, Kind.SUM), spread(1, 5, 5))
def overlapping_max_pool_that_overwrites(x):
    seen = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2)).reshape(1, 3, 3, 9)
    win = seen.argmax(axis=-1)[0]
    i, j = np.indices((3, 3))

    def dx(g):
        d = np.zeros_like(x)
        d[0, i + win // 3, j + win % 3] = g[0]
        return d

    return seen.max(axis=-1), dx


@wrong_op("coord", (Kind.TERM, Kind.DETACHED), normal(2, 4))
def soft_argmax_without_its_normalizer(x):
    e = np.exp(x)
    p = e / e.sum(axis=1, keepdims=True)
    t = np.arange(4.0)
    return (p * t).sum(axis=1), lambda g: g[:, None] * p * t


@wrong_op(
    "spatial_gate",
    (Kind.SUM, Kind.TERM, Kind.PLACE),
    normal(2, 3, 3),
)
def spatial_gate_back_over_the_wrong_axis(x):
    s = sigmoid(x.mean(axis=1, keepdims=True))

    def dx(g):
        return g * s + (g * x * s * (1 - s)).sum(axis=2, keepdims=True) / 3

    return x * s, dx


@wrong_op("gamma", Kind.SLOPE, positive(3, 4), positive(1))
def gamma_correction_without_its_logarithm(x, gamma):
    y = x**gamma
    return y, lambda g: g * gamma * y / x, lambda g: (g * y).sum(keepdims=True).reshape(1)


@wrong_op("alpha", (Kind.TERM, Kind.CONSTANT), normal(3, 4), normal(3, 4), positive(3, 4))
def blend_whose_alpha_sees_the_front_only(a, b, t):
    return t * a + (1 - t) * b, lambda g: g * t, lambda g: g * (1 - t), lambda g: g * a

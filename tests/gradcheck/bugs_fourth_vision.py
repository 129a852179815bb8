"""Mistakes in convolutions, pooling, resampling and geometry."""

import numpy as np
from users_planting import spread, wrong_op

from tinygen.gradcheck import Kind

rng = np.random.default_rng(4404)


@wrong_op("conv2d", Kind.PLACE, rng.normal(size=(2, 2, 5, 5)), rng.normal(size=(3, 2, 3, 3)))
def conv2d_whose_full_convolution_is_a_correlation(x, w):
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    y = np.einsum("ncijuv,ocuv->noij", windows, w)

    def dx(g):
        g = np.pad(g, ((0, 0), (0, 0), (2, 2), (2, 2)))
        around = np.lib.stride_tricks.sliding_window_view(g, (3, 3), axis=(2, 3))
        return np.einsum("noijuv,ocuv->ncij", around, w)

    def dw(g):
        return np.einsum("ncijuv,noij->ocuv", windows, g)

    return y, dx, dw


@wrong_op("max_pool2d", Kind.PLACE, spread(1, 2, 4, 6))
def max_pool_with_row_and_column_of_the_maximum_exchanged(x):
    n, c, h, w = x.shape
    blocks = (
        x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
    )
    best = blocks.argmax(axis=-1)
    y = np.take_along_axis(blocks, best[..., None], axis=-1)[..., 0]

    def dx(g):
        d = np.zeros_like(x)
        col, row = np.divmod(best, 2)
        for index in np.ndindex(*g.shape):
            a, b, i, j = index
            d[a, b, 2 * i + row[index], 2 * j + col[index]] = g[index]
        return d

    return y, dx


@wrong_op("conv1d", Kind.PLACE, rng.normal(size=(2, 10)), rng.normal(size=3))
def dilated_conv_whose_weight_sees_it_undilated(x, w):
    """Causal: y[t] = sum_k w[k] x[t - 2 k]."""
    dilation, n = 2, x.shape[1]

    def delayed(z, by):
        return np.pad(z, ((0, 0), (by, 0)))[:, :n]

    y = sum(w[k] * delayed(x, dilation * k) for k in range(3))

    def dx(g):
        d = np.zeros_like(x)
        for k in range(3):
            s = dilation * k
            d[:, : n - s] += w[k] * g[:, s:]
        return d

    def dw(g):
        return np.array([(g * delayed(x, k)).sum() for k in range(3)])

    return y, dx, dw


@wrong_op(
    "depthwise_conv",
    Kind.SUM,
    rng.normal(size=(2, 3, 7)),
    rng.normal(size=(3, 3)),
)
def depthwise_weight_with_the_gradient_of_all_channels(x, w):
    windows = np.lib.stride_tricks.sliding_window_view(x, 3, axis=-1)
    y = np.einsum("nctk,ck->nct", windows, w)

    def dx(g):
        d = np.zeros_like(x)
        for k in range(3):
            d[:, :, k : k + g.shape[-1]] += w[:, k, None] * g
        return d

    def dw(g):
        total = np.einsum("nct,nctk->k", g, windows)
        return np.broadcast_to(total, w.shape)

    return y, dx, dw


@wrong_op(
    "grid_sample",
    Kind.CONSTANT,
    rng.normal(size=(5, 5)),
    np.array([[-0.8, 0.33], [0.1, 0.12], [0.7, -0.41], [-0.15, -0.9], [0.85, 0.61]]),
)
def bilinear_sample_with_its_slope_per_pixel(image, grid):
    """The grid runs from -1 to 1, the slopes are taken from pixel to pixel."""
    size = len(image)
    x, y = (grid[:, 0] + 1) * (size - 1) / 2, (grid[:, 1] + 1) * (size - 1) / 2
    j = np.clip(np.floor(x).astype(int), 0, size - 2)
    i = np.clip(np.floor(y).astype(int), 0, size - 2)
    a, b = y - i, x - j
    corners = image[i, j], image[i, j + 1], image[i + 1, j], image[i + 1, j + 1]
    top = corners[0] * (1 - b) + corners[1] * b
    bottom = corners[2] * (1 - b) + corners[3] * b

    def dimage(g):
        d = np.zeros_like(image)
        np.add.at(d, (i, j), g * (1 - a) * (1 - b))
        np.add.at(d, (i, j + 1), g * (1 - a) * b)
        np.add.at(d, (i + 1, j), g * a * (1 - b))
        np.add.at(d, (i + 1, j + 1), g * a * b)
        return d

    def dgrid(g):
        dx = (1 - a) * (corners[1] - corners[0]) + a * (corners[3] - corners[2])
        return np.stack([g * dx, g * (bottom - top)], axis=-1)

    return top * (1 - a) + bottom * a, dimage, dgrid


@wrong_op("upsample_nearest", (Kind.SUM, Kind.TERM), rng.normal(size=(1, 2, 3, 4)))
def nearest_upsampling_undone_by_a_stride(x):
    y = x.repeat(2, axis=2).repeat(2, axis=3)
    return y, lambda g: g[:, :, ::2, ::2]


@wrong_op("quaternion_rotate", Kind.PLACE, rng.normal(size=(5, 3)), np.array([0.9, -0.3, 0.5, 0.2]))
def points_turned_once_more_instead_of_back(points, q):
    w, x, y, z = q
    turn = np.array(
        [
            [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
        ]
    )

    def dq(g):
        dturn = g.T @ points
        slopes = [
            [[w, -z, y], [z, w, -x], [-y, x, w]],
            [[x, y, z], [y, -x, -w], [z, w, -x]],
            [[-y, x, w], [x, y, z], [-w, z, -y]],
            [[-z, -w, x], [w, -z, y], [x, y, z]],
        ]
        return 2 * np.array([(dturn * np.array(s)).sum() for s in slopes])

    return points @ turn.T, lambda g: g @ turn.T, dq


STEP = np.array([0.3, 0.3, 0.5, 0.2, 0.4, 0.6])


@wrong_op(
    "volume_render",
    (Kind.TERM, Kind.DETACHED),
    rng.uniform(0.1, 2.0, size=(3, 6)),
    rng.uniform(0, 1, size=(3, 6)),
)
def rays_that_do_not_darken_what_is_behind(density, color):
    """A denser sample adds its own color, and hides all that come after."""
    optical = density * STEP
    passed = np.cumsum(optical, axis=-1)
    light = np.exp(-(passed - optical))
    alpha = 1 - np.exp(-optical)
    weights = light * alpha

    def ddensity(g):
        return g[:, None] * color * light * np.exp(-optical) * STEP

    return (weights * color).sum(axis=-1), ddensity, lambda g: g[:, None] * weights


@wrong_op(
    "channel_scale",
    Kind.SUM,
    rng.normal(size=(2, 3, 4, 3)),
    rng.uniform(0.5, 2, size=3),
    rng.normal(size=3),
)
def per_channel_scale_with_channels_last_in_the_rule(x, scale, shift):
    """(N, C, H, W), and as many columns as channels."""
    y = x * scale[:, None, None] + shift[:, None, None]

    def dscale(g):
        return (g * x).sum(axis=(0, 1, 2))

    return y, lambda g: g * scale[:, None, None], dscale, lambda g: g.sum(axis=(0, 2, 3))

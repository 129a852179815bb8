"""The transforms of Winograd's F(4×4, 3×3), for one channel of a block of tiles: see `winograd.py`.

A block has as many rows of tiles as fit into TILES, from row `first` on, counted through all images. The
lines of a map that they read are side by side in `rows`, at a distance of WIDE, so that the compiler knows
the lengths of all loops. For the other axis, the columns are split into four groups by their number mod 4.
"""

from __future__ import annotations

import numpy as np

from tinygen.kernels.compiled.blas import ONE, ZERO
from tinygen.kernels.compiled.compile import inner

F = np.float32
P, Q = 5 / 8, 3 / 2  # the points are 0, ±P, ±Q, ∞
P1, P2, P3, Q1, Q2, Q3 = map(F, (P, P**2, P**3, Q, Q**2, Q**3))
SUM, PRODUCT = F(P**2 + Q**2), F(P**2 * Q**2)

TILES = 32
WIDE = 4 * TILES  # entries in a line of tiles
WORK = 16 * WIDE  # floats that the transforms need to work in


# -- the transforms along one axis -----------------------------------------------------------------


@inner
def transform_patch(d0, d1, d2, d3, d4, d5):
    """Bᵀ d."""
    even_p, odd_p = d4 - Q2 * d2, P1 * (d3 - Q2 * d1)
    even_q, odd_q = d4 - P2 * d2, Q1 * (d3 - P2 * d1)
    first = PRODUCT * d0 - SUM * d2 + d4
    last = PRODUCT * d1 - SUM * d3 + d5
    return first, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, last


@inner
def tile(m0, m1, m2, m3, m4, m5):
    """Aᵀ m."""
    even_p, odd_p, even_q, odd_q = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return (
        m0 + even_p + even_q,
        P1 * odd_p + Q1 * odd_q,
        P2 * even_p + Q2 * even_q,
        P3 * odd_p + Q3 * odd_q + m5,
    )


@inner
def transform_gradient(g0, g1, g2, g3):
    """A g."""
    even_p, odd_p = g0 + P2 * g2, P1 * g1 + P3 * g3
    even_q, odd_q = g0 + Q2 * g2, Q1 * g1 + Q3 * g3
    return g0, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, g3


# -- from maps to lines, and back ------------------------------------------------------------------


@inner
def read(x, c, top, count, first, number, across, rows):
    """rows (count, WIDE) = the rows of x from 4·th + top on, for each row of tiles; 0 outside the map."""
    height = x.shape[2]
    down = (height + 3) // 4
    for j in range(number):
        n, th = (first + j) // down, (first + j) % down
        for k in range(count):
            into = rows[k * WIDE + 4 * j * across : k * WIDE + 4 * (j + 1) * across]
            row = 4 * th + top + k
            if 0 <= row < height:
                line = x[n, c, row]
                for i in range(line.size):
                    into[i] = line[i]
                for i in range(line.size, into.size):
                    into[i] = ZERO
            else:
                for i in range(into.size):
                    into[i] = ZERO
    for k in range(count):
        rest = rows[k * WIDE + 4 * number * across : (k + 1) * WIDE]
        for i in range(rest.size):
            rest[i] = ZERO


@inner
def write(y, c, first, number, across, rows):
    """Write rows (4, WIDE) into y."""
    height, width = y.shape[2:]
    down = (height + 3) // 4
    for j in range(number):
        n, th = (first + j) // down, (first + j) % down
        for k in range(min(4, height - 4 * th)):
            line = y[n, c, 4 * th + k]
            of = rows[k * WIDE + 4 * j * across : k * WIDE + 4 * j * across + width]
            for i in range(line.size):
                line[i] = of[i]


@inner
def split_columns(row, columns):
    """columns (4, TILES) of a row."""
    for t in range(TILES):
        columns[t] = row[4 * t]
        columns[TILES + t] = row[4 * t + 1]
        columns[2 * TILES + t] = row[4 * t + 2]
        columns[3 * TILES + t] = row[4 * t + 3]


# -- one channel -----------------------------------------------------------------------------------


@inner
def patches(x, c, first, number, across, left, right, work, v, step):
    """v (36, TILES), rows `step` apart, = Bᵀ x B of channel c. `left` and `right` come from `borders`."""
    rows, columns = work[: 6 * WIDE], work[6 * WIDE :]
    read(x, c, -1, 6, first, number, across, rows)
    for t in range(WIDE):
        d0, d1, d2 = rows[t], rows[WIDE + t], rows[2 * WIDE + t]
        d3, d4, d5 = rows[3 * WIDE + t], rows[4 * WIDE + t], rows[5 * WIDE + t]
        r0, r1, r2, r3, r4, r5 = transform_patch(d0, d1, d2, d3, d4, d5)
        rows[t], rows[WIDE + t], rows[2 * WIDE + t] = r0, r1, r2
        rows[3 * WIDE + t], rows[4 * WIDE + t], rows[5 * WIDE + t] = r3, r4, r5
    for i in range(6):
        split_columns(rows[i * WIDE : (i + 1) * WIDE], columns[1:])
        into = v[6 * i * step : 5 * step + 6 * i * step + TILES]
        for t in range(TILES):
            before, after = columns[3 * TILES + t], columns[1 + t + 1]
            before, after = before if left[t] > ZERO else ZERO, after if right[t] > ZERO else ZERO
            d1, d2 = columns[1 + t], columns[1 + TILES + t]
            d3, d4 = columns[1 + 2 * TILES + t], columns[1 + 3 * TILES + t]
            v0, v1, v2, v3, v4, v5 = transform_patch(before, d1, d2, d3, d4, after)
            into[t], into[step + t], into[2 * step + t] = v0, v1, v2
            into[3 * step + t], into[4 * step + t], into[5 * step + t] = v3, v4, v5


@inner
def tiles(m, y, o, bias, first, number, across, work):
    """Channel o of y = Aᵀ m A + bias for m (36, TILES)."""
    half, rows = work[: 24 * TILES], work[24 * TILES :]  # (4, 6, TILES), (4, WIDE)
    for t in range(6 * TILES):
        m0, m1, m2 = m[t], m[6 * TILES + t], m[12 * TILES + t]
        m3, m4, m5 = m[18 * TILES + t], m[24 * TILES + t], m[30 * TILES + t]
        r0, r1, r2, r3 = tile(m0, m1, m2, m3, m4, m5)
        half[t], half[6 * TILES + t], half[12 * TILES + t], half[18 * TILES + t] = r0, r1, r2, r3
    for i in range(4):
        row, of = rows[i * WIDE : (i + 1) * WIDE], half[6 * i * TILES : 6 * (i + 1) * TILES]
        for t in range(TILES):
            m0, m1, m2 = of[t], of[TILES + t], of[2 * TILES + t]
            m3, m4, m5 = of[3 * TILES + t], of[4 * TILES + t], of[5 * TILES + t]
            y0, y1, y2, y3 = tile(m0, m1, m2, m3, m4, m5)
            row[4 * t], row[4 * t + 1] = y0 + bias, y1 + bias
            row[4 * t + 2], row[4 * t + 3] = y2 + bias, y3 + bias
    write(y, o, first, number, across, rows)


@inner
def gradient_patches(g, o, first, number, across, work, v, step):
    """v (36, TILES), rows `step` apart, = A g Aᵀ of channel o."""
    rows, half, columns = work[: 4 * WIDE], work[4 * WIDE : 10 * WIDE], work[10 * WIDE :]
    read(g, o, 0, 4, first, number, across, rows)
    for t in range(WIDE):
        g0, g1, g2, g3 = rows[t], rows[WIDE + t], rows[2 * WIDE + t], rows[3 * WIDE + t]
        r0, r1, r2, r3, r4, r5 = transform_gradient(g0, g1, g2, g3)
        half[t], half[WIDE + t], half[2 * WIDE + t] = r0, r1, r2
        half[3 * WIDE + t], half[4 * WIDE + t], half[5 * WIDE + t] = r3, r4, r5
    for i in range(6):
        split_columns(half[i * WIDE : (i + 1) * WIDE], columns)
        into = v[6 * i * step : 5 * step + 6 * i * step + TILES]
        for t in range(TILES):
            g0, g1 = columns[t], columns[TILES + t]
            g2, g3 = columns[2 * TILES + t], columns[3 * TILES + t]
            v0, v1, v2, v3, v4, v5 = transform_gradient(g0, g1, g2, g3)
            into[t], into[step + t], into[2 * step + t] = v0, v1, v2
            into[3 * step + t], into[4 * step + t], into[5 * step + t] = v3, v4, v5


@inner
def borders(across, left, right):
    """left and right get 1 for each tile that has a neighbor on this side, else 0."""
    for t in range(TILES):
        inside = t < TILES // across * across
        left[t] = ONE if inside and t % across > 0 else ZERO
        right[t] = ONE if inside and t % across < across - 1 else ZERO

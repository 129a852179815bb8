"""The transforms of Winograd's F(4×4, 3×3) for the kernels of 3 by 3 themselves, and for their gradient: see
`winograd.py`.

LANES pairs of channels are done at a time, side by side in `work`, so that the compiler knows the lengths of
all loops and that the rows do not overlap.
"""

from __future__ import annotations

import numpy as np

from tinygen.kernels.compiled.compile import inner, parallel
from tinygen.kernels.compiled.winograd_tiles import P1, P2, Q1, Q2, P, Q

F = np.float32
OF_0 = F(1 / (P * Q) ** 2)  # 1 over the denominators of Lagrange's formula, for the points 0, ±P and ±Q
OF_P = F(1 / (2 * P**2 * (P**2 - Q**2)))
OF_Q = F(1 / (2 * Q**2 * (Q**2 - P**2)))
LANES = 64
ROOM = (9 + 18 + 36) * LANES  # floats that a part needs to work in


@inner
def transform_kernel(w0, w1, w2):
    """G w."""
    even_p, odd_p = OF_P * (w0 + P2 * w2), OF_P * P1 * w1
    even_q, odd_q = OF_Q * (w0 + Q2 * w2), OF_Q * Q1 * w1
    return OF_0 * w0, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, w2


@inner
def kernel_gradient(u0, u1, u2, u3, u4, u5):
    """Gᵀ u."""
    even_p, odd_p, even_q, odd_q = OF_P * (u1 + u2), OF_P * (u1 - u2), OF_Q * (u3 + u4), OF_Q * (u3 - u4)
    return OF_0 * u0 + even_p + even_q, P1 * odd_p + Q1 * odd_q, P2 * even_p + Q2 * even_q + u5


@inner
def transform_some(weight, turned, u, start, count, room):
    """Some pairs of `transform_weight`, from `start` on."""
    w, half, whole = room[: 9 * LANES], room[9 * LANES : 27 * LANES], room[27 * LANES :]
    for tap in range(9):
        of, into = weight[9 * start + (8 - tap if turned else tap) :], w[tap * LANES : (tap + 1) * LANES]
        for t in range(count):
            into[t] = of[9 * t]
    for t in range(3 * LANES):  # the three columns of w
        r0, r1, r2, r3, r4, r5 = transform_kernel(w[t], w[3 * LANES + t], w[6 * LANES + t])
        half[t], half[3 * LANES + t], half[6 * LANES + t] = r0, r1, r2
        half[9 * LANES + t], half[12 * LANES + t], half[15 * LANES + t] = r3, r4, r5
    for i in range(6):
        of, into = half[3 * i * LANES : 3 * (i + 1) * LANES], whole[6 * i * LANES : 6 * (i + 1) * LANES]
        for t in range(LANES):
            r0, r1, r2, r3, r4, r5 = transform_kernel(of[t], of[LANES + t], of[2 * LANES + t])
            into[t], into[LANES + t], into[2 * LANES + t] = r0, r1, r2
            into[3 * LANES + t], into[4 * LANES + t], into[5 * LANES + t] = r3, r4, r5
    for p in range(36):
        of, into = whole[p * LANES : (p + 1) * LANES], u[p, start : start + count]
        for t in range(count):
            into[t] = of[t]


@inner
def gradient_of_some(u, weight, start, count, room):
    """Some pairs of `weight_gradient`, from `start` on."""
    w, half, whole = room[: 9 * LANES], room[9 * LANES : 27 * LANES], room[27 * LANES :]
    for p in range(36):
        of, into = u[p, start : start + count], whole[p * LANES : (p + 1) * LANES]
        for t in range(count):
            into[t] = of[t]
    for i in range(6):
        of, into = whole[6 * i * LANES : 6 * (i + 1) * LANES], half[3 * i * LANES : 3 * (i + 1) * LANES]
        for t in range(LANES):
            u0, u1, u2 = of[t], of[LANES + t], of[2 * LANES + t]
            u3, u4, u5 = of[3 * LANES + t], of[4 * LANES + t], of[5 * LANES + t]
            into[t], into[LANES + t], into[2 * LANES + t] = kernel_gradient(u0, u1, u2, u3, u4, u5)
    for t in range(3 * LANES):
        u0, u1, u2 = half[t], half[3 * LANES + t], half[6 * LANES + t]
        u3, u4, u5 = half[9 * LANES + t], half[12 * LANES + t], half[15 * LANES + t]
        w[t], w[3 * LANES + t], w[6 * LANES + t] = kernel_gradient(u0, u1, u2, u3, u4, u5)
    for tap in range(9):
        of, into = w[tap * LANES : (tap + 1) * LANES], weight[9 * start + tap :]
        for t in range(count):
            into[9 * t] = of[t]


@parallel
def transform_weight(i, weight, turned, u, work):
    """u (36, pairs of channels) = G w Gᵀ for the pairs' kernels w, weight (pairs · 9); turned by 180 degrees
    if `turned`. `work` has ROOM floats for each part."""
    pairs, parts = u.shape[1], len(work)
    blocks = (pairs + LANES - 1) // LANES
    for block in range(blocks * i // parts, blocks * (i + 1) // parts):
        start = block * LANES
        transform_some(weight, turned, u, start, min(LANES, pairs - start), work[i])


@parallel
def weight_gradient(i, u, weight, work):
    """weight (pairs of channels · 9) = Gᵀ u G for u (36, pairs)."""
    pairs, parts = u.shape[1], len(work)
    blocks = (pairs + LANES - 1) // LANES
    for block in range(blocks * i // parts, blocks * (i + 1) // parts):
        start = block * LANES
        gradient_of_some(u, weight, start, min(LANES, pairs - start), work[i])

"""Random numbers for masks and noise, on the device of the arrays that they are for.

NumPy's generators draw on the CPU, and their numbers are copied to a GPU. A `DeviceGenerator` is a NumPy
generator, but draws masks and noise on the device that needs them. For that, each number must be computable
by itself, in any order. The generator Philox4x32-10
(Salmon et al. 2011, *Parallel random numbers: as easy as 1, 2, 3*, section 3.3) is a function of a counter
and a key,

    word = philox(counter, key)        counter 0, 1, 2, ...: four words of 32 bits each

where ten rounds mix the counter with the key, each by two products of 32 bits by 32. Thread 5 of a GPU uses
counter 5, and no thread waits for another. `tinygen_cuda/philox.py` compiles the same function.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen.node import Op
from tinygen.rows import ROWS, RowsGenerator
from tinygen.tensor import Array, Tensor

# In uint64, so that a product keeps its upper half; NumPy's scalars, so that Numba takes them as they are.
LOW, HALF, ZERO = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(0)
FIRST, SECOND = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)  # the factors
GOLDEN, ROOT = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)  # added to the key after each round


def philox(a: Any, b: Any, c: Any, d: Any, key0: Any, key1: Any) -> Any:
    """Four random words of the counter a, b, c, d and the key, all of them words of 32 bits kept in uint64:
    numbers, or arrays of counters."""
    for _ in range(10):
        left, right = FIRST * a, SECOND * c
        a, b, c, d = (right >> HALF) ^ b ^ key0, right & LOW, (left >> HALF) ^ d ^ key1, left & LOW
        key0, key1 = (key0 + GOLDEN) & LOW, (key1 + ROOT) & LOW
    return a, b, c, d


class Seed(int):
    """A seed of 64 bits from a `DeviceGenerator`: the key of Philox."""

    def words(self) -> tuple[np.uint64, np.uint64]:
        return np.uint64(self) & LOW, np.uint64(self) >> HALF


class DeviceGenerator(np.random.Generator):
    """`np.random.default_rng(seed)`, but masks and noise for arrays are drawn on their device, by Philox:
    nothing is copied to a GPU. Weights, batches and steps are drawn as by NumPy's generator.

    It is used, saved and restored like NumPy's generators. Each mask takes one seed of 64 bits, so that
    drawing never synchronizes with the GPU. The same seed gives the same mask on every device, and noise that
    differs in the last digit at most. On the CPU, NumPy's own generators are faster."""

    def __init__(self, seed: Any) -> None:
        super().__init__(np.random.default_rng(seed).bit_generator)

    def __reduce__(self) -> Any:
        return DeviceGenerator, (self.bit_generator,)  # NumPy's makes a plain Generator of a copy


RNGLike = np.random.Generator | int
"""The type of an argument `rng`: a generator, or an int, which is the seed of a new one."""


def as_generator(rng: RNGLike) -> np.random.Generator:
    """The generator to draw from: `rng` itself, or for an int `np.random.default_rng(rng)`.

    A function that hands `rng` on to several others converts it first, once: each of them would start its
    own generator from the same int, and all would draw the same numbers. Within `tinygen.parallel.share` it
    is a `RowsGenerator`, which draws for the whole batch and keeps the rows of this process.
    Raises TypeError for anything else (None too), ValueError for an int below 0."""
    if isinstance(rng, np.random.Generator):
        rows = ROWS.get()
        return rng if rows is None or isinstance(rng, RowsGenerator) else RowsGenerator(rng, rows)
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer):
        raise TypeError(
            f"rng must be a np.random.Generator or an int, the seed of one, got {type(rng).__name__}: "
            "pass rng=np.random.default_rng(0), or rng=0"
        )
    if rng < 0:
        raise ValueError(f"rng must be a generator or a seed of 0 or more, got {rng}")
    return as_generator(np.random.default_rng(rng))


def draws_on_device(rng: np.random.Generator) -> bool:
    return isinstance(rng.source if isinstance(rng, RowsGenerator) else rng, DeviceGenerator)


def new_seed(rng: np.random.Generator) -> int:
    """A seed for `uniform`; its type says which generator draws."""
    seed = int(rng.integers(2**63))
    return Seed(seed) if draws_on_device(rng) else seed


def random_words(like: Array, n: int, seed: Seed) -> list[Array]:
    """The four words of each of the first n counters, each (n,), on the device of `like`."""
    counters = np.arange(n, dtype=np.uint64, like=like)
    return list(philox(counters & LOW, counters >> HALF, counters & ZERO, counters & ZERO, *seed.words()))


def unit_interval(word: Array) -> Array:
    """A number in [0, 1) from the upper 24 bits of a word: float32 has as many just below 1."""
    return (word >> np.uint64(8)).astype(np.float32) * 2**-24


def uniform(like: Array, shape: tuple[int, ...], seed: Seed) -> tuple[Array]:
    """Uniform on [0, 1), float32, on the device of `like`: the first words of all counters, then the second
    ones, ..."""
    size = math.prod(shape)
    numbers = [unit_interval(word) for word in random_words(like, -(-size // 4), seed)]
    return (np.concatenate(numbers)[:size].reshape(shape),)


def normal(like: Array, shape: tuple[int, ...], seed: Seed) -> tuple[Array]:
    """N(0, 1), float32, on the device of `like`, by Box & Muller 1958: two uniform numbers give the angle and
    the radius of a point in the plane, whose coordinates are normal. None is beyond 6.8."""
    size = math.prod(shape)
    numbers = []
    w = random_words(like, -(-size // 4), seed)
    for far, around in ((w[0], w[1]), (w[2], w[3])):
        radius = np.sqrt(-2 * np.log(far.astype(np.float32) * 2**-32 + 2**-33))  # of a number in (0, 1]
        angle = 2 * math.pi * unit_interval(around)
        numbers += [radius * np.cos(angle), radius * np.sin(angle)]
    return (np.concatenate(numbers)[:size].reshape(shape),)


UNIFORM, NORMAL = Op(uniform), Op(normal)  # never on the tape, but definitions that have kernels


def require_dropout(p: float) -> None:
    """Raises ValueError unless p is the probability of dropping an entry, 0 <= p < 1."""
    if not 0 <= p < 1:
        raise ValueError(f"dropout must be in [0, 1), got {p}: it is the probability of dropping an entry")


def dropout_mask(like: Array, shape: tuple[int, ...], p: float, seed: int) -> Array:
    """1/(1 - p) with probability 1 - p, else 0, in the dtype and on the device of `like`: the same for the
    same seed, so that the tape can be run again (checkpoint, replay) without storing it. Raises ValueError
    unless 0 <= p < 1."""
    require_dropout(p)
    like = like._data if isinstance(like, Tensor) else like

    def draw(shape: tuple[int, ...]) -> Array:
        if isinstance(seed, Seed):
            return UNIFORM.compute(like, shape, seed)[0]
        return np.random.Generator(np.random.SFC64(seed)).random(shape, dtype=np.float32)

    rows = ROWS.get()
    draws = draw(shape) if rows is None else rows.own(draw, shape)
    mask = (draws >= p).astype(like.dtype) * (1 / (1 - p))
    return np.asarray(mask, like=like)


def noise_like(x: Array, rng: np.random.Generator) -> Array:
    """N(0, 1) of x's shape and dtype, on its device. In float64 a `DeviceGenerator` has the digits of
    float32."""
    if draws_on_device(rng):
        seed, rows = Seed(new_seed(rng)), ROWS.get()

        def draw(shape: tuple[int, ...]) -> Array:
            return NORMAL.compute(x, shape, seed)[0]

        return (draw(x.shape) if rows is None else rows.own(draw, x.shape)).astype(x.dtype, copy=False)
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    return np.asarray(rng.standard_normal(x.shape, dtype), dtype=x.dtype, like=x)

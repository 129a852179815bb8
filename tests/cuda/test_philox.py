"""Philox compiled by Numba gives the published answers, in a kernel in the simulator. (test_kernels.py
compares it with NumPy's; tests/ops/test_random.py tests the moments.)"""

import numpy as np
import pytest
from kernels import KERNELS
from philox_answers import ANSWERS
from schedule import scheduled

from tinygen_cuda.simt import cuda

four_words = KERNELS.philox.four_words


@cuda.jit
def answer(question, words):
    i = cuda.threadIdx.x
    q = question[i]
    words[i, 0], words[i, 1], words[i, 2], words[i, 3] = four_words(q[0], q[1], q[2], q[3], q[4], q[5])


def test_known_answers():
    asked = [[int(word, 16) for word in f"{counter} {key}".split()] for counter, key, _ in ANSWERS]
    expected = [[int(word, 16) for word in words.split()] for *_, words in ANSWERS]
    words = np.zeros((3, 4), np.uint64)
    with scheduled("up"):
        answer[1, 3](np.array(asked, np.uint64), words)
    np.testing.assert_array_equal(words, np.array(expected, np.uint64))


@pytest.mark.parametrize("turn", [0, 1, 2**30 - 1, 2**30, 2**31 + 5, 3 * 2**30, 2**32 - 1])
def test_directions(turn):
    """The series beside cosine and sine, at the edges of quadrants too."""
    angle = 2 * np.pi * (turn >> 8) / 2**24
    c, s = KERNELS.philox.direction.fn(np.uint64(turn))
    np.testing.assert_allclose((c, s), (np.cos(angle), np.sin(angle)), atol=2e-7)

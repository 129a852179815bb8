"""Two small algorithms to learn exactly: sorting digits and adding numbers.

They are the tasks of minGPT (Karpathy 2020: its demo and its `adder` project). Each prompt has one right
answer, so a trained model is judged by exact match on inputs that it never saw, and can reach 100%.

A sequence is a prompt of P tokens and an answer of A tokens. A GPT reads x, the sequence without its
last token, and must predict y, the sequence without its first token. Tokens of the prompt need not be
predicted: there y is `IGNORED`, and these positions do not count in the loss.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinygen.types import Ids

IGNORED = -1


@dataclass(frozen=True)
class Task:
    """All prompts of a task, in a fixed split, and the function that answers them."""

    vocab_size: int
    train: Ids  # (N, P)
    test: Ids  # (M, P), none of which is in train
    answer: Callable[[Ids], Ids]  # (B, P) -> (B, A)

    @property
    def answer_size(self) -> int:
        """A, the number of tokens to generate after a prompt."""
        return int(self.answer(self.test).shape[1])

    @property
    def block_size(self) -> int:
        """P + A - 1, the length of x and y: the last token of the answer is never read."""
        return int(self.test.shape[1]) + self.answer_size - 1

    def examples(self, prompts: Ids) -> tuple[Ids, Ids]:
        """x and y, both (B, P + A - 1), of prompts (B, P)."""
        sequence = np.concatenate([prompts, self.answer(prompts)], axis=1)
        x, y = sequence[:, :-1], sequence[:, 1:].copy()
        y[:, : prompts.shape[1] - 1] = IGNORED  # the last token of the prompt predicts the answer
        return x, y

    def random_batch(self, batch_size: int, rng: np.random.Generator) -> tuple[Ids, Ids]:
        """`examples` of training prompts drawn uniformly with replacement."""
        return self.examples(self.train[rng.integers(len(self.train), size=batch_size)])

    def accuracy(self, prompts: Ids, generated: Ids) -> float:
        """The fraction of prompts (B, P) whose generated answer (B, A) is right in every token."""
        expected = self.answer(prompts)
        if generated.shape != expected.shape:
            raise ValueError(
                f"the answers to these prompts have shape {expected.shape}, got {generated.shape}: "
                "pass the generated tokens without their prompt"
            )
        return float((generated == expected).all(axis=1).mean())


def sorting() -> Task:
    """Six digits 0, 1 or 2 in, the same digits in ascending order out: 201021 -> 001122.

    There are 729 prompts. A prompt is for testing if the CRC-32 of its bytes (one a digit) is divisible
    by 4, else for training: this rule needs no list and is the same on every machine. The test inputs
    are new, but not their outputs: there are only 28 outputs, and training shows them all.
    """
    prompts = np.indices((3,) * 6).reshape(6, -1).T  # (729, 6)
    held_out = np.array([zlib.crc32(bytes(prompt.tolist())) % 4 == 0 for prompt in prompts])
    return Task(3, prompts[~held_out], prompts[held_out], np.sort)


def addition() -> Task:
    """Two numbers of two digits in, their sum of three digits out, units first: 85 + 50 -> 5 3 1.

    The prompt is the four digits in the usual order, 8550. The sum is reversed, because addition starts
    with the units, and each digit needs the carry of the digit before. Of the 10,000 pairs, the first
    500 of a permutation with the fixed seed 1337 are for testing, the others for training.
    """
    pairs = np.random.default_rng(1337).permutation(10_000)
    prompts = pairs[:, None] // np.array([1000, 100, 10, 1]) % 10  # (10000, 4)
    return Task(10, prompts[500:], prompts[:500], reversed_sum)


def reversed_sum(prompts: Ids) -> Ids:
    """The three digits of a + b, units first, of prompts (B, 4)."""
    total = prompts @ np.array([10, 1, 10, 1])  # (B,)
    digits: Ids = total[:, None] // np.array([1, 10, 100]) % 10
    return digits

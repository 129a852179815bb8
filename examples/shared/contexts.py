"""For `in_context.py`: a decoder that reads pairs of numbers, inputs of other kinds than in training, texts
with repeats, and what each attention head looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from shared.plots import panels

from tinygen import Tensor, nn, no_grad, ops
from tinygen.arrays import to_device
from tinygen.data.linear_functions import LinearFunctions
from tinygen.models import GPT
from tinygen.nn.attention import split_heads
from tinygen.types import Floats, Ids, NumpyArray

SYMBOLS, SHORTEST, LONGEST, LENGTH = 32, 8, 24, 48  # of the texts with repeats: tokens, periods, length
HEADS = [f"layer {layer}, head {head}" for layer in (1, 2) for head in (1, 2, 3, 4)]  # of the copying model

INPUTS: dict[str, Callable[[NumpyArray], NumpyArray]] = {
    "": lambda x: x,
    ", skewed x": lambda x: x * skew(x.shape[-1]),
    ", x in half of the dimensions": lambda x: x * half(x.shape[-1]),
    ", x twice as large": lambda x: 2 * x,
}
"""Kinds of x, made of x from N(0, I): as in training, and others (Garg et al. 2022)."""


# -- pairs of numbers ------------------------------------------------------------------------------


class PairDecoder(nn.Module):
    """GPT's blocks between two linear layers. For prompts x (B, K, D) and y (B, K) it returns (B, K), a
    prediction of each y from its x and the pairs before it.

    The prompt is x_1, y_1, x_2, y_2, ...: 2 K vectors, where a y is a vector of zeros with y in front. A
    prediction is read at the place of its x (Garg et al. 2022)."""

    def __init__(
        self, dim: int, pairs: int, layers: int, heads: int, channels: int, *, rng: np.random.Generator
    ) -> None:
        self.read_in = nn.Linear(dim, channels, rng=rng)
        self.positions = nn.Parameter(0.1 * rng.standard_normal((2 * pairs, channels), dtype=np.float32))
        self.blocks = nn.ModuleList(nn.Block(channels, heads, causal=True, rng=rng) for _ in range(layers))
        self.norm = nn.LayerNorm(channels)
        self.read_out = nn.Linear(channels, 1, rng=rng)

    def forward(self, x: Any, y: Any) -> Tensor:
        prompt = np.zeros_like(x, shape=(len(x), 2 * x.shape[1], x.shape[2]))  # (B, 2K, D)
        prompt[:, ::2], prompt[:, 1::2, 0] = x, y
        h = self.read_in(prompt) + self.positions[: prompt.shape[1]]  # (B, 2K, C)
        for block in self.blocks:
            h = block(h)
        return self.read_out(self.norm(h[:, ::2]))[..., 0]


def skew(dim: int) -> Floats:
    """Standard deviations in proportion to 1, 1/2, 1/3, ..., whose mean square is 1."""
    stds = 1 / np.arange(1, dim + 1)
    return stds / np.sqrt(np.mean(stds**2))


def half(dim: int) -> Floats:
    """Standard deviations of 0 in the second half of the dimensions; their mean square is 1."""
    used = np.arange(dim) < max(dim // 2, 1)
    return used / np.sqrt(np.mean(used))


def squared_errors(
    model: Any, f: LinearFunctions, x: NumpyArray, device: str, *, rng: int
) -> dict[str, Floats]:
    """Mean squared errors (K,), divided by D, after 0 ... K - 1 pairs of prompts with x (n, K, D): of the
    model, of the best answers, and of the answer 0.

    The best answer is a conditional mean: what it misses of y is uncorrelated with the prompt. So the error
    of another answer is the error of the best plus the mean square of their difference, which has far less
    noise than the error itself."""
    y = f.answer(x, rng=rng).astype(np.float32)
    best, variances = f.predictions(x, y)
    with no_grad():
        parts = [slice(i, i + 500) for i in range(0, len(x), 500)]
        there = [[to_device(each[part].astype(np.float32), device) for each in (x, y)] for part in parts]
        answers = np.concatenate([model(*each).numpy() for each in there])
    least = variances.mean(axis=0)
    found = {"model": answers - best, "best": 0 * best, "zero": best}
    return {name: (least + np.mean(away**2, axis=0)) / f.dim for name, away in found.items()}


def errors_of_kinds(
    model: Any, f: LinearFunctions, pairs: int, device: str, *, rng: int
) -> dict[str, dict[str, Floats]]:
    """`squared_errors` for each kind of x in INPUTS, in 4,000 prompts with that many pairs."""
    x = np.random.default_rng(rng).standard_normal((4000, pairs, f.dim))
    return {kind: squared_errors(model, f, change(x), device, rng=rng + 1) for kind, change in INPUTS.items()}


# -- texts with repeats ----------------------------------------------------------------------------


def repeated_texts(n: int, *, rng: np.random.Generator) -> tuple[Ids, Ids, Ids]:
    """n texts (n, 48) of tokens that come again and again; the token after each, or -1 where it is not a
    repetition; and the periods (n,), 8 to 24. Within a period the tokens are random, but all different: so
    the last token is enough to know the next one."""
    periods = rng.integers(SHORTEST, LONGEST + 1, n)
    tokens = rng.permuted(np.tile(np.arange(SYMBOLS), (n, 1)), axis=1)  # (n, 32)
    place = np.arange(LENGTH + 1)
    text = np.take_along_axis(tokens, place % periods[:, None], axis=1)
    return text[:, :-1], np.where(place < periods[:, None], -1, text)[:, 1:], periods


def attention_weights(model: GPT, idx: Ids) -> list[NumpyArray]:
    """What each head looks at: the weights (B, H, T, T) of each layer, which `ops.attention` does not return.
    idx (B, T)."""
    found = []
    with no_grad():
        x = model.wte(idx) + model.wpe(np.arange(idx.shape[1]))
        for block in model.h:
            attn = block.attn
            parts = ops.split(attn.qkv(block.ln1(x)), 3, axis=-1)
            q, k, _ = (split_heads(each, attn.heads) for each in parts)
            scores = (q @ k.transpose(0, 1, 3, 2)).numpy() / np.sqrt(q.shape[-1])  # (B, H, T, T)
            later = np.triu(np.ones(scores.shape[-2:], bool), 1)
            weights = np.exp(np.where(later, -np.inf, scores - scores.max(axis=-1, keepdims=True)))
            found.append(weights / weights.sum(axis=-1, keepdims=True))
            x = block(x)
    return found


def measure_copies(model: GPT, text: Ids, targets: Ids, periods: Ids) -> dict[str, float]:
    """The induction score of each head, and "right": the share of repetitions that the model finds most
    probable. The score is the mean attention, in the second period, from a token to the one after its first
    place: 1 for a perfect induction head (Olsson et al. 2022, arXiv:2209.11895)."""
    t = np.arange(LENGTH)
    rows, t = np.nonzero((t >= periods[:, None]) & (t < 2 * periods[:, None]))
    weights = np.concatenate(attention_weights(model, text), axis=1)  # (n, layers · H, T, T)
    scores = weights[rows, :, t, t - periods[rows] + 1].mean(axis=0)
    with no_grad():
        answers = model(text)[0].numpy().argmax(axis=-1)  # (n, 48)
    right = float(np.mean((answers == targets)[targets >= 0]))
    return {"right": right, **dict(zip(HEADS, scores.tolist(), strict=True))}


# -- pictures --------------------------------------------------------------------------------------


def save_errors(path: Path, errors: Mapping[str, Mapping[str, Floats]]) -> None:
    """Draw squared errors by the number of pairs: a panel for each kind of x, a color for each noise."""
    kinds = [*dict.fromkeys(name.partition(", ")[2] for name in errors)]
    with panels(path, len(kinds), (3.1 * len(kinds), 3.4)) as axes:
        for each, kind in zip(axes, kinds, strict=True):
            there = {name: found for name, found in errors.items() if name.partition(", ")[2] == kind}
            for color, (name, found) in zip(("C0", "C1"), there.items(), strict=True):
                each.plot(found["best"], color=color, lw=4, alpha=0.3)
                each.plot(found["model"], "o", color=color, ms=4, label=name.partition(",")[0])
            each.set(title=kind or "x as in training", xlabel="pairs in the prompt", ylim=(0, None))
        axes[0].set_ylabel("squared error / D (line: the best possible)")
        axes[0].legend(frameon=False)


def save_heads(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Draw the induction score of each head over the steps, and the share of right answers."""
    with panels(path) as (axes,):
        steps = [row["step"] for row in rows]
        for head in HEADS:
            axes.plot(steps, [row[head] for row in rows], label=head)
        axes.plot(steps, [row["right"] for row in rows], color="0.2", ls="--", label="right answers")
        axes.set(title="Induction heads, and what they copy", xlabel="step", ylim=(0, 1.02))
        axes.legend(frameon=False, fontsize=8)

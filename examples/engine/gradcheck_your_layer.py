"""Write a layer with a mistake in its gradient, and let the checker find the mistake.

    python examples/engine/gradcheck_your_layer.py

The layer normalises each position by its size and scales it: y = weight · x / |x|, |x| = sqrt(mean(x²) + ε).
That is RMS norm (Zhang & Sennrich 2019, arXiv:1910.07467), written here as an op of its own: a value, and
beside it one rule per input that sends the gradient g back. The first of the two versions below has a common
mistake that training does not show.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from typing import Any

import numpy as np
from shared.flags import Flags, number, size

import tinygen
from tinygen import nn
from tinygen.optim import SGD
from tinygen.testing import check_layer

EPS = 1e-6

# -- 1. the op, with a mistake ---------------------------------------------------------------------


@tinygen.op
def scale_to_one(x: Any, weight: Any) -> Any:
    """x (..., C), weight (C) -> (..., C)."""
    inverse = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPS)  # (..., 1)
    xhat = x * inverse
    return (
        xhat * weight,
        lambda g: g * weight * inverse,  # the mistake: |x| depends on x too
        lambda g: g * xhat,
    )


# -- 2. the op, corrected --------------------------------------------------------------------------


@tinygen.op
def scale_to_one_fixed(x: Any, weight: Any) -> Any:
    inverse = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPS)
    xhat = x * inverse

    def dx(g: Any) -> Any:
        g = g * weight
        return inverse * (g - xhat * (g * xhat).mean(axis=-1, keepdims=True))

    return xhat * weight, dx, lambda g: g * xhat


# -- 3. the layer, and a model around it -----------------------------------------------------------


class Norm(nn.Module):
    """RMS norm over the last axis by `op`, one of the two above."""

    def __init__(self, channels: int, op: Any) -> None:
        self.weight = nn.Parameter(np.ones(channels, dtype=np.float32))
        self.op = op

    def forward(self, x: Any) -> Any:
        return self.op(x, self.weight)


class Model(nn.Module):
    """Two linear maps with the norm and a tanh in between: (B, channels) -> (B, 1)."""

    def __init__(self, channels: int, op: Any, *, rng: np.random.Generator) -> None:
        self.enter = nn.Linear(channels, channels, rng=rng)
        self.norm = Norm(channels, op)
        self.leave = nn.Linear(channels, 1, rng=rng)

    def forward(self, x: Any) -> Any:
        return self.leave(np.tanh(self.norm(self.enter(x))))


def train(model: Model, x: np.ndarray, y: np.ndarray, steps: int) -> tuple[float, float]:
    """The loss before and after plain gradient descent on the squared error."""
    losses, optimizer = [], SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        loss = np.square(model(tinygen.Tensor(x)) - y).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses[0], losses[-1]


def parse_args() -> argparse.Namespace:
    parser = Flags("A custom layer with a planted mistake, the checker's report, and the fix.")
    parser.add_argument("--channels", type=size(2, 256), default=6, help="width of the layer")
    parser.add_argument("--batch", type=size(1, 256), default=3, help="rows in the batch that is checked")
    parser.add_argument("--seed", type=number(int, 0), default=0, help="of weights and data")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    rng = np.random.default_rng(args.seed)
    x = rng.normal(size=(args.batch, args.channels))

    print("1. The layer trains, although its gradient is wrong.\n")
    data = rng.normal(size=(256, args.channels)).astype(np.float32)
    target = np.sin(data[:, :1]) * data[:, 1:2]
    for op in (scale_to_one, scale_to_one_fixed):
        model = Model(args.channels, op, rng=np.random.default_rng(args.seed))
        before, after = train(model, data, target, 200)
        print(f"   {op.__name__:20} loss {before:.3f} -> {after:.3f} in 200 steps")

    print("\n2. One call checks the layer, input and parameter:\n")
    print("   report = tinygen.gradcheck(Norm(channels, scale_to_one), x)\n")
    print_report(tinygen.gradcheck(Norm(args.channels, scale_to_one), x))

    print("\n3. Inside a model it is found too, with the line that called it:\n")
    model = Model(args.channels, scale_to_one, rng=rng)
    report = tinygen.gradcheck(model, x)
    print_report(report)
    if report.culprit is None:
        raise SystemExit("the culprit was not found")
    print(f"\n   report.culprit.op is {report.culprit.op!r}")

    print("\n4. The fix: the size of x depends on x, so dx has a second term (see `scale_to_one_fixed`).\n")
    print_report(tinygen.gradcheck(Norm(args.channels, scale_to_one_fixed), x, order=2))

    print("\n5. And in your test file, for shapes that you did not think of:\n")
    print('   check_layer(lambda: Norm(8, scale_to_one_fixed), ("B", "T", 8))')
    check_layer(lambda: Norm(8, scale_to_one_fixed), ("B", "T", 8))
    print("   passes; with `scale_to_one` it raises the report, at the smallest shapes that still fail:\n")
    try:
        check_layer(lambda: Norm(8, scale_to_one), ("B", "T", 8))
    except AssertionError as error:
        print(f"   {str(error).splitlines()[0]}")


def print_report(report: Any) -> None:
    print("\n".join(f"   | {line}".rstrip() for line in str(report).splitlines()))


if __name__ == "__main__":
    start(parse_args, main)

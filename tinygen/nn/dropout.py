"""Dropout (Srivastava et al. 2014, JMLR 15, *Dropout: a simple way to prevent neural networks from
overfitting*)."""

from __future__ import annotations

from typing import Any

from tinygen import ops
from tinygen.nn.module import Module
from tinygen.ops.random import RNGLike, as_generator, require_dropout
from tinygen.types import TensorLike


class Dropout(Module):
    """In training, each entry is set to 0 with probability p, and divided by 1 - p otherwise. In evaluation
    mode, the identity. Raises ValueError unless 0 <= p < 1."""

    def __init__(self, p: float, *, rng: RNGLike) -> None:
        require_dropout(p)
        self.p = p
        self.rng = as_generator(rng)

    def forward(self, x: TensorLike) -> Any:
        return ops.dropout(x, self.p, self.rng) if self.training else x

    def extra_repr(self) -> str:
        return f"{self.p}"

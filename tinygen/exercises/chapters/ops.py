"""Exercises on ops and their gradient rules."""

from __future__ import annotations

import numpy as np

from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Gradient, Mistake, Values

MATMUL = Exercise(
    "matmul",
    "tinygen.ops.linalg:matmul",
    "a matrix product and its two rules",
    hints=(
        "Write the product with indices: y_ij = Σ_k a_ik b_kj. Which entries of y does a_ik reach?",
        "For matrices the gradient by a is g bᵀ, and by b it is aᵀ g. With more axes, transpose the "
        "last two; a b that all of a's matrices share gets the sum over them.",
        "A vector is a row on the left and a column on the right: put its axis back (a[None, :], b[:, "
        "None]), use the same two products, and take the axis away from the gradient.",
    ),
    given=lambda: {
        "a": numbers(2, 3),
        "b": numbers(3, 3, seed=1),
        "batch": numbers(2, 2, 3),
        "many": numbers(2, 3, 2),
        "v": numbers(3),
        "wide": numbers(2, 3, 2),
    },
    checks=(
        Values("matmul(a, b)"),
        Values("matmul(batch, many)"),
        Gradient("matmul(a, b)", by="a b"),
        Gradient("matmul(batch, b)", by="batch b"),
        Gradient("matmul(batch, many)", by="batch many"),
        Gradient("matmul(v, b)", by="v b"),
        Gradient("matmul(batch, v)", by="batch v"),
        Gradient("matmul(v, wide)", by="v wide"),
    ),
    mistakes=(
        Mistake(
            "lambda g: g @ b.T", "lambda g: g @ b", "exchanged", "b is not transposed in the gradient by a"
        ),
        Mistake(
            "as_matrix(a).T @ as_matrix(g)",
            "as_matrix(a).T @ as_matrix(g) / len(a)",
            "0.5 times what it should be",
            "the gradient by a shared b is averaged over the batch instead of summed",
        ),
        Mistake(
            "return d[..., 0] if column else d",
            "return d",
            "has shape (2, 3, 1), the argument (3,)",
            "the axis that a vector on the right was given is still in its gradient",
        ),
    ),
)

MEAN = Exercise(
    "mean",
    "tinygen.ops.reduce:mean",
    "the mean over some axes, and its rule",
    hints=(
        "Each of n entries has the same share in their mean. What is its share in the gradient?",
        "`count` gives n. The gradient g has lost the axes that were averaged: put them back with size 1 "
        "(`keepdims_shape`), then broadcast.",
        "y = sum / n; the rule is np.broadcast_to((g / n).reshape(keepdims_shape(shape, axis)), shape).",
    ),
    given=lambda: {"x": numbers(3, 3, 2), "square": numbers(3, 3)},
    checks=(
        Values("mean(x)"),
        Values("mean(x, axis=(0, 2))"),
        Values("mean(x, axis=1, keepdims=True)"),
        Gradient("mean(square, axis=1)", by="square"),
        Gradient("mean(x, axis=(0, 2))", by="x"),
    ),
    mistakes=(
        Mistake(
            "axis, keepdims) / n",
            "axis, keepdims) / len(x)",
            "the factor is 6",
            "the sum is divided by the length of the first axis, not by the number of entries",
        ),
        Mistake(
            "(g / (n or 1)).reshape",
            "g.reshape",
            "3 times what it should be",
            "the gradient is that of the sum: its division by n is missing",
        ),
        Mistake(
            "(g / (n or 1)).reshape(keepdims_shape(shape, axis))",
            "g / (n or 1)",
            "exchanged",
            "the averaged axis is not put back, so that the gradient is broadcast along the wrong one",
        ),
    ),
)

MAX = Exercise(
    "max",
    "tinygen.ops.reduce:share_among_extremes",
    "the gradient of a maximum, shared among equals",
    hints=(
        "The maximum changes only if the entry that has it changes. And if two entries have it?",
        "hit = x == y marks the entries that have the maximum, once y has its lost axes again. They "
        "share the gradient equally.",
        "hit = detach(x) == detach(y).reshape(shape), shape = keepdims_shape(x.shape, axis); the rule is "
        "g.reshape(shape) * hit / (the number of hits along the axis).",
    ),
    given=lambda: {
        "x": np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [5.0, 0.0, 1.0]]),
        "g": numbers(3),
        "one": np.array(1.0),
    },
    checks=(
        Values("share_among_extremes(x, x.max(axis=1), 1)[0]"),
        Values("share_among_extremes(x, x.max(axis=1), 1)[1](g)"),
        Values("share_among_extremes(x, x.min(axis=0), 0)[1](g)"),
        Values("share_among_extremes(x, x.max(), None)[1](one)"),
    ),
    mistakes=(
        Mistake(
            " / hit.sum(axis=axis, keepdims=True).astype(g.dtype)",
            "",
            "",
            "entries with equal values get the whole gradient each, instead of a share",
        ),
        Mistake(
            "hit.sum(axis=axis, keepdims=True)",
            "hit.sum()",
            "",
            "the gradient is shared among the maxima of all rows, not of each row",
        ),
        Mistake(
            "return y, lambda g: g.reshape(shape) * hit",
            "return y, lambda g: g * hit",
            "",
            "the reduced axis is not put back: rows get the gradients of columns",
        ),
    ),
)

EMBEDDING = Exercise(
    "embedding",
    "tinygen.ops.index:embedding",
    "rows of a table; a row that is read twice",
    hints=(
        "Reading rows is an index. What is the gradient of a row that is read twice, and of one that "
        "is not read?",
        "The gradient is a table of zeros, into which the rows of g are added. `table[ids] += g` adds "
        "only the last of equal ids; `scatter_add` adds all.",
        "return weight[ids], lambda g: scatter_add(g, ids, weight.shape).",
    ),
    given=lambda: {"weight": numbers(4, 4), "ids": np.array([[0, 2, 2], [3, 2, 0]])},
    checks=(Values("embedding(weight, ids)"), Gradient("embedding(weight, ids)", by="weight")),
    mistakes=(
        Mistake(
            "weight[ids])",
            "weight[:, ids])",
            "shape (4, 2, 3), expected (2, 3, 4)",
            "columns are read instead of rows",
        ),
        Mistake(
            "lambda g: scatter_add(g, ids, shape)",
            "lambda g: [d := np.zeros(shape), d.__setitem__(ids, g)][0]",
            "wrong sum",
            "the gradients of a row that is read twice overwrite each other: = in place of +=",
        ),
        Mistake(
            "lambda g: scatter_add(g, ids, shape)",
            "lambda g: scatter_add(g, ids, shape) / ids.size",
            "0.166667 times what it should be",
            "the gradients of the rows are averaged instead of summed",
        ),
    ),
)

EINSUM = Exercise(
    "einsum",
    "tinygen.ops.einsum:contract",
    "Einstein's summation: its gradient is one, too",
    hints=(
        "y is a product of factors, summed. The gradient of a product by one factor is the product of the "
        "gradient with the other factors.",
        "So the gradient by x_i is an einsum of g and the other operands, whose result has the letters "
        "of x_i: its term and the output's change places.",
        "Letters that only x_i has are summed away in y: leave them out of that einsum, then reshape "
        "to size 1 there and broadcast to the shape of x_i.",
    ),
    given=lambda: {"a": numbers(3, 3), "b": numbers(3, 3, seed=1), "c": numbers(3, 3, 2)},
    checks=(
        Values("contract(a, b, terms=('ij', 'jk'), output='ik')"),
        Gradient("contract(a, b, terms=('ij', 'jk'), output='ik')", by="a b"),
        Gradient("contract(a, b, c, terms=('ij', 'jk', 'kil'), output='jl')", by="a b c"),
        Gradient("contract(a, b, terms=('ij', 'kj'), output='j')", by="a b"),
    ),
    mistakes=(
        Mistake(
            "others = [x for j, x in enumerate(xs) if j != i]",
            "others = [xs[i] for j, x in enumerate(xs) if j != i]",
            "wrong place or wrong term",
            "the factor itself is in its gradient, in place of the others",
        ),
        Mistake(
            "->{reach}", "->{reach[::-1]}", "exchanged", "the letters of the gradient are in the wrong order"
        ),
        Mistake(
            '->{reach}", g, *others',
            '->{reach}", np.ones_like(g), *others',
            "cotangent misused",
            "the gradient that comes back, g, is not used",
        ),
    ),
)

CHAPTER = Chapter("Ops", (MATMUL, MEAN, MAX, EMBEDDING, EINSUM))

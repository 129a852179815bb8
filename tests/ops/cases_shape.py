# ruff: noqa: E501 (a case is one line)
"""Cases of the ops that move, join, cut, repeat or pick entries."""

from typing import Any

import numpy as np
from optable import Case, normal, rng

from tinygen import ops

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = F = None

# -- shapes ----------------------------------------------------------------------------------------

SHAPE = [
    Case("reshape", lambda x: np.reshape(x, (3, 2, 2)), (normal(2, 2, 3),), lambda x: x.reshape(3, 2, 2)),
    Case("reshape--1", lambda x: x.reshape(2, -1), (normal(2, 2, 3)[:, ::-1],), lambda x: x.reshape(2, -1)),
    Case("reshape-to rank 0", lambda x: x.reshape(()), (normal(1, 1),), lambda x: x.reshape(())),
    Case("reshape-from rank 0", lambda x: x.reshape(1, 1), (np.asarray(0.3),), lambda x: x.reshape(1, 1)),
    Case("reshape-size 0", lambda x: x.reshape(3, 0), (normal(0, 2),), lambda x: x.reshape(3, 0)),
    Case("reshape-transposed", lambda x: x.reshape(6), (normal(2, 3).T,), lambda x: x.reshape(6)),
    Case("ravel", np.ravel, (normal(2, 1, 3),), lambda x: x.flatten()),
    Case("squeeze", np.squeeze, (normal(1, 2, 1, 2),), lambda x: x.squeeze()),
    Case("squeeze-axis", lambda x: np.squeeze(x, (0, -2)), (normal(1, 2, 1, 1),), lambda x: x.squeeze((0, 2))),
    Case("expand_dims", lambda x: np.expand_dims(x, 1), (normal(2, 3),), lambda x: x[:, None]),
    Case("expand_dims-two", lambda x: np.expand_dims(x, (0, -1)), (normal(2, 3),), lambda x: x[None, ..., None]),
    Case("transpose", np.transpose, (normal(2, 1, 3),), lambda x: x.permute(2, 1, 0)),
    Case("transpose-axes", lambda x: x.transpose(1, -1, 0), (normal(2, 2, 3),), lambda x: x.permute(1, 2, 0)),
    Case("transpose-T", lambda x: x.T, (normal(2, 3),), lambda x: x.mT),
    Case("transpose-rank 0", np.transpose, (np.asarray(0.3),), lambda x: x * 1),
    Case("swapaxes", lambda x: np.swapaxes(x, 0, -1), (normal(2, 1, 3),), lambda x: x.swapaxes(0, -1)),
    Case("moveaxis", lambda x: np.moveaxis(x, 0, -1), (normal(2, 1, 3),), lambda x: x.movedim(0, -1)),
    Case("moveaxis-two", lambda x: np.moveaxis(x, (0, 1), (2, 0)), (normal(2, 1, 3),), lambda x: x.movedim((0, 1), (2, 0))),
    Case("flip", np.flip, (normal(2, 3),), lambda x: x.flip((0, 1))),
    Case("flip-axis", lambda x: np.flip(x, -1), (normal(2, 2, 3),), lambda x: x.flip(-1)),
    Case("flip-axes", lambda x: np.flip(x, (0, 2)), (normal(2, 2, 3),), lambda x: x.flip((0, 2))),
    Case("roll", lambda x: np.roll(x, 2), (normal(2, 3),), lambda x: x.roll(2)),
    Case("roll-axis", lambda x: np.roll(x, -1, 1), (normal(2, 3, 2),), lambda x: x.roll(-1, 1)),
    Case("roll-axes", lambda x: np.roll(x, (1, 2), (0, 2)), (normal(2, 2, 3),), lambda x: x.roll((1, 2), (0, 2))),
    Case("broadcast_to", lambda x: np.broadcast_to(x, (2, 3, 2)), (normal(3, 1),), lambda x: x.expand(2, 3, 2)),
    Case("broadcast_to-rank 0", lambda x: np.broadcast_to(x, (2, 2)), (np.asarray(0.3),), lambda x: x.expand(2, 2)),
    Case("broadcast_to-size 0", lambda x: np.broadcast_to(x, (0, 3)), (normal(3),), lambda x: x.expand(0, 3)),
    Case("concatenate", lambda *xs: np.concatenate(xs), (normal(2, 3), normal(1, 3)), lambda *xs: torch.cat(xs)),
    Case("concatenate-axis", lambda *xs: np.concatenate(xs, -1), (normal(2, 1, 2), normal(2, 1, 0), normal(2, 1, 3)), lambda *xs: torch.cat(xs, -1)),
    Case("concatenate-the same twice", lambda x: np.concatenate([x, x], 1), (normal(2, 3),), lambda x: torch.cat([x, x], 1)),
    Case("concatenate-with an array", lambda x: np.concatenate([x, np.ones_like(x, shape=(2, 1))], 1), (normal(2, 3),), lambda x: torch.cat([x, torch.ones(2, 1, dtype=x.dtype)], 1)),
    Case("stack", lambda *xs: np.stack(xs), (normal(2, 3), normal(2, 3).T.reshape(2, 3)), lambda *xs: torch.stack(xs)),
    Case("stack-axis", lambda *xs: np.stack(xs, -1), (normal(2, 1), normal(2, 1)), lambda *xs: torch.stack(xs, -1)),
    Case("stack-numbers", lambda *xs: np.stack(xs), (np.asarray(0.1), np.asarray(0.2)), lambda *xs: torch.stack(xs)),
    Case("split", lambda x: np.split(x, 3, 1), (normal(2, 6),), lambda x: x.split(2, 1)),
    Case("split-at", lambda x: np.split(x, [1, 1, 3], -1), (normal(2, 2, 4),), lambda x: x.tensor_split((1, 1, 3), -1)),
    Case("pad", lambda x: np.pad(x, 1), (normal(2, 3),), lambda x: F.pad(x, (1, 1, 1, 1))),
    Case("pad-axes", lambda x: np.pad(x, ((0, 0), (1, 0), (0, 2))), (normal(2, 2, 3),), lambda x: F.pad(x, (0, 2, 1, 0))),
    Case("pad-value", lambda x: np.pad(x, (2, 1), constant_values=0.5), (normal(3),), lambda x: F.pad(x, (2, 1), value=0.5)),
    Case("pad-size 0", lambda x: np.pad(x, 1), (normal(0, 2),), lambda x: F.pad(x, (1, 1, 1, 1))),
    Case("repeat", lambda x: np.repeat(x, 2), (normal(2, 3),), lambda x: x.flatten().repeat_interleave(2)),
    Case("repeat-axis", lambda x: np.repeat(x, 3, 1), (normal(2, 2, 1),), lambda x: x.repeat_interleave(3, 1)),
    Case("repeat-middle axis", lambda x: np.repeat(x, 3, 1), (np.arange(12.0).reshape(2, 2, 3),), lambda x: x.repeat_interleave(3, 1)),
    Case("repeat-0 times", lambda x: np.repeat(x, 0, -1), (normal(2, 2),), lambda x: x.repeat_interleave(0, -1)),
    Case("repeat-rank 0", lambda x: np.repeat(x, 3), (np.asarray(0.3),), lambda x: x.expand(3)),
    Case("tile", lambda x: np.tile(x, 2), (normal(2, 3),), lambda x: x.tile(2)),
    Case("tile-new axis", lambda x: np.tile(x, (2, 1, 3)), (normal(2, 2),), lambda x: x.tile((2, 1, 3))),
    Case("tile-rank 3", lambda x: np.tile(x, (2, 2)), (normal(2, 1, 2),), lambda x: x.tile((2, 2))),
    Case("tril", np.tril, (normal(2, 3, 3),), lambda x: x.tril()),
    Case("tril-1", lambda x: np.tril(x, 1), (normal(3, 4),), lambda x: x.tril(1)),
    Case("triu", np.triu, (normal(3, 2),), lambda x: x.triu()),
    Case("triu--1", lambda x: np.triu(x, -1), (normal(2, 3, 3),), lambda x: x.triu(-1)),
    Case("tril-of a vector", np.tril, (normal(3),), lambda x: x.expand(3, 3).tril()),
]  # fmt: skip

# -- indexing --------------------------------------------------------------------------------------

INDICES: list[tuple[tuple[int, ...], Any]] = [
    ((3,), 1),
    ((3,), -1),
    ((3,), slice(None, None, -1)),
    ((3,), slice(1, 1)),
    ((2, 3), (0, 2)),
    ((2, 3), ()),
    ((2, 3), Ellipsis),
    ((2, 3), None),
    ((2, 3, 2), (Ellipsis, 0)),
    ((2, 3, 2), (slice(None), None, slice(0, 3, 2))),
    ((2, 3, 2), (1, slice(None, None, -2), slice(1, None))),
    ((3, 2), [0, 2, 0, 0]),
    ((3, 2), np.array([[0, -1], [2, 2]])),
    ((3, 2), np.array(1)),
    ((3, 2), ([0, 0, 2], [1, 1, 0])),
    ((2, 3, 2), (slice(None), [2, 0, 2])),
    ((2, 3, 2), ([0, 1, 1], slice(None), [0, 1, 1])),
    ((2, 3, 2), (np.array([[0], [1]]), np.array([2, 2]))),
    ((2, 3, 2), (None, [1, 1], Ellipsis, 0)),
    ((2, 3), np.array([[True, False, True], [False, False, True]])),
    ((2, 3), (slice(None), np.array([True, False, True]))),
    ((2, 3), ([0, 1, 1], np.array([True, True, True]))),
    ((2, 3), np.zeros((2, 3), bool)),
    ((2, 3), np.array([], int)),
    ((0, 3), (slice(None), [1, 1])),
]


def in_torch(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(in_torch(i) for i in index)
    return torch.as_tensor(index) if isinstance(index, (list, np.ndarray)) else index


def torch_differs(index: Any) -> bool:
    """torch takes no negative steps, and puts the indexed axes elsewhere when `...` stands between them."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(i, slice) and (i.step or 1) < 0 for i in parts) or (
        any(i is Ellipsis for i in parts) and any(isinstance(i, list) for i in parts)
    )


ids = np.array([[0, 2], [2, 1]])
INDEX = [
    *[
        Case(
            f"getitem-{shape} {index}".replace("\n", ""),
            lambda x, index=index: x[index],
            (normal(*shape),),
            None if torch_differs(index) else lambda x, index=index: x[in_torch(index)],
        )
        for shape, index in INDICES
    ],
    Case("getitem-of strides", lambda x: x[1:, [0, 0]], (normal(3, 4).T[::-1, ::2],), lambda x: x[1:, [0, 0]]),
    Case("getitem-by a tensor", lambda x, i: x[i], (normal(3, 2), ids), lambda x, i: x[i]),
    Case("getitem-by tensors", lambda x, i: x[i > 0, i[1:]], (normal(3, 3, 2), np.array([0, 2, 2])), lambda x, i: x[i > 0, i[1:]]),
    Case("take", lambda x: np.take(x, [0, 5, 5]), (normal(2, 3),), lambda x: x.flatten()[[0, 5, 5]]),
    Case("take-axis", lambda x, i: np.take(x, i, axis=-1), (normal(2, 2, 3), ids), lambda x, i: x[..., i]),
    Case("take-one", lambda x: np.take(x, 1, 0), (normal(2, 3),), lambda x: x[1]),
    Case(
        "take_along_axis",
        lambda x, i: np.take_along_axis(x, i, 1),
        (normal(2, 3, 2), rng.integers(0, 3, (2, 4, 2))),
        lambda x, i: x.take_along_dim(i, 1),
    ),
    Case(
        "take_along_axis-last",
        lambda x, i: np.take_along_axis(x, i, -1),
        (normal(2, 3), np.array([[1], [0]])),
        lambda x, i: x.take_along_dim(i, -1),
    ),
    Case(
        "take_along_axis-broadcast",
        lambda x, i: np.take_along_axis(x, i, 1),
        (normal(2, 3, 2), np.array([[[0], [2], [2], [1]]])),
        lambda x, i: x.take_along_dim(i, 1),
    ),
    Case(
        "scatter_add",
        lambda x: ops.scatter_add(x, np.array([0, 2, 0]), (3, 2)),
        (normal(3, 2),),
        lambda x: x.new_zeros(3, 2).index_add(0, torch.tensor([0, 2, 0]), x),
    ),
    Case(
        "scatter_add-pairs",
        lambda x: ops.scatter_add(x, (np.array([0, 1, 1]), np.array([0, 2, 2])), (2, 3)),
        (normal(3),),
        lambda x: x.new_zeros(2, 3).index_put((torch.tensor([0, 1, 1]), torch.tensor([0, 2, 2])), x, True),
    ),
    Case("scatter_add-slice", lambda x: ops.scatter_add(x, slice(1, 3), (4,)), (normal(2),), lambda x: F.pad(x, (1, 1))),
    Case("embedding", ops.embedding, (normal(3, 2), ids), lambda w, i: F.embedding(i, w)),
    Case("embedding-rank 3", ops.embedding, (normal(4, 2), rng.integers(0, 4, (2, 1, 3))), lambda w, i: F.embedding(i, w)),
    Case("embedding-no ids", ops.embedding, (normal(4, 2), np.zeros((2, 0), int)), lambda w, i: F.embedding(i, w)),
]  # fmt: skip

"""The rows of a batch that this process has, when several processes share one batch.

In data-parallel training each process computes the loss of some rows of the batch. But some quantities are of
the whole batch: a mean over tokens that are not ignored, the statistics of batch norm, the counts of a
codebook. And each process must draw the same noise for its rows as one process would. `tinygen.parallel`
says which rows these are (`share`), and the functions here are for the places that need the rest of the
batch. With one process they do nothing.

The loss of the whole batch is L = Σ_k s_k L_k: process k has the share s_k = n_k / n of the rows, and its own
loss L_k.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from tinygen.types import Array


class Rows(NamedTuple):
    """The rows `start` to `stop` of a batch of `whole` rows, and how to reach the others."""

    start: int
    stop: int
    whole: int
    add: Callable[[Array], Array]  # the sum of an array over all processes
    gather: Callable[[Any], list[Any]]  # the values of all processes, in their order

    @property
    def share(self) -> float:
        return (self.stop - self.start) / self.whole

    def own(self, draw: Callable[[tuple[int, ...]], Array], size: Any) -> Array:
        """The own rows of what `draw(shape)` draws for the whole batch; `size` is the shape of the own rows.
        ValueError when its first axis is not that of the rows."""
        shape = (size,) if isinstance(size, int | np.integer) else tuple(size)
        if shape[:1] != (self.stop - self.start,):
            raise ValueError(
                f"a draw of shape {shape} by a process that has {self.stop - self.start} of the {self.whole} "
                "rows: its first axis must be the rows; draw what is for the whole batch before share()"
            )
        return draw((self.whole, *shape[1:]))[self.start : self.stop]


ROWS: ContextVar[Rows | None] = ContextVar("tinygen_rows", default=None)


def batch_sum(x: Array) -> Array:
    """The sum over all processes of `x`, which is a sum over the rows of this process."""
    rows = ROWS.get()
    return x if rows is None else rows.add(x)


def batch_mean() -> Callable[..., Array]:
    """A function like `np.mean` for axes that include the first: the mean over the whole batch. A rule of a
    gradient keeps it, since the rule runs later."""
    rows = ROWS.get()
    if rows is None:
        return np.mean
    return lambda x, **axes: rows.add(rows.share * np.mean(x, **axes))


def batch_count(count: Array) -> Array:
    """What a process divides by, when the mean is over `count` entries here, and over more or fewer in the
    rows of the others: then Σ_k s_k L_k is the mean over the entries of the whole batch."""
    rows = ROWS.get()
    return count if rows is None else rows.add(np.asarray(count, np.float64)) * rows.share


def batch_entries(x: Array) -> Array:
    """The entries of all processes, one after the other: (n_k, ...) -> (n, ...)."""
    rows = ROWS.get()
    return x if rows is None else np.concatenate(rows.gather(x))


def require_whole_batch(what: str) -> None:
    """Raises ValueError within `share`, for a loss that is no mean over rows."""
    if ROWS.get() is not None:
        raise ValueError(
            f"{what} compares all rows of the batch, and here are the rows of one process: "
            "compute it outside of share(), on the whole batch"
        )


# -- draws -----------------------------------------------------------------------------------------


class RowsGenerator(np.random.Generator):
    """A generator for a process that has some rows of a batch. It draws for the whole batch from the bits of
    the generator `source`, and keeps the numbers of its own rows. So the numbers do not depend on the number
    of processes, and all of them leave `source` in the same state.

    The first axis of every draw is the rows: ValueError for another size. One number, without a size, is the
    same for all processes. A method that is not written here raises TypeError."""

    def __init__(self, source: np.random.Generator, rows: Rows) -> None:
        super().__init__(source.bit_generator)
        self.source, self.rows = source, rows

    def own(self, draw: Callable[[Any], Any], size: Any) -> Any:
        return draw(None) if size is None else self.rows.own(draw, size)

    def random(self, size: Any = None, dtype: Any = np.float64, out: None = None) -> Any:  # type: ignore[override]
        return self.own(lambda n: self.source.random(n, dtype), size)

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: None = None) -> Any:  # type: ignore[override]
        return self.own(lambda n: self.source.standard_normal(n, dtype), size)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        return self.own(lambda n: self.source.normal(loc, scale, n), size)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return self.own(lambda n: self.source.uniform(low, high, n), size)

    def integers(self, low: Any, high: Any = None, size: Any = None, **kind: Any) -> Any:  # type: ignore[override]
        return self.own(lambda n: self.source.integers(low, high, n, **kind), size)

    def choice(self, a: Any, size: Any = None, replace: bool = True, p: Any = None, **more: Any) -> Any:  # type: ignore[override]
        if not replace:
            raise ValueError("a choice without replacement is no draw for each row: make it before share()")
        return self.own(lambda n: self.source.choice(a, n, True, p, **more), size)

    def __getattribute__(self, name: str) -> Any:
        if name in FORBIDDEN:
            raise TypeError(f"{name}() draws no numbers row by row: call it before share(), for the batch")
        return super().__getattribute__(name)


FORBIDDEN = {name for name in vars(np.random.Generator) if name[0] != "_"} - {*vars(RowsGenerator)}
FORBIDDEN -= {"bit_generator"}

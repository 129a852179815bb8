"""Einstein's summation, with NumPy's notation: operands are multiplied along the letters that they share, and
letters that are missing in the result are summed over.

The gradient of a product by one factor is the product of the gradient with the other factors: einsum again,
with the letters of the result in the place of the factor's own. An operand with the same letter twice
("ii->i") is replaced by its diagonal first, and `...` is replaced by letters that are not in use.
"""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen.ops.index import getitem
from tinygen.tape import implements, op, show_as
from tinygen.tensor import Array, Tensor
from tinygen.types import DType, TensorLike, ValueAndRules

__all__ = ["einsum"]

LETTERS = string.ascii_uppercase + string.ascii_lowercase  # in the order of NumPy's numbers, 0 is "A"


@implements(np.einsum)
def einsum(
    subscripts: Any,
    *operands: Any,
    dtype: DType = None,
    order: str = "K",
    casting: str = "safe",
    optimize: Any = True,
) -> Any:
    """Einstein's summation, as `np.einsum`: `einsum("bqd,bkd->bqk", q, k)`, with `...`, letters that come
    twice in an operand, without the result, as `einsum(q, [0, 1, 3], k, [0, 2, 3], [0, 1, 2])`. It always
    searches for a good order of the products, for any `optimize`; `order` and `casting` have no effect.

    Raises ValueError, with the subscripts, where they do not fit the operands."""
    if not isinstance(subscripts, str):
        subscripts, operands = subscripts_of((subscripts, *operands))
    operands = tuple(x if hasattr(x, "shape") else np.asarray(x) for x in operands)
    if dtype is not None:
        operands = tuple(x.astype(dtype) for x in operands)
    terms, singles, output = plan(subscripts, *[x.shape for x in operands])
    if terms != singles:
        pairs = zip(operands, terms, singles, strict=True)
        operands = tuple(x if term == once else read_diagonal(x, term) for x, term, once in pairs)
    return contract(*operands, terms=singles, output=output)


@show_as("einsum")
@op
def contract(*xs: Array, terms: tuple[str, ...], output: str) -> ValueAndRules:
    """Einstein's summation where no letter comes twice in a term."""
    y = np.einsum(f"{','.join(terms)}->{output}", *xs, optimize=True)
    size: dict[str, int] = {}
    for term, x in zip(terms, xs, strict=True):
        for c, n in zip(term, x.shape, strict=True):
            size[c] = n if size.get(c, 1) == 1 else size[c]  # 1 is stretched to the other factor's size

    def gradient(i: int) -> Any:
        others = [x for j, x in enumerate(xs) if j != i]
        rest = [t for j, t in enumerate(terms) if j != i]
        seen = set(output).union(*rest)
        reach = "".join(c for c in terms[i] if c in seen)  # the letters that only x_i has are summed away:
        full = tuple(size[c] for c in terms[i])  # its gradient is constant along them

        def dx(g: Array) -> Array:
            d = np.einsum(f"{','.join([output, *rest])}->{reach}", g, *others, optimize=True)
            sizes = iter(d.shape)
            return np.broadcast_to(d.reshape([next(sizes) if c in seen else 1 for c in terms[i]]), full)

        return dx

    return y, *[gradient(i) for i in range(len(xs))]


def read_diagonal(x: TensorLike, term: str) -> Any:
    """x with one axis for each letter: "iji" reads x[i, j, i]."""
    letters = list(dict.fromkeys(term))
    sizes = [x.shape[term.index(c)] for c in letters]
    grid = dict(zip(letters, np.ogrid[tuple(slice(n) for n in sizes)], strict=True))
    return getitem(x, tuple(grid[c] for c in term))


# -- reading the subscripts ------------------------------------------------------------------------


def subscripts_of(arguments: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    """The subscripts as a string, of operands and lists of numbers in turn, and the operands."""
    operands, lists = arguments[0::2], list(arguments[1::2])
    result = ""
    if len(arguments) % 2:  # the last one is the list of the result
        operands, result = operands[:-1], f"->{letters_of(arguments[-1])}"
    return ",".join(map(letters_of, lists)) + result, tuple(operands)


def letters_of(numbers: Any) -> str:
    if isinstance(numbers, (str, Tensor)) or not hasattr(numbers, "__iter__"):
        raise TypeError(
            'einsum needs subscripts as "ij,jk->ik", or operands and lists of ints in turn, '
            f"got {numbers!r:.60}"
        )
    for n in numbers:
        if n is not Ellipsis and not (hasattr(n, "__index__") and 0 <= n < len(LETTERS)):
            raise ValueError(f"einsum: a subscript is an int from 0 to 51 or `...`, not {n!r}")
    return "".join("..." if n is Ellipsis else LETTERS[n] for n in numbers)


@functools.lru_cache
def plan(subscripts: str, *shapes: tuple[int, ...]) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """A term for each operand, the terms with each letter once, and the output's."""
    terms, output = parse_subscripts(subscripts, [len(shape) for shape in shapes])
    check_sizes(subscripts, terms, shapes)
    return tuple(terms), tuple("".join(dict.fromkeys(t)) for t in terms), output


def parse_subscripts(subscripts: str, ndims: Sequence[int]) -> tuple[list[str], str]:
    """A string of letters for each operand and one for the result; `...` has become letters of its own."""

    def wrong(what: str) -> ValueError:
        return ValueError(f"einsum {subscripts!r}: {what}")

    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    for term in (*terms, output):
        if not re.fullmatch(r"[A-Za-z]*(\.\.\.)?[A-Za-z]*", term):
            raise wrong(f"{term!r} is not made of letters and at most one '...'")
    if len(terms) != len(ndims):
        raise wrong(f"names {len(terms)} operands, got {len(ndims)}")
    free = [c for c in LETTERS if c not in subscripts]
    hidden = [n - len(t.replace("...", "")) for t, n in zip(terms, ndims, strict=True)]
    for i, (term, n) in enumerate(zip(terms, hidden, strict=True)):
        if n < 0 or (n > 0 and "..." not in term):
            raise wrong(f"operand {i} has {ndims[i]} axes, {term!r} names {ndims[i] - n}")
    most = max(hidden)
    if most > len(free):
        raise wrong("there are not enough letters for all axes")
    dots = "".join(free[:most])  # aligned at the right, as in broadcasting
    if not arrow:
        letters = inputs.replace(",", "").replace(".", "")
        output = "..." + "".join(c for c in sorted(set(letters)) if letters.count(c) == 1)
    elif dots and "..." not in output:
        raise wrong("the axes of '...' must stand in the result too: write '...' behind the arrow")
    terms = [t.replace("...", dots[most - n :]) for t, n in zip(terms, hidden, strict=True)]
    output = output.replace("...", dots)
    for c in output:
        if output.count(c) > 1:
            raise wrong(f"{c!r} comes twice in the result")
        if not any(c in t for t in terms):
            raise wrong(f"{c!r} is in no operand")
    return terms, output


def check_sizes(subscripts: str, terms: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> None:
    """Raise ValueError for a letter with two sizes; 1 is stretched between operands, not within one."""
    size: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        own: dict[str, int] = {}
        for c, n in zip(term, shape, strict=True):
            other = own.get(c, size.get(c, n))
            if n != other and (c in own or 1 not in (n, other)):
                name = repr(c) if c in subscripts else "'...'"
                raise ValueError(
                    f"einsum {subscripts!r}: {name} has the sizes {other} and {n}, shapes {shapes}"
                )
            own[c] = n
        size.update({c: n for c, n in own.items() if size.get(c, 1) == 1})


@implements(np.einsum_path)
def einsum_path(subscripts: Any, *operands: Any, optimize: Any = "greedy", einsum_call: bool = False) -> Any:
    """NumPy's order of the products, which depends on shapes only."""
    arrays = (x.numpy() if isinstance(x, Tensor) else x for x in (subscripts, *operands))
    return np.einsum_path(*arrays, optimize=optimize, einsum_call=einsum_call)  # type: ignore[arg-type]

"""Property tests of your own ops and layers, in three lines: Hypothesis draws the inputs, `gradcheck` judges.

    def test_my_op():
        check_op(my_op, broadcastable_arrays(2))

    def test_my_layer():
        check_layer(lambda: MyLayer(8, rng=np.random.default_rng(0)), ("B", "T", 8))

Failing examples are shrunk (Claessen & Hughes 2000, *QuickCheck*), here to the smallest shapes that still
show the same kind of mistake. The entries of an array are random numbers of our own, not Hypothesis's: no
two of them are close, since a tie is a kink for `max`; and none is special, since a mistake that is
multiplied by 0 is invisible. Only this file needs Hypothesis (`pip install hypothesis`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tinygen.backward import backward
from tinygen.gradcheck import Kind, gradcheck
from tinygen.gradcheck.arguments import Array
from tinygen.gradcheck.structure import is_equal
from tinygen.gradcheck.subject import flatten
from tinygen.tensor import Tensor
from tinygen.types import Shape

Draw = Callable[[st.SearchStrategy[Any]], Any]
EXAMPLES = 30

# -- shapes ----------------------------------------------------------------------------------------


def shapes(
    min_rank: int = 0, max_rank: int = 4, min_size: int = 1, max_size: int = 4
) -> st.SearchStrategy[Shape]:
    """Shapes with `min_rank` to `max_rank` axes of `min_size` to `max_size` entries (0 allowed)."""
    sizes = st.integers(min_size, max_size)
    return st.lists(sizes, min_size=min_rank, max_size=max_rank).map(tuple)


@st.composite
def broadcastable_shapes(
    draw: Draw, count: int = 2, max_rank: int = 4, min_size: int = 1, max_size: int = 4
) -> tuple[Shape, ...]:
    """`count` shapes that broadcast with one another: each is one full shape without some leading axes, and
    with 1 in place of some sizes."""
    full = draw(shapes(0, max_rank, min_size, max_size))
    found = []
    for _ in range(count):
        rank = draw(st.integers(0, len(full)))
        found.append(tuple(draw(st.sampled_from([1, n])) for n in full[len(full) - rank :]))
    return tuple(found)


# -- arrays ----------------------------------------------------------------------------------------


def same_memory(x: Array) -> Array:
    return x


def fortran_order(x: Array) -> Array:
    return np.asfortranarray(x)


def negative_strides(x: Array) -> Array:
    """The same numbers, stored from the end of the memory to its start."""
    return x[(slice(None, None, -1),) * x.ndim].copy()[(slice(None, None, -1),) * x.ndim]


def every_other_entry(x: Array) -> Array:
    """The same numbers, as every other entry of a larger array."""
    larger = np.full(tuple(2 * n for n in x.shape), np.nan)
    larger[(slice(None, None, 2),) * x.ndim] = x
    return larger[(slice(None, None, 2),) * x.ndim]


LAYOUTS = (same_memory, fortran_order, negative_strides, every_other_entry)


@st.composite
def arrays(
    draw: Draw,
    shape: Shape | st.SearchStrategy[Shape] | None = None,
    low: float = -2.0,
    high: float = 2.0,
    avoid: Sequence[float] = (),
    margin: float = 0.05,
) -> Array:
    """float64 arrays of a `shape`, or of shapes from a strategy, laid out in memory in any of `LAYOUTS`.

    Entries are within [low, high] and at least `margin` away from every kink in `avoid`; no two are closer
    than 0.6 / size of that range. Raises ValueError when `avoid` leaves nothing of it."""
    size = draw(shapes() if shape is None else shape) if not isinstance(shape, tuple) else shape
    seed = draw(st.integers(0, 999))
    layout = draw(st.sampled_from(LAYOUTS)) if size else same_memory
    return layout(numbers(size, low, high, avoid, margin, np.random.default_rng(seed)))


def broadcastable_arrays(
    count: int = 2, min_size: int = 1, **bounds: Any
) -> st.SearchStrategy[tuple[Array, ...]]:
    """`count` arrays that broadcast with one another; `bounds` as for `arrays`."""
    each = broadcastable_shapes(count, min_size=min_size)
    return each.flatmap(lambda drawn: st.tuples(*(arrays(shape, **bounds) for shape in drawn)))


def indices(below: int, shape: Shape | st.SearchStrategy[Shape] | None = None) -> st.SearchStrategy[Array]:
    """Integer arrays with entries in [0, below): token ids, classes. Some come more than once."""
    sizes = st.just(shape) if isinstance(shape, tuple) else shape or shapes(0, 2)
    drawn = st.tuples(sizes, st.integers(0, 999))
    return drawn.map(lambda d: np.asarray(np.random.default_rng(d[1]).integers(0, below, d[0])))


def numbers(
    shape: Shape, low: float, high: float, avoid: Sequence[float], margin: float, rng: np.random.Generator
) -> Array:
    """Take away from [low, high] the places in `avoid`, cut the rest into equal parts, one for each entry,
    and draw one number from each, in random order."""
    starts, ends = [low], []
    for kink in sorted(avoid):
        ends.append(min(kink - margin, high))
        starts.append(max(kink + margin, low))
    pieces = [(a, b) for a, b in zip(starts, [*ends, high], strict=True) if a < b]
    if not pieces:
        raise ValueError(
            f"nothing is left of [{low}, {high}] at a distance of {margin} from {list(avoid)}: use a smaller "
            "margin="
        )
    count = int(np.prod(shape))
    along = (rng.permutation(count) + rng.uniform(0.3, 0.7, count)) / max(count, 1)
    lengths = np.array([b - a for a, b in pieces])
    before = np.concatenate([[0.0], np.cumsum(lengths)])
    place = along * before[-1]
    piece = np.minimum(np.searchsorted(before, place, side="right") - 1, len(pieces) - 1)
    return np.asarray(np.array(pieces)[piece, 0] + place - before[piece]).reshape(shape)


# -- the tests -------------------------------------------------------------------------------------


def check_op(
    f: Callable[..., Any],
    *strategies: st.SearchStrategy[Any],
    order: int = 1,
    max_examples: int = EXAMPLES,
    **options: Any,
) -> None:
    """Raise AssertionError with gradcheck's report, at the smallest inputs found, unless the gradient of
    `f` is right at all inputs that the strategies draw, in every memory layout.

    Each strategy draws an argument of `f`, or a tuple of several. `order` and `options` are arguments of
    gradcheck. Draws are the same in every run. A kink or an edge of the domain fails too: keep away with
    `avoid=`, `low=` and `high=` of `arrays`."""
    __tracebackhide__ = True

    def holds(drawn: tuple[Any, ...]) -> None:
        __tracebackhide__ = True
        judge(f, flat_arguments(drawn), order, options)

    for_all(st.tuples(*strategies), holds, max_examples)


def check_layer(
    make_layer: Callable[[], Any],
    *shapes: Sequence[int | str],
    order: int = 1,
    max_examples: int = EXAMPLES,
    max_size: int = 4,
    low: float = -2.0,
    high: float = 2.0,
    avoid: Sequence[float] = (),
    **options: Any,
) -> None:
    """`check_op` for a layer and its parameters: `make_layer` makes a new Module for every example.

    There is one shape for each input. A letter in it is a size from 1 to `max_size`, drawn at random; the
    same letter is the same size: ("B", "T", 8). `low`, `high` and `avoid` as for `arrays`."""
    __tracebackhide__ = True
    letters = sorted({n for shape in shapes for n in shape if isinstance(n, str)})
    sizes = st.fixed_dictionaries({letter: st.integers(1, max_size) for letter in letters})

    def inputs(size: dict[str, int]) -> st.SearchStrategy[Any]:
        given_shapes = [tuple(size[n] if isinstance(n, str) else n for n in shape) for shape in shapes]
        return st.tuples(*(arrays(shape, low, high, avoid) for shape in given_shapes))

    def holds(drawn: tuple[Any, ...]) -> None:
        __tracebackhide__ = True
        judge(make_layer(), drawn, order, options)

    for_all(sizes.flatmap(inputs), holds, max_examples)


class Failed(AssertionError):
    """An example that does not pass: the kind of mistake, and how many entries its inputs have."""

    def __init__(self, words: str, kind: Kind | None, entries: int, vague: bool = False) -> None:
        super().__init__(words)
        self.kind = kind
        self.vague = vague
        self.entries = entries

    @property
    def clarity(self) -> tuple[bool, int]:
        return not self.vague, self.entries


def for_all(strategy: st.SearchStrategy[Any], holds: Callable[[Any], None], max_examples: int) -> None:
    """Check `holds` on examples: the same in every run, with nothing written to disk, and without
    Hypothesis's comments on the lines that ran, which would be gradcheck's own.

    Shrinking must not change the kind of mistake: at shape () every mistake is a constant factor. So all
    examples are checked first, and the largest that fails says which kind to shrink."""
    __tracebackhide__ = True
    failures: list[Failed] = []

    def collect(drawn: Any) -> None:
        try:
            holds(drawn)
        except Failed as failure:
            failures.append(failure)

    options: dict[str, Any] = {"deadline": None, "derandomize": True, "database": None}
    first_run = settings(max_examples=max_examples, phases=[Phase.generate], **options)
    first_run(given(strategy)(collect))()
    if not failures:
        return
    meant = max(failures, key=lambda failure: failure.clarity).kind

    def holds_or_differs(drawn: Any) -> None:
        __tracebackhide__ = True
        try:
            holds(drawn)
        except Failed as failure:
            if failure.kind is meant:
                raise

    shrunk = settings(max_examples=max_examples, phases=[Phase.generate, Phase.shrink], **options)
    shrunk(given(strategy)(holds_or_differs))()


def flat_arguments(drawn: Sequence[Any]) -> list[Any]:
    """The arguments, with those inside tuples taken out."""
    return [y for x in drawn for y in (x if isinstance(x, tuple) else (x,))]


def judge(f: Callable[..., Any], inputs: Sequence[Any], order: int, options: dict[str, Any]) -> None:
    """Raise AssertionError unless gradcheck passes and memory layout makes no difference."""
    __tracebackhide__ = True
    report = gradcheck(f, *inputs, order=order, **options)
    entries = sum(np.size(x) for x in inputs)
    if not report:
        what = ", ".join(f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else repr(x) for x in inputs)
        vague = bool(report.findings) and report.findings[0].vague
        raise Failed(f"at inputs {what}:\n{report}", report.kind, entries, vague)
    kwargs = options.get("kwargs") or {}
    contiguous = [np.array(x, order="C") if isinstance(x, np.ndarray) else x for x in inputs]
    for one, other in zip(outcome(f, inputs, kwargs), outcome(f, contiguous, kwargs), strict=True):
        if not is_equal(one, other):
            strides = ", ".join(str(x.strides) for x in inputs if isinstance(x, np.ndarray))
            words = f"the value or the gradient depends on memory layout: strides {strides}"
            raise Failed(words, Kind.LAYOUT, entries)


def outcome(f: Callable[..., Any], inputs: Sequence[Any], kwargs: dict[str, Any]) -> list[Array]:
    """Values, and gradients of their sum by the floating-point inputs, in the layout that these have."""
    xs = [
        Tensor(x, requires_grad=True) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x
        for x in inputs
    ]
    values = flatten(f(*xs, **kwargs))
    found = [v.numpy() if isinstance(v, Tensor) else np.asarray(v) for v in values]
    tracked = [v for v in values if isinstance(v, Tensor) and v.requires_grad]
    leaves = [x for x in xs if isinstance(x, Tensor)]
    if tracked:
        gradients = backward(tracked, [np.ones_like(v.numpy()) for v in tracked], leaves)
        found += [gradients[x] for x in leaves if x in gradients]
    return found

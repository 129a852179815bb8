"""The difference between what a function returned and what it should return, in words.

The words say where the first wrong entry is, and what all wrong entries have in common: a factor, a sign, a
place. That is often enough to find the mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygen.tensor import Tensor
from tinygen.types import NumpyArray

Names = Mapping[str, Any]
"""The arguments of a check, by name: one of them may be what was returned."""


NONE: Names = {}


def difference(found: Any, expected: Any, within: float, given: Names = NONE) -> str | None:
    """What is wrong with `found`, or None if it is as expected; numbers may differ by `within` times the
    largest one."""
    shown, found, expected = found, plain(found), plain(expected)
    if isinstance(expected, np.ndarray) and expected.dtype.kind in "biufc":
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "biufc":
            return f"{short(shown)}, expected {'a number' if expected.ndim == 0 else 'an array'}"
        return difference_of_arrays(found, expected, within, given)
    if isinstance(expected, (tuple, list)):
        return difference_of_sequences(found, expected, within, given)
    if isinstance(expected, dict):
        return difference_of_dicts(found, expected, within, given)
    if type(found) is not type(expected) or found != expected:
        return f"{short(found)}, expected {short(expected)}"
    return None


def plain(value: Any) -> Any:
    """Tensors and numbers as arrays; tuples, lists and dicts as they are."""
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, (bool, int, float, complex, np.generic)):
        return np.asarray(value)
    return value


def short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {value.shape}" if value.ndim else number(value[()])
    text = "nothing (None)" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def difference_of_sequences(found: Any, expected: Sequence[Any], within: float, given: Names) -> str | None:
    if not isinstance(found, (tuple, list)):
        return f"{short(found)}, expected {len(expected)} values"
    if len(found) != len(expected):
        return f"{len(found)} values, expected {len(expected)}: {short(found)}, expected {short(expected)}"
    problems = [difference(f, e, within, given) for f, e in zip(found, expected, strict=True)]
    wrong = [i for i, problem in enumerate(problems) if problem]
    if not wrong:
        return None
    first = wrong[0]
    other = next(
        (j for j in range(len(expected)) if j != first and not difference(found[first], expected[j], within)),
        None,
    )
    swapped = f" (it is what value {other + 1} should be)" if other is not None else ""
    fields = getattr(expected, "_fields", None)  # of a NamedTuple
    name = fields[first] if fields else f"value {first + 1} of {len(expected)}"
    return f"{name}: {problems[first]}{swapped}"


def difference_of_dicts(found: Any, expected: dict[Any, Any], within: float, given: Names) -> str | None:
    if not isinstance(found, dict):
        return f"{short(found)}, expected a dict"
    if list(found) != list(expected):
        return f"the keys are {short(list(found))}, expected {short(list(expected))}"
    problems = ((key, difference(found[key], expected[key], within, given)) for key in expected)
    return next((f"[{key!r}]: {problem}" for key, problem in problems if problem), None)


def difference_of_arrays(found: NumpyArray, expected: NumpyArray, within: float, given: Names) -> str | None:
    if found.shape != expected.shape:
        return f"shape {found.shape}, expected {expected.shape}"
    wrong = is_off(found, expected, within)
    if not np.any(wrong):
        return None
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    at = f"at {list(first)}: " if first else ""
    pair = f"{at}{number(found[first])}, expected {number(expected[first])}"
    count = int(wrong.sum())
    many = f"; {count} of {wrong.size} entries are wrong" if wrong.size > 1 else ""
    about = (
        name_of(found, given) or combination(found, expected, given) or common(found, expected, wrong, within)
    )
    return f"{pair}{many}{'; ' + about if about else ''}"


def is_off(found: NumpyArray, expected: NumpyArray, within: float) -> NumpyArray:
    """Where the numbers differ."""
    if found.dtype.kind in "biu" and expected.dtype.kind in "biu":
        return found != expected
    finite = np.abs(expected[np.isfinite(expected)])
    scale = float(finite.max()) if finite.size else 1.0
    return ~np.isclose(found, expected, rtol=within, atol=within * scale, equal_nan=True)


def number(x: Any) -> str:
    return f"{x:.6g}" if isinstance(x, (float, np.floating)) else str(x)


def name_of(found: NumpyArray, given: Names) -> str:
    """Whether one of the arguments was returned."""
    for name, value in given.items():
        array = plain(value)
        if isinstance(array, np.ndarray) and array.size > 1 and np.array_equal(array, found):
            return f"it is {name} itself"
    return ""


def combination(found: NumpyArray, expected: NumpyArray, given: Names) -> str:
    """Both as sums of the same arguments with different factors, as "it is 0.8 x0 + 0.6 eps, expected
    0.9 x0 + 0.44 eps"; empty if they are no such sums."""
    arrays = {name: plain(value) for name, value in given.items()}
    terms = {
        name: x.ravel()
        for name, x in arrays.items()
        if isinstance(x, np.ndarray) and x.shape == found.shape and x.dtype.kind == "f"
    }
    if len(terms) < 2 or found.size <= len(terms) or not np.all(np.isfinite([found, expected])):
        return ""
    table = np.stack(list(terms.values()), axis=1)  # (size, terms)
    texts = []
    for values in (found, expected):
        factors = np.linalg.lstsq(table, values.ravel().astype(np.float64))[0]
        if np.any(is_off(table @ factors, values.ravel(), 1e-7)):
            return ""
        parts = [
            f"{number(float(f))} {name}" for f, name in zip(factors, terms, strict=True) if abs(f) > 1e-9
        ]
        texts.append(" + ".join(parts).replace("+ -", "- "))
    return f"it is {texts[0]}, expected {texts[1]}"


# -- what the wrong entries have in common ------------------------------------------------------------


def common(found: NumpyArray, expected: NumpyArray, wrong: NumpyArray, within: float) -> str:
    """What the wrong entries have in common, in words; empty if nothing is found."""
    if found.dtype.kind in "bc" or expected.dtype.kind in "bc":
        return in_one_place(wrong)
    f, e = found.astype(np.float64), expected.astype(np.float64)
    if not np.all(np.isfinite(f)):
        return "it is not finite"
    if not np.all(np.isfinite(e)):
        return in_one_place(wrong)

    def same(g: NumpyArray) -> bool:
        return not np.any(is_off(f, g, max(within, 1e-7)))

    with np.errstate(all="ignore"):
        if not np.any(e):
            return "every entry should be 0" if e.size > 1 else ""
        for words, g in relations(e):
            if np.all(np.isfinite(g)) and same(g):
                return words
        if e.size > 1 and same_sizes(f, e, within):
            return "the absolute values are right, but some signs are wrong"
        return (
            constant(f, e)
            or same_numbers(f, e, within)
            or other_sums(f, e)
            or along_an_axis(f, e)
            or zeros(f, e, wrong)
            or in_one_place(wrong)
        )


def relations(e: NumpyArray) -> list[tuple[str, NumpyArray]]:
    """Numbers that a wrong formula often makes of the right ones."""
    found = [("it is 0" if e.size == 1 else "every entry is 0", np.zeros_like(e)), ("the sign is wrong", -e)]
    if e.size > 1 and e.ndim >= 2 and e.shape[-1] == e.shape[-2]:
        found.append(("it is the transpose", np.swapaxes(e, -1, -2)))
    if e.size > 1:
        found += [
            (f"it is in reverse order along axis {k}", np.flip(e, k)) for k in range(e.ndim) if e.shape[k] > 1
        ]
        found += [
            (f"it is shifted along axis {k}", np.roll(e, s, k))
            for k in range(e.ndim)
            for s in (1, -1)
            if e.shape[k] > 2
        ]
    return [
        *found,
        ("it is the square of the right one", e * e),
        ("it is the root of the right one", np.sqrt(e)),
        ("it is 1 minus the right one", 1 - e),
        ("it is 1 divided by the right one", 1 / e),
        ("it is the logarithm of the right one", np.log(e)),
        ("it is exp of the right one", np.exp(e)),
    ]


def constant(f: NumpyArray, e: NumpyArray) -> str:
    """A factor or a difference that is the same for all entries."""
    used = np.abs(e) > 1e-9 * np.abs(e).max()
    ratio = f[used] / e[used]
    if f.size == 1:
        return f"the factor is {nice(ratio[0])}" if ratio.size and nice(ratio[0]) else ""
    if (
        used.sum() > 1
        and np.allclose(ratio, ratio[0], rtol=1e-6)
        and np.allclose(f[~used], 0, atol=1e-9 * np.abs(e).max())
    ):
        return f"every entry has the factor {nice(ratio[0]) or number(ratio[0])}"
    shift = f - e
    if np.allclose(shift, shift.flat[0], rtol=1e-6, atol=0):
        return (
            f"every entry is too {'large' if shift.flat[0] > 0 else 'small'} by {number(abs(shift.flat[0]))}"
        )
    return ""


def nice(ratio: float) -> str:
    """A ratio as a whole number or a fraction with a small denominator, else empty."""
    for below in range(1, 33):
        above = ratio * below
        if 0 < abs(above) < 1000 and abs(above - round(above)) < 1e-6 * abs(above):
            return f"{round(above)}" if below == 1 else f"{round(above)}/{below}"
    return ""


def same_numbers(f: NumpyArray, e: NumpyArray, within: float) -> str:
    if f.size > 1 and not np.any(is_off(np.sort(f, axis=None), np.sort(e, axis=None), within)):
        return "the numbers are right, but in other places"
    return ""


def same_sizes(f: NumpyArray, e: NumpyArray, within: float) -> bool:
    return not np.any(is_off(np.abs(f), np.abs(e), within))


def other_sums(f: NumpyArray, e: NumpyArray) -> str:
    """Whether the sums along one axis are equal that should be equal along another."""

    def equal_sums(x: NumpyArray, axis: int, value: float | None = None) -> float | None:
        sums = x.sum(axis=axis)
        wanted = round(float(sums.flat[0]), 12) if value is None else value
        return wanted if np.allclose(sums, wanted, rtol=1e-6, atol=1e-9 * np.abs(x).max()) else None

    for k in range(e.ndim if e.ndim > 1 else 0):
        value = equal_sums(e, k) if e.size > e.shape[k] else None
        if value is not None and equal_sums(f, k, value) is None:
            for other in range(e.ndim):
                if other != k and equal_sums(f, other, value) is not None:
                    return (
                        f"the sums along axis {other} are {number(value)}: they should be so along axis {k}"
                    )
            return f"the sums along axis {k} should all be {number(value)}"
    return ""


def along_an_axis(f: NumpyArray, e: NumpyArray) -> str:
    """A factor or a difference that is the same for all entries along one axis."""
    kinds: list[tuple[str, Callable[[], NumpyArray]]] = [
        ("factor", lambda: f / e),
        ("difference", lambda: f - e),
    ]
    for word, make in kinds:
        made = make()
        for k in range(e.ndim):
            if e.shape[k] > 2 and e.size > e.shape[k] and np.all(np.isfinite(made)):
                first = np.take(made, [0], axis=k)
                if np.allclose(made, first, rtol=1e-6, atol=1e-9):
                    return f"along axis {k} the {word} is the same: look at what is summed along an axis"
    return ""


def zeros(f: NumpyArray, e: NumpyArray, wrong: NumpyArray) -> str:
    if wrong.size == 1:
        return ""
    if np.all(e[wrong] == 0):
        return "wrong only where 0 is expected"
    if np.all(f[wrong] == 0):
        return "the wrong ones are 0"
    return ""


def in_one_place(wrong: NumpyArray) -> str:
    """Whether all wrong entries have one index along an axis."""
    for k in range(wrong.ndim):
        places = np.unique(np.nonzero(wrong)[k])
        if wrong.shape[k] > 1 and len(places) == 1 and wrong.sum() > 1:
            return f"all of them at index {int(places[0])} of axis {k}"
    return ""

"""A gradient that is the right one times a number, and possible reasons for that number."""

from __future__ import annotations

import math

from tinygen.gradcheck.evidence import Evidence
from tinygen.gradcheck.report import Finding, Kind


def constant_factor(e: Evidence) -> Finding | None:
    """The tape's gradient is the right one times a number."""
    size = float(e.right @ e.right)
    c = float(e.tape @ e.right) / size if size else 0.0
    if not c or not e.close(e.tape / c, e.right):
        return None
    if abs(c + 1) < 1e-5:
        return Finding(
            Kind.CONSTANT,
            "has the wrong sign (if that is meant, as in gradient reversal, declare it: intended=)",
        )
    hint = meaning(abs(c), e)
    sign = "the wrong sign, and its size is " if c < 0 else ""
    return Finding(
        Kind.CONSTANT, f"{'has ' if c < 0 else 'is '}{sign}{abs(c):.6g} times what it should be{hint}"
    )


def meaning(c: float, e: Evidence) -> str:
    """Possible reasons for a factor, as words to add to the sentence."""

    def is_(a: float) -> bool:
        return abs(c - a) <= 1e-5 * a

    guesses = []
    if is_(2):
        guesses.append("a factor 1/2 is missing, or something is counted twice")
    if is_(0.5):
        guesses.append("a factor 2 is missing: of a square, or of something used twice")
    arrays = [(e.name.split()[-1], e.x.shape)] + [("the value", y.shape) for y in e.outputs]
    sizes = [(n, f"the size of axis {a} of {name}") for name, shape in arrays for a, n in enumerate(shape)]
    sizes += [(math.prod(shape), f"the number of entries of {name}") for name, shape in arrays]
    seen: set[int] = set()
    for n, words in sizes:
        if n < 3 or n in seen:
            continue
        seen.add(n)
        if is_(n):
            guesses.append(f"{n} is {words}: a mean taken for a sum")
        if is_(1 / n):
            guesses.append(f"{n} is {words}: divided once too often, or one of {n} summands only")
        if is_(n / (n - 1)) or is_((n - 1) / n):
            guesses.append(f"{n} is {words}: n and n - 1 mixed up")
        if words.startswith("the number"):
            continue  # a root of this number is unusual
        if is_(math.sqrt(n)):
            guesses.append(f"√{n}, and {n} is {words}: a factor 1/√{n} is missing")
        if is_(1 / math.sqrt(n)):
            guesses.append(f"1/√{n}, and {n} is {words}: a factor 1/√{n} too many")
    return f" ({'; or '.join(guesses)}?)" if guesses else ""

"""Checks of one recorded op that need no differences. Its rules are called directly.

The tape sums, casts and copies the results of rules, which may hide such a mistake until the op is used in
another way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinygen.gradcheck.arguments import Array, weights
from tinygen.gradcheck.reach import is_filled
from tinygen.gradcheck.report import Finding, Kind, Verdict
from tinygen.gradcheck.steps import Step
from tinygen.gradcheck.structure import ROWS, all_equal, copies, is_equal, linearity, other_layouts, times
from tinygen.modes import no_grad


def step_findings(step: Step, rng: np.random.Generator) -> Iterator[Finding]:
    """Mistakes of one op at its actual inputs."""
    name = f"`{step.node.name}`"
    arrays = [x for x in step.arrays if isinstance(x, np.ndarray)]
    before = copies(arrays)
    if step.mutates:
        yield Finding(Kind.STATE, f"{name} writes into its inputs")
        return
    values = step.evaluate(step.points)
    finite = all(np.isfinite(x).all() for x in before if x.dtype.kind == "f")
    if finite and not all(np.isfinite(y).all() for y in values):
        yield Finding(
            Kind.DOMAIN, f"{name} makes values that are not finite of inputs that are", Verdict.DOMAIN
        )
    elif not all_equal(values, step.evaluate(step.points)):
        yield Finding(Kind.STATE, f"{name} gives two values for the same inputs", Verdict.NONDETERMINISTIC)
    given = [weights(y.shape, rng).astype(y.dtype) for y in step.outputs]

    def pull(cotangents: Sequence[Array]) -> list[Any]:
        return step.raw_gradients(step.rules, step.pack(cotangents))

    held = copies(saved_arrays(step.rules))
    sent = copies(given)
    raw = pull(sent)
    yield from shape_mismatches(name, raw, step)
    for words, gx in zip(step.names, raw, strict=True):
        if isinstance(gx, np.ndarray) and gx.dtype.kind in "iu" and gx.any():
            yield Finding(
                Kind.DTYPE,
                f"the gradient that {name} sends to its {words} is an array of integers: fractions are lost",
            )
    kept = copies(raw)
    if not all(is_equal(x, y, 0) for x, y in zip(sent, given, strict=True)):
        yield Finding(
            Kind.STATE,
            f"a rule of {name} writes into the gradient that it is given, which others may be using: "
            "work on a copy",
        )
    double = copies(pull(times(-2, given)))
    if not all(is_equal(x, y, 0) for x, y in zip(raw, kept, strict=True)):
        yield Finding(
            Kind.STATE,
            f"the rules of {name} hand out one buffer again and again: a later call overwrites what an "
            "earlier one returned. Allocate a new array for each result",
        )
    elif not all_equal(kept, copies(pull(copies(given)))) and all_equal(held, saved_arrays(step.rules)):
        yield Finding(
            Kind.STATE,
            f"a rule of {name} returns another gradient each time it is called: does it draw random numbers? "
            "Draw them once, for the value, and let the rules use the same",
            Verdict.NONDETERMINISTIC,
        )
        return
    elif not all_equal(held, saved_arrays(step.rules)):
        yield Finding(
            Kind.STATE,
            f"the rules of {name} change what they have saved: called again they return another gradient",
        )
    if not all(is_equal(x, y, 0) for x, y in zip(arrays, before, strict=True)):
        yield Finding(Kind.STATE, f"a rule of {name} writes into the op's inputs")
        return
    shared = shared_state(name, step, given, kept)
    if shared is not None:
        yield shared
        return
    nothing = copies(pull(times(0, given)))
    for words, a, z, d in zip(step.names, kept, nothing, double, strict=True):
        yield from linearity(f"the gradient that {name} sends to its {words}", a, z, d)
    for layout, arranged in other_layouts(step.points):
        if not all_equal(kept, copies(pull([arranged(g) for g in given]))):
            yield Finding(
                Kind.LAYOUT,
                f"the gradient of {name} changes when what comes back lies {layout}",
                harmless=layout is not ROWS,
            )
            break
        rules = step.run_with([arranged(x) for x in step.points])[1]
        if not all_equal(kept, copies(step.raw_gradients(rules, step.pack(copies(given))))):
            yield Finding(
                Kind.LAYOUT,
                f"the gradient of {name} changes when its arguments lie {layout}",
                harmless=layout is not ROWS,
            )
            break


def shared_state(name: str, step: Step, given: Sequence[Array], kept: Sequence[Any]) -> Finding | None:
    """Whether a rule depends on state that another call of the op, or another rule, may change."""

    def gradients(rules: Sequence[Any]) -> list[Any]:
        return copies(step.raw_gradients(rules, step.pack(copies(given))))

    def run_with(arrays: Sequence[Array]) -> Sequence[Any]:
        return step.run_with(arrays)[1]

    moved = [np.asarray(x + 1e-3 * weights(x.shape, np.random.default_rng(0))) for x in step.points]
    rules = run_with(step.points)
    try:
        run_with(moved)  # another call in between, as if the op were used twice
    except Exception:
        return None
    if not all_equal(kept, gradients(rules)):
        return Finding(
            Kind.STATE,
            f"the rules of {name} read what the latest call has left behind: when the op is used twice, the "
            "gradient of the first use is wrong. Keep what they need in a closure",
        )
    if not all_equal(kept, gradients(run_with(step.points))):
        return Finding(
            Kind.STATE,
            f"the gradient of {name} depends on what an earlier call has left behind (a stale cache?): at "
            "the same inputs it is another one. Keep what the rules need in a closure",
        )
    if len(step.rules) > 1 and len(step.wanted) > 1:
        for place, i in reversed(list(enumerate(step.wanted))):
            rules = run_with(step.points)
            alone = rules[i]
            words = f"the rule of {name} for its {step.names[place]}"
            try:
                with no_grad():
                    found = alone(step.pack(copies(given)))
            except Exception as error:
                return Finding(
                    Kind.RAISES,
                    f"{words} raises {type(error).__name__} ({error}) when no other rule has run before, as "
                    "it is when only that argument wants a gradient",
                )
            if not all_equal([kept[place]], [found]):
                return Finding(
                    Kind.STATE,
                    f"{words} needs another rule to have run before: alone, as it is when only that argument "
                    "wants a gradient, it returns another one. Compute what they share in the body",
                )
    return None


def saved_arrays(rules: Sequence[Any]) -> list[Array]:
    """The arrays in the closures of the rules."""
    cells = [c for rule in rules for c in getattr(rule, "__closure__", None) or ()]
    inside = [c.cell_contents for c in cells if is_filled(c)]
    return [x for x in inside if isinstance(x, np.ndarray)]


def shape_mismatches(name: str, raw: Sequence[Any], step: Step) -> Iterator[Finding]:
    """Gradients whose shape is neither the shape of the argument nor one that it broadcasts to."""
    for words, gx, x in zip(step.names, raw, step.points, strict=True):
        shape = np.shape(gx)
        tail = shape[len(shape) - x.ndim :] if len(shape) >= x.ndim else None
        if tail is None or any(n not in (m, m * n) for m, n in zip(x.shape, tail, strict=True)):
            yield Finding(
                Kind.SHAPE,
                f"the gradient that {name} sends to its {words} has shape {shape}, the argument {x.shape}",
            )


def precision(dtype: Any) -> Any:
    """The dtype of the real and imaginary parts."""
    return np.finfo(dtype).dtype if dtype.kind == "c" else dtype


def dtype_remarks(step: Step, rng: np.random.Generator) -> Iterator[str]:
    """Values or gradients of an op with another dtype than all its inputs. The tape casts both, so nothing is
    wrong, but it costs time, and another engine may not cast."""
    wanted = {precision(p.dtype) for p in step.points}
    if len(wanted) != 1 or not is_pure(step):
        return
    (ours,) = wanted
    values = step.raw if type(step.raw) is tuple else (step.raw,)
    given = [weights(y.shape, rng).astype(y.dtype) for y in step.outputs]
    sent = zip(step.names, step.raw_gradients(step.rules, step.pack(given)), strict=True)
    off = [("its value", y.dtype) for y in values if hasattr(y, "dtype") and y.dtype.kind in "fc"]
    off += [(f"the gradient by its {words}", x.dtype) for words, x in sent if isinstance(x, np.ndarray)]
    off = [(words, dtype) for words, dtype in off if precision(dtype) != ours]
    if off:
        dtypes = " and ".join(sorted({str(dtype) for _, dtype in off}))
        hint = " (np.sqrt(2) and np.eye(3) are float64, math.sqrt(2) is not)" if "float64" in dtypes else ""
        yield (
            f"`{step.node.name}` computes {', '.join(words for words, _ in off)} in {dtypes}, although "
            f"all that comes in is {ours}{hint}: the tape casts that"
        )


def is_pure(step: Step) -> bool:
    """Whether no constant and no keyword argument of the op has, or asks for, another dtype."""
    wanted = precision(step.points[0].dtype)
    others = [*step.arrays, *step.node.kwargs.values()]
    return "dtype" not in step.node.kwargs and all(
        getattr(x, "dtype", wanted) == wanted or getattr(x, "dtype", wanted).kind != "f" for x in others
    )

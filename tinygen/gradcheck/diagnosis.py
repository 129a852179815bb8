"""The kind of mistake in a wrong gradient: a factor, a sign, a transpose, an axis that is not summed, ...

Each guess is a function of the evidence that returns a Finding if it fits, else None. The first guess that
fits is reported, so the list goes from specific guesses to vague ones. A guess has the name of its mistake.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from tinygen.gradcheck.evidence import Evidence, input_arrays, rearrangements
from tinygen.gradcheck.factor import constant_factor
from tinygen.gradcheck.influence import (
    double_sum,
    influence,
    inverted_mask,
    missing_sum,
    partial_sum,
    single_index,
)
from tinygen.gradcheck.inner import finer_blocks, inner_ratio, slopes_between_matrices
from tinygen.gradcheck.outputs import other_weights, some_outputs
from tinygen.gradcheck.paths import (
    bottleneck,
    cut_path,
    lost_rank,
    matrices,
    missing_mask,
    one_of_several_uses,
    path_through_matrix,
    rank,
    transposed_rows,
)
from tinygen.gradcheck.patterns import clear_part, extreme_entries, possible_part
from tinygen.gradcheck.places import (
    factor_along_the_wrong_axis,
    inner_shift,
    inner_transpose,
    masks,
    other_tie,
    transposed_weight,
    wrong_axis,
    wrong_grouping,
    wrong_order,
)
from tinygen.gradcheck.products import half_of_product_rule, missing_product, straight_through_estimator
from tinygen.gradcheck.report import Finding, Kind, Verdict
from tinygen.gradcheck.structure import linearity, times
from tinygen.gradcheck.subject import Subject
from tinygen.gradcheck.terms import half_of_symmetric_term, missing_factor, missing_term, shifted_factor
from tinygen.gradcheck.undecided import (
    conjugation,
    inner_weight,
    other_normalization,
    other_places,
    unknown_mistake,
)

Guess = Callable[[Evidence], Finding | None]
FEW = 3  # a gradient with fewer entries is tested for two cotangents


def diagnose(subject: Subject, k: int, rng: np.random.Generator, what: str) -> Finding:
    """The mistake in the gradient by variable `k`; `what` is the name of that gradient. If the function has
    several outputs, the sentence says which one has the mistake, unless all have it."""
    e = Evidence(subject, k, rng)
    found, where = best_guess(e), ""
    if len(e.outputs) > 1 and (found.vague or found.kind not in (Kind.PLACE, Kind.NAN)):
        each = [Evidence(subject, k, rng, i) for i in range(len(e.outputs))]
        wrong = [i for i, one in enumerate(each) if not one.agrees()]
        guesses = [(i, best_guess(each[i])) for i in wrong]
        guesses = [(i, g) for i, g in guesses if found.vague or len(wrong) < len(each)]
        telling = [(i, g) for i, g in guesses if not g.vague] or guesses[:1]
        if telling and (not telling[0][1].vague or len(wrong) < len(each)):
            number, found = telling[0]
            where = f", of what comes back to output {number},"
            if found.kind is Kind.DETACHED:
                found.other = Kind.TERM
    found.sentence = f"{what}{where} {found.sentence}"
    found.variable = e.name
    return found


def best_guess(e: Evidence) -> Finding:
    """The first guess that fits. A gradient of one or two numbers fits many guesses, so there the guess has
    to give the same finding for a second cotangent."""
    second = Evidence(e.subject, e.k, np.random.default_rng(1), e.output) if e.x.size < FEW else None
    for guess in GUESSES:
        found = guess(e)
        if found is None:
            continue
        again = guess(second) if second is not None and guess is not unknown_mistake else found
        if again is not None and (again.kind, again.sentence) == (found.kind, found.sentence):
            return found
    raise AssertionError("the last guess always fits")


# -- the guesses -----------------------------------------------------------------------------------


def not_a_number(e: Evidence) -> Finding | None:
    if np.isfinite(e.gradient).all():
        return None
    bad = np.argwhere(~np.isfinite(e.gradient))
    value, count = float(e.gradient[tuple(bad[0])]), f"{len(bad)} of {e.gradient.size} entries"
    return Finding(Kind.NAN, f"is {value} at {bad[0].tolist()} ({count}), where differences are finite")


def detachment(e: Evidence) -> Finding | None:
    if np.any(e.gradient):
        return None
    return Finding(Kind.DETACHED, "is zero, although the value changes", Verdict.DEAD)


def gradient_of_constant(e: Evidence) -> Finding | None:
    """The value is constant, but the gradient is not 0: possibly a straight-through estimator."""
    if np.abs(e.right).max(initial=0.0) > 1e-9 * np.abs(e.tape).max(initial=0.0):
        return None
    return Finding(
        Kind.STEPS,
        "is not zero, although the value does not change (it moves in steps, or not at all): if that is "
        "meant, as in a straight-through gradient, declare it: intended=",
    )


def unused_cotangent(e: Evidence) -> Finding | None:
    for finding in linearity("", e.gradient, e.tape_gradient(times(0, e.g)), e.tape_gradient(times(-2, e.g))):
        finding.sentence = finding.sentence.strip()
        return finding
    return None


def exchange(e: Evidence) -> Finding | None:
    """Two gradients, or the cotangents of two outputs, are exchanged."""
    for other, x in enumerate(e.subject.points):
        if other == e.k or x.shape != e.x.shape:
            continue
        theirs = e.pair(e.g, [e.push(d, other) for d in e.directions])
        found = e.pull([np.array(g) for g in e.g])[other]
        if e.close(e.tape, theirs) and found is not None and e.close(e.components(found), e.right):
            return Finding(Kind.PLACE, f"is that of {e.subject.names[other]}, and the other way round")
    for i, j in itertools.combinations(range(len(e.g)), 2):
        if e.g[i].shape == e.g[j].shape:
            g = list(e.g)
            g[i], g[j] = g[j], g[i]
            if e.close(e.tape, e.pair(g)):
                return Finding(Kind.PLACE, f"takes what comes back to outputs {i} and {j} for each other")
    return None


def rearrangement(e: Evidence) -> Finding | None:
    """The right gradient, rearranged; or the right one for a rearranged cotangent."""
    for r in rearrangements(e.x.shape):
        if e.close(e.tape, e.pair(e.g, [e.push(r.transpose(d)) for d in e.directions])):
            return Finding(Kind.PLACE, f"comes out {r.words}")
    if len(e.g) == 1:
        for r in rearrangements(e.g[0].shape):
            if e.close(e.tape, e.pair([r.apply(e.g[0])])):
                return Finding(Kind.PLACE, f"is right for a cotangent {r.words}")
    return None


def forward_rule(e: Evidence) -> Finding | None:
    """J g instead of Jᵀ g."""
    if len(e.g) != 1 or e.g[0].shape != e.x.shape:
        return None
    if not e.close(e.tape, e.components(e.push(e.g[0])[0])):
        return None
    return Finding(
        Kind.PLACE,
        "is J g, where Jᵀ g is needed: what comes back goes through the op itself, not its transpose",
    )


def operand(e: Evidence) -> Finding | None:
    """The right gradient at transposed or reversed inputs."""
    for name, array, put in input_arrays(e):
        for r in rearrangements(array.shape):
            if r.reshaped or (r.shifted and array is e.x):
                continue
            subject, points = put(np.array(r.apply(array)))
            try:
                theirs = e.pair(e.g, [e.push_at(d, subject, points) for d in e.directions])
            except TimeoutError:
                return None  # the function does not end at such inputs: do not wait for the next ones
            if e.close(e.tape, theirs):
                return Finding(Kind.PLACE, f"is the one for {name} {r.words}")
    return None


def rule_for_ones(e: Evidence) -> Finding | None:
    ones = [np.ones_like(g) for g in e.g]
    right = e.pair(ones)
    several = sum(g.size for g in e.g) > 1 and np.abs(right).max() > 1e-3 * np.abs(e.right).max()
    if not (several and e.close(e.components(e.tape_gradient(ones)), right)):
        return None
    both = matrices(e)
    if both is not None and rank(both[0]) >= rank(both[1]):
        told, true, _ = masks(both)
        if not (true & ~told).any():
            return None  # each entry uses all cotangents that it should: right for ones by chance
    return Finding(
        Kind.COTANGENT,
        "is right only when the same number comes back for every output, as it does under a sum",
        vague=True,
    )


def approximation(e: Evidence) -> Finding | None:
    if e.nearly_right:
        return Finding(
            Kind.SLOPE,
            f"is nearly right, off by about {e.error():.1g} of its size: a mistyped constant, or the "
            "gradient of another formula for the same thing?",
            other=Kind.TERM,
            vague=True,
        )
    return None


GUESSES: Sequence[Guess] = (
    not_a_number,
    detachment,
    unused_cotangent,
    gradient_of_constant,
    conjugation,
    constant_factor,
    exchange,
    rearrangement,
    missing_sum,
    wrong_axis,
    factor_along_the_wrong_axis,
    inner_shift,
    extreme_entries,
    clear_part,
    operand,
    forward_rule,
    wrong_grouping,
    wrong_order,
    inner_transpose,
    transposed_weight,
    transposed_rows,
    shifted_factor,
    partial_sum,
    double_sum,
    inverted_mask,
    missing_factor,
    straight_through_estimator,
    missing_term,
    missing_product,
    half_of_symmetric_term,
    rule_for_ones,
    other_weights,
    inner_ratio,
    slopes_between_matrices,
    finer_blocks,
    bottleneck,
    half_of_product_rule,
    path_through_matrix,
    other_tie,
    one_of_several_uses,
    cut_path,
    influence,
    missing_mask,
    single_index,
    other_normalization,
    inner_weight,
    other_places,
    possible_part,
    approximation,
    some_outputs,
    lost_rank,
    unknown_mistake,
)

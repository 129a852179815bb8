"""The checker finds every planted bug, names its kind and, inside a model, the op. And it does not cry wolf:
not at the table of ops (`tests/ops/test_every_op.py`), nor (slow) at a thousand random cases per family.
Slow are also the bugs that repeat what others hold: those written by the checker's author, and in models all
but one bug for each mistake and op."""

import numpy as np
import pytest
from corpus import CORPUS
from models import IN_MODELS
from random_cases import FAMILIES
from users import found, located, looked_at, named
from users_corpus import CONTROLS, FIFTH, FOURTH, OURS, USERS

from tinygen import gradcheck
from tinygen.gradcheck import Kind, Verdict


def test_the_size_of_the_corpus():
    assert len(CORPUS) >= 60
    assert len({bug.name for bug in CORPUS}) == len(CORPUS)
    assert len({bug.kind for bug in CORPUS} - {None}) >= 12
    assert len({bug.of for bug in CORPUS}) >= 20
    assert len(IN_MODELS) >= 20


@pytest.fixture(scope="module")
def kinds():
    """What each bug was said to be: filled by the tests of single bugs."""
    return {}


@pytest.mark.parametrize("bug", CORPUS, ids=[bug.name for bug in CORPUS])
def test_every_bug_is_found(bug, kinds):
    report = gradcheck(bug.f, *bug.inputs, order=bug.order)
    assert not report
    found = (Verdict.WRONG, Verdict.DEAD, Verdict.NONDETERMINISTIC)
    assert report.verdict in (found if bug.kind is not Kind.UNSUPPORTED else (Verdict.UNSUPPORTED,))
    assert report.findings
    if bug.is_op:
        assert report.culprit is not None
        assert report.culprit.op == bug.name
    kinds[bug.name] = report.kind


def test_most_kinds_are_named_right(kinds):
    named = [bug for bug in CORPUS if bug.kind and bug.name in kinds]
    if len(kinds) < len(CORPUS):
        pytest.skip("runs when all bugs have been looked at")
    wrong = [f"{bug.name}: {kinds[bug.name].name}" for bug in named if kinds[bug.name] is not bug.kind]
    assert len(wrong) <= 0.15 * len(named), wrong


@pytest.mark.parametrize("model", ["gpt_block", "unet_block"])
def test_the_models_themselves_are_right(model):
    module, x = next(bug.model for bug in IN_MODELS if bug.model.__name__ == model)()
    assert gradcheck(module, x, max_entries=200)


@pytest.fixture(scope="module")
def places():
    return {}


BUGS_IN_MODELS = [
    pytest.param(b, id=f"{b.model.__name__}-{b.name}", marks=[pytest.mark.slow] * b.again) for b in IN_MODELS
]


@pytest.mark.parametrize("bug", BUGS_IN_MODELS)
def test_every_bug_in_a_model_is_found(bug, places):
    module, x = bug.model()
    with bug.in_place():
        report = gradcheck(module, x, max_entries=200)
    assert not report
    places[bug] = report.culprit is not None and report.culprit.op == bug.name


def test_most_bugs_in_models_are_located(places):
    if any(bug not in places for bug in IN_MODELS if not bug.again):
        pytest.skip("runs when all bugs have been looked at")
    missed = [bug.name for bug, right in places.items() if not right]
    assert len(missed) <= 0.05 * len(places), missed


@pytest.fixture(scope="module")
def named_right():
    return {}


# Its state is put back before each run, as all that modules keep is: so two runs are the same.
NOT_FOUND = ("RecurrentLayerThatRemembers",)
BY_HAND = [pytest.param(bug, id=bug.name) for bug in [*USERS, *FOURTH]]
BY_HAND += [pytest.param(bug, id=bug.name, marks=pytest.mark.slow) for bug in [*FIFTH, *OURS]]
ELSEWHERE = (
    "maximum_of_one_thing_twice",
)  # right op by op: only both arguments together have a wrong gradient


@pytest.mark.parametrize("bug", BY_HAND)
def test_every_bug_of_a_user_is_found(bug, named_right):
    report = looked_at(bug)
    assert found(report) or bug.name in NOT_FOUND, report
    assert located(bug, report) or bug.name in ELSEWHERE, report
    named_right[bug.name] = bug.kinds[0] is None or named(bug, report)


@pytest.mark.parametrize("bugs", [USERS, pytest.param(OURS, marks=pytest.mark.slow)], ids=["users", "ours"])
def test_the_kinds_of_users_bugs_are_named_right(bugs, named_right):
    if any(bug.name not in named_right for bug in bugs):
        pytest.skip("runs when all bugs have been looked at")
    wrong = [bug.name for bug in bugs if not named_right[bug.name]]
    assert len(wrong) <= 0.05 * len(bugs), wrong


# -- no false alarm --------------------------------------------------------------------------------


@pytest.mark.parametrize("bug", CONTROLS, ids=[bug.name for bug in CONTROLS])
def test_right_ops_of_users_pass(bug):
    report = looked_at(bug)
    assert report, report
    assert not report.findings


@pytest.mark.parametrize("family", FAMILIES)
def test_right_ops_pass_at_random(family):
    check_at_random(family, 20)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_right_ops_pass_at_a_thousand_random_cases(family):
    check_at_random(family, 1000)


def check_at_random(family, cases):
    """Every fifth to second order too."""
    for seed in range(cases):
        f, inputs = FAMILIES[family](np.random.default_rng(seed))
        report = gradcheck(f, *inputs, order=2 if seed % 5 == 0 else 1)
        assert report, f"{family}, seed {seed}:\n{report}"
        assert not report.findings

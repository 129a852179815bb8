"""Reports: known texts and answers, a second grammar that reads every report back, and ids."""

import numpy as np
import pytest

from tinygen.data import reports
from tinygen.data.reports import ANSWERS, NAMES, TASKS, THINGS, Report

SOUP = Report(person=0, thing=0, verb=0, negated=True, degree=1, adjective=3, witness=1)
BEACH = Report(person=2, thing=14, verb=2, negated=True, degree=0, adjective=0, witness=2)
KNOWN = {
    SOUP: {
        "translate": "anna hat die suppe gekocht . die suppe war nicht wirklich schlecht . ben mochte sie .",
        "praise or blame": "praise",
        "which topic": "food",
        "summarize": "good soup for anna .",
        "write": "anna cooked the soup . the soup was not really bad . ben liked it .",
    },
    BEACH: {
        "translate": "clara hat den strand verlassen . der strand war nicht gut . clara hasste ihn .",
        "praise or blame": "blame",
        "which topic": "travel",
        "summarize": "bad beach for clara .",
        "write": "clara left the beach . the beach was not good . clara hated it .",
    },
    Report(5, 8, 0, False, 2, 1, 0): {
        "translate": "felix hat das spiel gewonnen . das spiel war sehr herrlich . anna mochte es .",
        "summarize": "good game for felix .",
        "which topic": "sport",
    },
}


@pytest.mark.parametrize(
    ("report", "task", "answer"), [(r, task, x) for r, known in KNOWN.items() for task, x in known.items()]
)
def test_known_answers(report, task, answer):
    assert ANSWERS[task](report) == answer
    assert reports.is_right(task, report, answer)
    assert not reports.is_right(task, report, answer + " .")
    assert not reports.is_right(task, report, "")


def test_questions():
    text = reports.english(SOUP)
    for task in TASKS[:-1]:
        assert reports.question(task, SOUP) == f"{task} : {text}"
    assert reports.question("write", SOUP) == "write : anna soup ."
    assert reports.about(BEACH) == "this was about travel ."


def test_any_report_of_this_person_and_thing_is_a_right_text():
    text = "anna bought the soup . the soup was clever . yann liked it ."
    assert reports.is_right("write", SOUP, text)
    assert not reports.is_right("write", BEACH, text)
    assert not reports.is_right("write", SOUP._replace(thing=1), text)
    assert not reports.is_right("write", SOUP._replace(person=1), text)
    assert not reports.is_right("write", SOUP, text.replace("liked", "hated"))


def test_every_combination_of_words_reads_back():
    """All people, all things with all verbs, and all moods: what is written together in one sentence."""
    rng = np.random.default_rng(0)
    for report in reports.draw(500, range(len(NAMES)), rng=rng):
        assert reports.read(reports.english(report)) == report
    for thing in range(len(THINGS)):
        for verb in range(3):
            report = SOUP._replace(thing=thing, verb=verb)
            assert reports.read(reports.english(report)) == report
    for negated in (False, True):
        for degree in range(3):
            for adjective in range(6):
                report = SOUP._replace(negated=negated, degree=degree, adjective=adjective)
                assert reports.read(reports.english(report)) == report
                assert report.praises == ((adjective < 3) != negated)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "anna cooked the soup .",
        "anna cooked the song . the song was good . ben liked it .",  # nobody cooks a song
        "anna cooked the soup . the cake was good . ben liked it .",
        "anna cooked the soup . the soup was good . ben hated it .",
        "anna cooked the soup . the soup was really not good . ben hated it .",
        "anna cooked the soup . the soup was good . ben liked it . this was about food .",
        "anna cooked the soup . the soup was good . ben liked it . .",
        "anna cooked the soup . the soup was good . ben liked it",
        "otto cooked the soup . the soup was good . ben liked it .",
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="is no report of this grammar"):
        reports.read(text)


def test_draws_have_the_given_names_and_everything_else():
    found = reports.draw(3000, [3, 20], rng=np.random.default_rng(0))
    assert {r.person for r in found} == {r.witness for r in found} == {3, 20}
    assert 0.7 < np.mean([r.person == r.witness for r in found]) < 0.8  # a half, and half of the others
    assert {r.thing for r in found} == set(range(16))
    assert {(r.verb, r.degree, r.adjective, r.negated) for r in found} == {
        (a, b, c, d) for a in range(3) for b in range(3) for c in range(6) for d in (False, True)
    }
    shares = np.bincount([r.thing for r in found]) / 3000
    np.testing.assert_allclose(shares, 1 / 16, atol=0.02)


def test_texts_become_ids_and_texts_again():
    for task in TASKS:
        for text in (reports.question(task, SOUP), ANSWERS[task](SOUP), reports.about(SOUP)):
            ids = reports.encode(text)
            assert len(ids) <= reports.LONGEST
            assert reports.decode([reports.BEGIN, *ids, reports.END, 40, reports.PAD]) == text
    ids = [
        reports.PAD,
        reports.BEGIN,
        reports.END,
        reports.MASK,
        *reports.SENTINELS,
        *reports.NUMBER.values(),
    ]
    assert ids == list(range(reports.VOCAB_SIZE))
    assert reports.decode([reports.MASK, reports.SENTINELS[2], reports.NUMBER["anna"]]) == "? ? anna"
    with pytest.raises(ValueError, match="'otto' is no word of the reports"):
        reports.encode("otto cooked")


def test_the_longest_texts():
    """With "about", a text has one word less than there is place for; END comes behind."""
    long = SOUP._replace(negated=True, degree=2)
    english = reports.encode(f"{reports.english(long)} {reports.about(long)}")
    assert max(len(english), len(reports.encode(reports.question("praise or blame", long)))) == 21
    assert len(reports.encode(reports.german(long))) == 17

"""Tasks in words: what is damaged, a step of each model written out by hand, the answers, what is known
without fine-tuning, and the whole run."""

import numpy as np
import pytest
from by_hand import Loop, Training, exact, flags, log_p, same, warmup_cosine
from example_runs import module, outcome, run_here

from tinygen.data import reports
from tinygen.data.reports import BEGIN, END, LONGEST, MASK, NAMES, PAD, SENTINELS, TASKS
from tinygen.text import mask_any_number

for package in ("matplotlib", "tqdm"):
    pytest.importorskip(package)

EXAMPLE = "tasks_in_words.py"
SMALL = {"layers": 1, "width": 8, "batch": 3, "pretraining-steps": 3, "steps-each": 3, "questions": 20}
SMALL |= {"tests": 10, "seed": 3}
FAMILIES = ("T5", "BART", "mask-predict")
every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


@pytest.fixture(scope="module")
def shared(example):
    import shared.repairs as found

    return found


# -- texts -----------------------------------------------------------------------------------------


def test_pretraining_sees_all_names_in_both_languages(shared):
    texts = [reports.decode(ids) for ids in shared.pretraining_texts(400, rng=np.random.default_rng(0))]
    german = [" hat " in text for text in texts]
    english = [text for text in texts if " hat " not in text]
    assert 0.4 < np.mean(german) < 0.6
    assert 0.4 < np.mean(["this was about" in text for text in english]) < 0.6
    assert {word for text in texts for word in text.split()} >= set(NAMES)
    for text in english[:50]:
        reports.read(text.partition(" this was")[0])


def test_damage_of_t5(shared):
    """Target and source together have all words of the text, in the order of the sentinels."""
    texts = shared.pretraining_texts(5, rng=np.random.default_rng(1))
    source, target = shared.damage("T5", texts, rng=np.random.default_rng(2))
    for text, row, answer in zip(texts, source.tolist(), target.tolist(), strict=True):
        assert answer[0] == BEGIN
        filled, pieces = [], {}
        for token in answer[1 : answer.index(END)]:
            if token in SENTINELS:
                pieces[token] = here = []
            else:
                here.append(token)
        for token in row:
            filled += pieces[token] if token in SENTINELS else [token] * (token != PAD)
        assert filled == text.tolist()
        assert 0.2 < sum(map(len, pieces.values())) / len(text) < 0.4


@pytest.mark.parametrize("family", FAMILIES[1:])
def test_damage_of_the_others(shared, family):
    """The target is the whole text; the source has its words without some, and holes."""
    texts = shared.pretraining_texts(30, rng=np.random.default_rng(1))
    source, target = shared.damage(family, texts, rng=np.random.default_rng(2))
    assert source.shape[1] <= shared.ROOM
    moved = 0
    for text, row, answer in zip(texts, source, target, strict=True):
        assert [BEGIN, *text, END] == answer[: len(text) + 2].tolist()
        assert not answer[len(text) + 2 :].any()
        words = row[(row != PAD) & (row != MASK)].tolist()
        assert len(words) == len(text) - round(0.3 * len(text))
        assert not set(words) - set(text.tolist())
        places = [text.tolist().index(word) for word in words if text.tolist().count(word) == 1]
        moved += places != sorted(places)
        assert MASK in row
    assert moved > 15


def test_questions_are_about_the_given_names(shared):
    asked = shared.questions(40, range(18, 24), rng=np.random.default_rng(0))
    assert [task for task, _ in asked] == list(TASKS) * 8
    assert {report.person for _, report in asked} <= {*range(18, 24)}
    source, target = shared.question_pairs(asked)
    for (task, report), row, answer in zip(asked, source, target, strict=True):
        assert reports.decode(row) == reports.question(task, report)
        assert reports.decode(answer) == reports.ANSWERS[task](report)
        assert answer[0] == BEGIN


def test_no_name_of_a_test_is_in_a_question_for_training(example):
    assert not {*example.KNOWN} & {*example.UNKNOWN}
    assert {*example.KNOWN, *example.UNKNOWN} == {*range(len(NAMES))}


# -- steps -----------------------------------------------------------------------------------------


def loss_by_hand(family, model, source, target, rng):
    """T5 and BART: all tokens of the target after the first. The masked writer: the tokens that are hidden,
    behind the source, which fills 32 places."""
    if family != "mask-predict":
        logits, labels = model(source, target[:, :-1]), target[:, 1:]
        count = labels != PAD
    else:
        whole = np.array(
            [[*row[(row != PAD) & (row != BEGIN)], *[END] * LONGEST][:LONGEST] for row in target]
        )
        holes, _ = mask_any_number(whole, MASK, rng=rng)
        ids = np.concatenate([source, np.zeros((len(source), 32 - source.shape[1]), int), holes], axis=1)
        segments = np.concatenate([np.zeros((len(ids), 32), int), np.ones((len(ids), LONGEST), int)], axis=1)
        logits, labels, count = model.bert(ids, segments, ids != PAD)[:, 32:], whole, holes == MASK
    return -(log_p(logits, labels) * count).sum() / count.sum()


def test_the_steps(monkeypatch, example, shared):
    """Pretraining, then fine-tuning from the pretrained weights, and from nothing."""
    args, loop = flags(monkeypatch, example, **SMALL), Loop(6)
    lab = example.Lab(args)
    for model in lab.models.values():
        model.astype(np.float64)
    build = lambda family: exact(shared.build(family, 1, 8, rng=3))[0]
    example.train(lab, loop)

    rng = np.random.default_rng(4)
    copies = {f: build(f) for f in FAMILIES}
    holes = {f: copies[f].rng if f == "mask-predict" else None for f in FAMILIES}
    training, wanted = {f: Training(copies[f], (0.9, 0.98), clip=1.0) for f in FAMILIES}, []
    for step in range(3):
        texts = shared.pretraining_texts(3, rng=rng)
        for f in FAMILIES:
            source, target = shared.damage(f, texts, rng=rng)
            loss = loss_by_hand(f, copies[f], source, target, holes[f])
            wanted.append(training[f].step(loss, (1 + (f == "T5")) * warmup_cosine(step, 3e-3, 0.0, 0, 3)))
    for f in FAMILIES:
        same(lab.pretrained[f], copies[f], 1e-7)
    np.testing.assert_allclose(wanted, [row[f] for row in loop.rows[:3] for f in FAMILIES], rtol=1e-8)
    asked = shared.questions(20, range(18), rng=np.random.default_rng(5))
    models = {("pretrained", f): build(f) for f in FAMILIES} | {
        ("from nothing", f): build(f) for f in FAMILIES
    }
    for f in FAMILIES:
        models["pretrained", f].load_state_dict(copies[f].state_dict())
    training, wanted = {key: Training(model, (0.9, 0.98), clip=1.0) for key, model in models.items()}, []
    for step in range(3):
        batch = shared.question_pairs([asked[row] for row in rng.integers(20, size=3)])
        texts = shared.pretraining_texts(3, rng=rng)
        repairs = {f: shared.damage(f, texts, rng=rng) for f in FAMILIES}
        for (kind, f), model in models.items():
            loss = 0.0
            for source, target in (batch, repairs[f]) if kind == "pretrained" else (batch,):
                holes = model.rng if f == "mask-predict" else None
                loss = loss + loss_by_hand(f, model, source, target, holes)
            rate = (1 + (f == "T5")) * warmup_cosine(step, args.tuning_lr, 0.0, 0, 3)
            wanted.append(training[kind, f].step(loss, rate))
    for (kind, f), model in models.items():
        same(lab.models[f"{f}, {kind}"], model, 1e-7)
    found = [row[f"{f}, {kind}"] for row in loop.rows[3:] for kind, f in models]
    np.testing.assert_allclose(wanted, found, rtol=1e-8)
    assert loop.stages == ["fine-tuning"] * 3


@every_family
def test_weights_begin_as_wide_as_the_network_needs(shared, family):
    """A matrix of BART and BERT has the standard deviation 1/√C."""
    model = shared.build(family, 2, 64, rng=0)
    if family != "T5":
        for p in model.parameters():
            if p.ndim == 2 and p.size > 3000:
                assert np.std(p.data) == pytest.approx(1 / 8, rel=0.05)


# -- answers ---------------------------------------------------------------------------------------


def test_the_masked_writer_reads_the_source_but_no_padding(shared):
    model, _ = exact(shared.MaskedWriter(1, 8, rng=0))
    source, target = np.array([[20, 21, 22]]), np.full((1, LONGEST), MASK)
    first = model(source, target).data
    assert first.shape == (1, LONGEST, reports.VOCAB_SIZE)
    np.testing.assert_allclose(model(np.array([[20, 21, 22, PAD]]), target).data, first, rtol=1e-12)
    assert np.abs(model(np.array([[20, 23, 22]]), target).data - first).max() > 1e-6


def test_the_target_of_the_masked_writer_is_filled_up_with_ends(shared):
    found = shared.filled(np.array([[BEGIN, 30, 31, END, PAD], [BEGIN, 32, END, PAD, PAD]]))
    assert found.shape == (2, LONGEST)
    assert found[:, :4].tolist() == [[30, 31, END, END], [32, END, END, END]]
    assert (found[:, 4:] == END).all()


@every_family
def test_answers_are_texts(shared, family):
    """Greedy, the most probable word after the other; by mask-predict, as many words as there is room for."""
    model = shared.build(family, 1, 8, rng=0)
    asked = shared.questions(5, range(18), rng=np.random.default_rng(0))
    source, _ = shared.question_pairs(asked)
    answers = shared.write(model, source, 2)
    assert len(answers) == 5
    if family == "mask-predict":
        assert answers == [reports.decode(row) for row in model.write(source, 2)]
    else:
        assert answers == [reports.decode(row) for row in model.greedy_search(source, LONGEST)]


def test_shares_of_right_answers(monkeypatch, shared):
    tests = shared.questions(20, range(24), rng=np.random.default_rng(0))
    right = [reports.ANSWERS[task](report) for task, report in tests]
    monkeypatch.setattr(shared, "write", lambda model, source, passes: right)
    assert shared.shares_right(None, tests) == dict.fromkeys(TASKS, 1.0)
    right[0], right[5] = "sports", "nothing"
    assert shared.shares_right(None, tests) == dict.fromkeys(TASKS, 1.0) | {"which topic": 0.5}


# -- without fine-tuning ---------------------------------------------------------------------------


@every_family
def test_zero_shot_topics_are_the_words_in_the_hole(shared, family):
    """One text after the other: the logits where the model would write the topic."""
    model, _ = exact(shared.build(family, 1, 8, rng=0))
    texts = [reports.english(reports.Report(0, 0, 0, True, 1, 3, 1)), "anna liked it ."]
    for text, found in zip(texts, shared.topic_scores(model, texts), strict=True):
        start = reports.encode(f"{text} this was about").tolist()
        stop, topics = reports.NUMBER["."], [reports.NUMBER[topic] for topic in reports.TOPICS]
        if family == "T5":
            wanted = model(np.array([[*start, SENTINELS[0], stop]]), np.array([[BEGIN, SENTINELS[0]]]))
            wanted = wanted.data[0, 1]
        elif family == "BART":
            wanted = model(np.array([[*start, MASK, stop]]), np.array([[BEGIN, *start]])).data[0, -1]
        else:
            whole = np.array([[*start, MASK, stop, *[END] * LONGEST][:LONGEST]])
            wanted = model(np.array([[*start, MASK, stop]]), whole).data[0, len(start)]
        np.testing.assert_allclose(found, wanted[topics], rtol=1e-9)


def test_features_do_not_depend_on_padding(shared):
    model, _ = exact(shared.build("T5", 1, 8, rng=0))
    texts = ["anna cooked the soup .", "ben liked it . ben hated it ."]
    both = shared.features(model, texts)
    for text, found in zip(texts, both, strict=True):
        wanted = model.memory(reports.encode(text)[None]).data.mean(axis=1)[0]
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_the_nearest_mean_by_hand(shared):
    known, labels = np.array([[0.0], [2.0], [10.0], [12.0]]), np.array([0, 0, 1, 1])
    assert shared.nearest_mean(known, labels, np.array([[5.9], [6.1], [-3.0]])).tolist() == [0, 1, 0]


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, capsys, example):
    tiny = [word for name, value in SMALL.items() for word in (f"--{name}", value)] + ["--save-every", 2]
    run_here(monkeypatch, example, *tiny, "--out", tmp_path / "whole")
    parts = ("--out", tmp_path / "parts", *tiny)
    assert run_here(monkeypatch, example, *parts, stop_after=5) == 130
    assert "--resume" in capsys.readouterr().err
    run_here(monkeypatch, example, *parts, "--resume")
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "parts")

"""For `tasks_in_words.py`: T5, BART and a masked writer of one size, what they are pretrained on, and the
batches.

Shapes: B batch, S tokens of the source, N tokens of the target, C channels, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from shared.language import start_wider
from shared.table import Figure

from tinygen import nn, no_grad, ops
from tinygen.data import reports
from tinygen.data.reports import (
    BEGIN,
    END,
    LONGEST,
    MASK,
    NAMES,
    PAD,
    SENTINELS,
    STOP,
    TOPICS,
    VOCAB_SIZE,
)
from tinygen.models import BART, BERT, T5, BARTConfig, BERTConfig, T5Config
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.text import corrupt_spans, infill_text, mask_any_number, mask_predict, permute_sentences
from tinygen.text.masking import IGNORED
from tinygen.types import Floats, Ids

KNOWN, UNKNOWN = range(18), range(18, len(NAMES))
"""The names in questions for fine-tuning, and those in the tests."""

HEADS = 4
ROOM = 32
"""Places for a source: a text with empty holes is longer than it was."""


class MaskedWriter(nn.Module):
    """A conditional masked language model (Ghazvininejad et al. 2019, arXiv:1904.09324), as one BERT that
    reads the source, and behind it a target with holes. All targets have N tokens: those after the first END
    are END, too, so the length is predicted with the words."""

    def __init__(self, layers: int, channels: int, *, rng: RNGLike) -> None:
        self.rng = as_generator(rng)
        sizes = (ROOM + LONGEST, layers, HEADS, channels, 4 * channels)
        self.bert = BERT(BERTConfig(VOCAB_SIZE, *sizes, dropout=0.0, next_sentence=False), rng=self.rng)

    def forward(self, source: Ids, target: Ids) -> Tensor:
        """Logits (B, N, V) of target (B, N) with holes, for source (B, S)."""
        source = np.pad(source, ((0, 0), (0, ROOM - source.shape[1])), constant_values=PAD)
        ids = np.concatenate([source, target], axis=1)
        segments = np.repeat([[0] * ROOM + [1] * target.shape[1]], len(ids), axis=0)
        return self.bert(ids, segments, ids != PAD)[:, ROOM:]

    def loss(self, source: Ids, target: Ids) -> Tensor:
        """Of hidden tokens, any number of them, for target (B, T), which begins with BEGIN."""
        whole = filled(target)
        holes, hidden = mask_any_number(whole, MASK, rng=self.rng)
        return ops.cross_entropy(self(source, holes), hidden, ignore_index=IGNORED)

    def write(self, source: Ids, passes: int) -> Ids:
        """Targets (B, N) for source (B, S), by mask-predict."""

        def predict(holes: Ids) -> Floats:
            with no_grad():
                log_p: Floats = ops.log_softmax(self(source, holes).astype(np.float64)).numpy()
            return log_p

        with self.eval_mode():
            return mask_predict(predict, (len(source), LONGEST), MASK, passes).tokens


def filled(target: Ids) -> Ids:
    """Target (B, T), which begins with BEGIN and is padded, without BEGIN and with END as padding:
    (B, N)."""
    found = np.full((len(target), LONGEST), END)
    found[:, : target.shape[1] - 1] = np.where(target[:, 1:] == PAD, END, target[:, 1:])
    return found


Repairer = T5 | BART | MaskedWriter
FAMILIES = ("T5", "BART", "mask-predict")


def build(family: str, layers: int, channels: int, *, rng: RNGLike) -> Repairer:
    """A model with `layers` of the encoder and as many of the decoder; the masked writer has them all in
    one."""
    c = channels
    if family == "T5":
        d = c // HEADS
        sizes = (VOCAB_SIZE, layers, layers, HEADS, c, d, 4 * c)
        return T5(T5Config(*sizes, dropout=0.0, pad=PAD, begin=BEGIN, end=END), rng=rng)
    if family == "BART":
        sizes = (VOCAB_SIZE, ROOM, layers, layers, HEADS, c, 4 * c)
        config = BARTConfig(*sizes, 0.0, 0.0, pad=PAD, begin=BEGIN, end=END)
        model: BART | MaskedWriter = BART(config, rng=rng)
    else:
        model = MaskedWriter(2 * layers, c, rng=rng)
    start_wider(model, c)
    return model


def write(model: Repairer, source: Ids, passes: int) -> list[str]:
    """The answers to source (B, S): greedy, or by mask-predict with so many passes."""
    if isinstance(model, MaskedWriter):
        return [reports.decode(row) for row in model.write(source, passes)]
    return [reports.decode(row) for row in model.greedy_search(source, LONGEST)]


# -- batches ---------------------------------------------------------------------------------------


def batch(rows: Sequence[Any]) -> Ids:
    """Rows of ids as one array (B, T), filled up with PAD."""
    found = np.full((len(rows), max(map(len, rows))), PAD)
    for i, row in enumerate(rows):
        found[i, : len(row)] = row
    return found


def pairs(sources: Sequence[Any], targets: Sequence[Any]) -> tuple[Ids, Ids]:
    """Sources (B, S) and targets (B, T), which begin with BEGIN and end with END."""
    return batch(sources), batch([[BEGIN, *row, END] for row in targets])


def damage(family: str, texts: Sequence[Ids], *, rng: np.random.Generator) -> tuple[Ids, Ids]:
    """The pairs of pretraining. T5: 30 % of the words are holes of two words on average, and the target fills
    them. The others: 30 % are holes, sentences are in another order, and the target is the text."""
    if family == "T5":
        found = [corrupt_spans(text, SENTINELS, 0.3, 2.0, rng=rng) for text in texts]
        return pairs([source for source, _ in found], [target for _, target in found])
    damaged = [
        infill_text(permute_sentences(text, [STOP], rng=rng), MASK, 0.3, 2.0, rng=rng) for text in texts
    ]
    return pairs([text[:ROOM] for text in damaged], texts)


def pretraining_texts(n: int, *, rng: np.random.Generator) -> list[Ids]:
    """Half of n texts are reports in German. The others are in English, and half of these say what they are
    about. All names occur."""
    found, kinds = reports.draw(n, range(len(reports.NAMES)), rng=rng), rng.integers(0, 4, n)
    texts = []
    for report, kind in zip(found, kinds, strict=True):
        end = f" {reports.about(report)}" if kind == 2 else ""
        texts.append(reports.encode(reports.german(report) if kind < 2 else reports.english(report) + end))
    return texts


def questions(n: int, names: Sequence[int], *, rng: np.random.Generator) -> list[tuple[str, reports.Report]]:
    """n questions, the tasks in turn, about reports with these names."""
    return [(reports.TASKS[i % len(reports.TASKS)], r) for i, r in enumerate(reports.draw(n, names, rng=rng))]


def question_pairs(asked: Sequence[tuple[str, reports.Report]]) -> tuple[Ids, Ids]:
    """Questions (B, S) and their answers (B, T)."""
    sources = [reports.encode(reports.question(*each)) for each in asked]
    return pairs(sources, [reports.encode(reports.ANSWERS[task](report)) for task, report in asked])


# -- without fine-tuning ---------------------------------------------------------------------------


@no_grad()
def topic_scores(model: Repairer, texts: Sequence[str]) -> Floats:
    """Zero-shot classification: the logits (B, 4) of the four topics in the hole of "... this was about _ .",
    behind texts that do not say it."""
    starts = [[*reports.encode(f"{text} this was about")] for text in texts]
    hole = SENTINELS[0] if isinstance(model, T5) else MASK
    source = batch([[*start, hole, STOP] for start in starts])
    if isinstance(model, MaskedWriter):
        target = filled(batch([[BEGIN, *start, hole, STOP] for start in starts]))
        places = [len(start) for start in starts]
    else:
        target = batch([[BEGIN, hole] if isinstance(model, T5) else [BEGIN, *start] for start in starts])
        places = [1 if isinstance(model, T5) else len(start) for start in starts]
    logits = model(source, target).numpy()[np.arange(len(starts)), places]  # (B, V)
    scores: Floats = logits[:, [reports.NUMBER[topic] for topic in reports.TOPICS]]
    return scores


@no_grad()
def features(model: T5 | BART, texts: Sequence[str]) -> Floats:
    """The mean of the encoder's output over the words of each text: (B, C)."""
    source = batch([reports.encode(text) for text in texts])
    words = (source != PAD)[..., None]
    found: Floats = (model.memory(source).numpy() * words).sum(axis=1) / words.sum(axis=1)
    return found


def nearest_mean(known: Floats, labels: Ids, asked: Floats) -> Ids:
    """The class of each of `asked` (B, C) whose mean, over `known` (n, C) with `labels` (n,), is nearest."""
    means = np.stack([known[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    found: Ids = np.square(asked[:, None] - means).sum(axis=-1).argmin(axis=1)
    return found


# -- measurements ----------------------------------------------------------------------------------


def shares_right(model: Repairer, tests: Any, passes: int = 4) -> dict[str, float]:
    """The share of right answers of each task."""
    source, _ = question_pairs(tests)
    right: dict[str, list[bool]] = {}
    for (task, report), answer in zip(tests, write(model, source, passes), strict=True):
        right.setdefault(task, []).append(reports.is_right(task, report, answer))
    return {task: float(np.mean(each)) for task, each in right.items()}


def without_tuning(models: Mapping[str, Repairer], count: int, rng: np.random.Generator) -> list[Figure]:
    """Zero-shot topics, and features with ten labels a topic, of models that are only pretrained."""
    rows, tests = list[Figure](), reports.draw(count, UNKNOWN, rng=rng)
    many = reports.draw(1000, KNOWN, rng=rng)
    few = [r for topic in TOPICS for r in [each for each in many if each.topic == topic][:10]]
    texts, known = ([reports.english(report) for report in each] for each in (tests, few))
    answers, labels = (np.array([TOPICS.index(r.topic) for r in each]) for each in (tests, few))
    for family, model in models.items():
        right = float(np.mean(topic_scores(model, texts).argmax(axis=1) == answers))
        rows.append(Figure(f"{family}: topic, zero-shot", right, None, 1.0, 1 / len(TOPICS)))
    for family, model in models.items():
        if not isinstance(model, MaskedWriter):
            found = nearest_mean(features(model, known), labels, features(model, texts))
            share = float(np.mean(found == answers))
            rows.append(Figure(f"{family}: topic, by features", share, None, 1.0, 1 / len(TOPICS)))
    return rows

"""word2vec learns what words mean from the words beside them: king - man + woman = queen. BERT has another
vector for a word in each context.

    python examples/language/word_vectors.py           # seconds
    python examples/language/word_vectors.py --resume  # goes on after Ctrl-C, or a kill

The sentences are about a grid of 48 words with known meanings (`tinygen/data/word_grid.py`): twelve roles,
two genders, two numbers. Skip-gram and CBOW train side by side. An analogy, a is to b as c is to d, is
right if no vector is nearer to b - a + c than the vector of d, by the angle. As in the paper, a, b and c
do not count as answers; the table also has the figures if they do.

A small BERT fills holes in the same sentences, where two words of the grid are spelled alike. Its output at
this word tells which of the two is meant, as well as the neighbors tell it; word2vec's one vector cannot.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from typing import Any

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, number, size
from shared.language import start_wider
from shared.plots import save_meanings, save_words
from shared.run import Run
from shared.table import Figure, at_least

from tinygen import no_grad
from tinygen.data import word_grid
from tinygen.density import PCA
from tinygen.models import BERT, BERTConfig, Word2Vec
from tinygen.models.language.word2vec import cbow, skip_grams
from tinygen.optim import Adam, warmup_cosine
from tinygen.text.masking import mask_tokens

MASK, WORD = len(word_grid.WORDS), 2  # the id of [MASK]; the place of the grid's word in a sentence
HIDDEN, KNOWN = 0.3, 50  # the share of hidden words; contexts of each meaning that are told
KINDS = {"skip-gram": skip_grams, "CBOW": cbow}
EXPECTED = at_least(0.95)
SHOWN = ("man", "king", "actor", "father")  # roles in the picture
SIZES = {"quick": {"steps": 700, "bert_batch": 16}, "full": FULL}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/word_vectors", "every 500 steps")
    add("--seed", type=number(int, 0), default=0, help="of the tables, the text and the batches")
    add("--sentences", type=size(10, 10**7), default=40_000, help="of five words each")
    add("--strays", type=number(float, 0, 0.99), default=0.5, help="share of neighbors that tell nothing")
    add("--radius", type=size(1, 4), default=2, help="neighbors on each side")
    add("--channels", type=size(2), default=32, help="numbers of a vector")
    add("--negatives", type=size(1), default=5, help="words of noise for each true word")
    add("--batch", type=size(1), default=512, help="predicted words per step")
    add("--steps", type=number(int, 2), default=2000, help="optimizer steps")
    add("--lr", type=number(float, 0), default=0.01, help="highest learning rate of word2vec")
    add("--bert-lr", type=number(float, 0), default=3e-3, help="highest learning rate of BERT")
    add("--bert-batch", type=size(1), default=64, help="its sentences per step")
    args = parser.parse_args()
    args.save_every = args.save_every or 500
    return args


def reader(channels: int, *, rng: int) -> BERT:
    """A BERT for sentences of five words."""
    config = BERTConfig(MASK + 1, 5, 2, 4, channels, 4 * channels, dropout=0.0, next_sentence=False)
    model = BERT(config, rng=rng)
    start_wider(model, channels)
    return model


def train(
    models: dict[str, Word2Vec], bert: BERT, sentences: Any, args: argparse.Namespace, run: Run
) -> None:
    """The loop, of all models."""
    rng, holes = (np.random.default_rng(args.seed + n) for n in (2, 3))
    pairs = {name: KINDS[name](sentences.ravel(), args.radius) for name in models}
    spelled = word_grid.spell_alike(sentences)
    optimizers = {name: Adam(model.parameters()) for name, model in {**models, "BERT": bert}.items()}
    things: dict[str, Any] = {f"optimizer of {name}": x for name, x in optimizers.items()}
    things |= {**models, "BERT": bert, "batches": rng, "holes": holes}
    with run:
        for step in run.loop(things):
            row: dict[str, float] = {}
            for name, model in models.items():
                given, words = pairs[name]
                batch = rng.integers(0, len(words), args.batch)
                optimizers[name].lr = warmup_cosine(step, args.lr, 0.02 * args.lr, 1, args.steps)
                loss = model.loss(given[batch], words[batch], rng=rng)
                optimizers[name].zero_grad()
                loss.backward()
                optimizers[name].step()
                row[name] = loss.item()
            chosen = spelled[holes.integers(0, len(spelled), args.bert_batch)]
            optimizers["BERT"].lr = warmup_cosine(step, args.bert_lr, 0.02 * args.bert_lr, 1, args.steps)
            loss = bert.loss(*mask_tokens(chosen, MASK + 1, MASK, (), HIDDEN, rng=holes))
            optimizers["BERT"].zero_grad()
            loss.backward()
            optimizers["BERT"].step()
            row["BERT"] = loss.item()
            run.log(step=step, **row)
            run.show(max(row.values()))


def share_right(vectors: Any, leave_out: bool) -> float:
    """The share of analogies whose word d has the vector nearest to b - a + c, by the angle; `leave_out`: a,
    b and c are no answers."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)  # (V, C)
    a, b, c, d = np.array(word_grid.analogies()).T
    cosines = (unit[b] - unit[a] + unit[c]) @ unit.T  # (N, V)
    if leave_out:
        for given in (a, b, c):
            cosines[np.arange(len(d)), given] = -np.inf
    return float(np.mean(cosines.argmax(axis=1) == d))


def word_in_contexts(bert: BERT, args: argparse.Namespace) -> tuple[Any, Any, float, float]:
    """The output of BERT at the word with two meanings, in new sentences (n, C); whether the second is meant,
    (n,); the share of right guesses, by the nearer mean of KNOWN contexts of each meaning; the best share."""
    n = max(args.sentences, 12_000)
    found = word_grid.sentences(n, args.strays, rng=np.random.default_rng(args.seed + 4))
    found = found[np.isin(found[:, WORD], [word_grid.ID[word] for word in word_grid.ALIKE])]
    second = found[:, WORD] == word_grid.ID[word_grid.ALIKE[1]]
    with no_grad():
        features = bert.features(word_grid.spell_alike(found), None, None).numpy()[:, WORD]
    told = [np.nonzero(second == meaning)[0][:KNOWN] for meaning in (False, True)]
    means = np.stack([features[rows].mean(axis=0) for rows in told])  # (2, C)
    nearer = np.square(features[:, None] - means).sum(axis=-1).argmin(axis=1)
    asked = np.setdiff1d(np.arange(len(found)), np.concatenate(told))
    p = word_grid.second_meaning(found, args.strays)
    best = np.where(p == 0.5, 0.5, (p > 0.5) == second)
    return features, second, float(np.mean((nearer == second)[asked])), float(np.mean(best[asked]))


def main(args: argparse.Namespace) -> None:
    rng = np.random.default_rng(args.seed + 1)
    sentences = word_grid.sentences(args.sentences, args.strays, rng=rng)
    counts = np.bincount(sentences.ravel(), minlength=len(word_grid.WORDS))
    models = {
        name: Word2Vec(counts, args.channels, args.negatives, rng=args.seed).to(args.device) for name in KINDS
    }
    before = share_right(models["skip-gram"].inputs.numpy(), True)
    bert = reader(args.channels, rng=args.seed).to(args.device)
    run = Run(args, ["step", *models, "BERT"])
    train(models, bert, sentences, args, run)
    everything = {**models, "BERT": bert}
    run.model({f"{name}.{x}": p for name, model in everything.items() for x, p in model.state_dict().items()})
    run.curve({name: name for name in everything}, {}, "word2vec and BERT", "loss (nats)")
    vectors = {name: model.inputs.numpy() for name, model in models.items()}
    words = [word for role in word_grid.GRID if role[0] in SHOWN for word in role]
    ids = [word_grid.ID[word] for word in words]
    shown = vectors["CBOW"][ids]
    save_words(run.path / "words.png", words, PCA(2).fit(shown).transform(shown))
    features, second, right, best = word_in_contexts(bert, args)
    points = PCA(2).fit(features).transform(features)
    save_meanings(run.path / "meanings.png", word_grid.ALIKE, points, second)
    rows = []
    for name, table in vectors.items():
        rows.append(Figure(f"{name}: analogies right", share_right(table, True), EXPECTED, 1.0, before))
        rows.append(Figure(f"{name}: if given words count", share_right(table, False), None, 1.0))
    name = f"BERT: which meaning {word_grid.ALIKE[0]} has"
    rows.append(Figure(name, right, at_least(0.8), best, 0.5))
    run.result(rows, analogies=len(word_grid.analogies()), words=len(word_grid.WORDS), steps=run.steps)


if __name__ == "__main__":
    start(parse_args, main)

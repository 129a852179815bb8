"""For `language_ladder.py`: its texts, the n-grams beside the networks, and what is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen import nn, no_grad, ops
from tinygen.data import load_text, train_val_split
from tinygen.data.markov import HiddenMarkovSource, zipf_source
from tinygen.text.ngram import NGram
from tinygen.text.tokenizers import CharTokenizer

SYMBOLS, DISTANCES = 8, 2 ** np.arange(9)  # of the periodic texts
LENGTH = 320  # of a periodic text
CHUNK = 64  # texts that a network reads at a time
ORDERS = (1, 2, 3, 4, 5)  # of the n-grams


# -- the texts -------------------------------------------------------------------------------------


def hidden_source() -> HiddenMarkovSource:
    """Ten states that last for some ten tokens, each with its own distribution of twelve tokens."""
    rng = np.random.default_rng(5)
    moves = 0.9 * np.eye(10) + 0.1 * rng.dirichlet(np.full(10, 0.5), 10)
    return HiddenMarkovSource(moves, rng.dirichlet(np.full(12, 0.3), 10))


SOURCES: dict[str, Callable[[], Any]] = {
    "markov": lambda: zipf_source(12, 3, 2.0, rng=5),
    "hidden": hidden_source,
}


def load(name: str, tokens: int, seed: int) -> tuple[Any, Any, int, float | None]:
    """`tokens` ids for training and half as many for the test; the size of the vocabulary; the loss of the
    best possible model on the test, if it is known."""
    if name == "topics":
        characters = load_text("topics")[: tokens * 3 // 2]
        tokenizer = CharTokenizer(characters)
        train, test = train_val_split(tokenizer.encode(characters), 2 / 3)
        return train, test, tokenizer.vocab_size, None
    source = SOURCES[name]()
    train, test = train_val_split(source.sample(tokens * 3 // 2, rng=seed), 2 / 3)
    return train, test, source.vocab_size, -float(np.mean(source.log_prob(test)))


def repeats(n: int, which: Any, *, rng: np.random.Generator) -> tuple[Any, Any]:
    """n texts (n, 320) with periods DISTANCES[which] (n,): each token is the one a period before. Beside them
    the tokens that follow (n, 320), -1 in the first period, which is random. A token is the number of its
    symbol and of the period."""
    t, length = np.arange(LENGTH + 1), DISTANCES[which][:, None]  # (321,), (n, 1)
    symbols = rng.integers(0, SYMBOLS, (n, DISTANCES[-1]))
    x = np.take_along_axis(symbols, t % length, axis=1) + SYMBOLS * which[:, None]  # (n, 321)
    return x[:, :-1], np.where(t[1:] < length, -1, x[:, 1:])


# -- the measurements ------------------------------------------------------------------------------


def loss_on(logits: Callable[[Any], Any], test: Any, window: int) -> float:
    """The mean loss of a network on a text, by windows that overlap by half: only the second half counts, so
    each token has half a window before it at least."""
    half = window // 2
    idx = test[np.arange(0, len(test) - window, half)[:, None] + np.arange(window + 1)]  # (N, window + 1)
    losses = []
    for part in np.array_split(idx, -(-len(idx) // CHUNK)):
        with no_grad():
            log_p = ops.log_softmax(logits(part[:, :-1])[:, half:]).numpy()
        losses.append(-np.take_along_axis(log_p, part[:, 1 + half :, None], axis=-1))
    return float(np.mean(np.concatenate(losses)))


def recalls(predict: Callable[[Any], Any], draws: int, seed: int) -> list[float]:
    """For each distance, the share of `draws` periodic texts whose last token is predicted."""
    rng, found = np.random.default_rng(seed), []
    for i in range(len(DISTANCES)):
        idx, targets = repeats(draws, np.full(draws, i), rng=rng)
        found.append(float(np.mean(predict(idx) == targets[:, -1])))
    return found


def next_tokens(logits: Callable[[Any], Any], idx: Any) -> Any:
    """A network's most probable token after texts (N, T): (N,)."""
    with no_grad():
        parts = [logits(part)[:, -1].numpy() for part in np.array_split(idx, -(-len(idx) // CHUNK))]
    return np.concatenate(parts).argmax(axis=-1)


def ngrams(
    train: Any, test: Any, vocab_size: int, draws: int, seed: int
) -> dict[str, tuple[float, list[float]]]:
    """Of the n-grams of orders 1 to 5 the loss on a text, and what they remember after 1,000 periodic
    texts."""
    rng, found = np.random.default_rng(seed), {}
    many, _ = repeats(1000, rng.integers(0, len(DISTANCES), 1000), rng=rng)
    for order in ORDERS:
        of_text = NGram(order).fit(train, vocab_size)
        of_periods = NGram(order).fit(many.ravel(), SYMBOLS * len(DISTANCES))
        predict = lambda idx, model=of_periods: [model.next_probs(row[-5:]).argmax() for row in idx]
        found[f"{order}-gram"] = of_text.cross_entropy(test), recalls(predict, draws, seed + 1)
    return found


def operations(model: nn.Module, window: int) -> int:
    """Multiplications and additions for one token in matrix products: two for each weight of a matrix.
    Attention compares with half a window on average, and adds as many values."""
    found = 0
    for _, module in model.named_modules():
        if isinstance(module, nn.MultiHeadAttention | nn.GroupedQueryAttention):
            found += 4 * module.proj.weight.shape[0] * window // 2
        if not isinstance(module, nn.Embedding):  # a row of it is looked up
            matrices = [x for x in vars(module).values() if isinstance(x, nn.Parameter) and x.ndim == 2]
            found += sum(2 * x.size for x in matrices)
    return found


def reach(shares: list[float]) -> int:
    """The largest distance up to which a model remembers at least 90 % of the texts; 0 if there is none."""
    few = [i for i, share in enumerate(shares) if share < 0.9]
    good = DISTANCES[: few[0]] if few else DISTANCES
    return int(good[-1]) if len(good) else 0

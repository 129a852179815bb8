"""Sources of text whose entropy is known exactly: a Markov chain, and a hidden Markov chain.

Shannon 1948, *A mathematical theory of communication*, sections 2 to 7: a text is drawn token by token, and
the entropy rate is the loss of the best possible predictor. No model can be better, so the loss of a language
model minus the entropy rate is exactly its own error. `best_loss(k)` is the same floor for models that read
only k tokens back. All losses are in nats a token.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinygen.random import categorical
from tinygen.types import Floats, Ids

MOST_CONTEXTS = 4096
"""The stationary distribution is the solution of so many equations at most."""


class MarkovSource:
    """A Markov chain of order m over V tokens. `table` (V, ..., V), with m + 1 axes, is p(next | the last m
    tokens), the oldest token on the first axis; each row sums to 1.

    All probabilities must be above 0: then every context comes back, and there is one stationary
    distribution. Raises ValueError for another table, or for more than 4096 contexts V^m."""

    def __init__(self, table: ArrayLike) -> None:
        self.table: Floats = np.array(table, np.float64)
        self.order = self.table.ndim - 1
        if len(set(self.table.shape)) != 1 or self.table.size == 0:
            raise ValueError(f"table must be (V, ..., V), got {self.table.shape}")
        self.vocab_size = len(self.table)
        if self.vocab_size**self.order > MOST_CONTEXTS:
            raise ValueError(
                f"{self.vocab_size}^{self.order} contexts are too many: at most {MOST_CONTEXTS} are allowed"
            )
        require_distributions(self.table, "table")
        if np.min(self.table) <= 0:
            raise ValueError("all probabilities of a Markov source must be above 0")
        contexts = self.table.reshape(-1, self.vocab_size)  # (V^m, V)
        self.joint: Floats = (stationary_distribution(shift_matrix(contexts))[:, None] * contexts).reshape(
            self.table.shape
        )

    def conditional_distribution(self, k: int) -> Floats:
        """p(next | the last k tokens), (V, ..., V) with k + 1 axes, k = 0 ... m: the best prediction of a
        model that reads k tokens. It is the mean of the table over older tokens, by their probability."""
        pairs = self.block(k + 1)
        means: Floats = pairs / pairs.sum(axis=-1, keepdims=True)
        return means

    def block(self, n: int) -> Floats:
        """The probability of each n tokens in a row, (V, ..., V) with n axes, n = 0 ... m + 1."""
        if not 0 <= n <= self.order + 1:
            raise ValueError(
                f"blocks of a source of order {self.order} have 0 to {self.order + 1} tokens, got {n}"
            )
        return self.joint.sum(axis=tuple(range(self.order + 1 - n)))

    def best_loss(self, k: int) -> float:
        """The least possible loss of a model that reads k tokens back, in nats a token. It falls with k, down
        to the entropy rate at k = m; longer contexts tell nothing more.

        Eq.: F_N = -Σ p(b_i, j) ln p(j | b_i), with blocks b_i of N - 1 = k tokens  (Shannon 1951)
        Held by: tests/data/test_markov.py::test_losses_by_counting_all_texts
        """
        if k < 0:
            raise ValueError(f"a context has 0 or more tokens, got {k}")
        k = min(k, self.order)
        return float(-np.sum(self.block(k + 1) * np.log(self.conditional_distribution(k))))

    def entropy_rate(self) -> float:
        """The loss of the best possible model, in nats a token.

        Eq.: H = -Σ_i P_i Σ_j p_i(j) ln p_i(j), with the stationary probability P_i of context i
            (Shannon 1948, section 7)
        Held by: tests/data/test_markov.py::test_losses_by_counting_all_texts
        """
        return self.best_loss(self.order)

    def log_prob(self, tokens: Any) -> Floats:
        """ln p of each token given all before it, (N,) -> (N,). The first m tokens have shorter contexts."""
        ids = check_tokens(tokens, self.vocab_size)
        log_prob = np.empty(len(ids))
        for k in range(min(self.order, len(ids))):  # token k has k tokens before it
            log_prob[k] = np.log(self.conditional_distribution(k)[tuple(ids[: k + 1])])
        rest = max(len(ids) - self.order, 0)
        windows = [ids[i : i + rest] for i in range(self.order + 1)]
        log_prob[self.order :] = np.log(self.table[tuple(windows)])
        return log_prob

    def sample(self, n: int, *, rng: np.random.Generator | int) -> Ids:
        """A text (n,), from the stationary distribution on."""
        rng = np.random.default_rng(rng)
        start = int(categorical(self.block(self.order).reshape(-1), rng=rng))
        text = [start // self.vocab_size**i % self.vocab_size for i in range(self.order)][::-1]
        cdf = np.cumsum(self.table.reshape(-1, self.vocab_size), axis=1)[:, :-1]  # the last one is 1
        rows, contexts, context = cdf.tolist(), len(cdf), start
        for u in rng.random(max(n - self.order, 0)).tolist():
            token = bisect_right(rows[context], u)
            text.append(token)
            context = (context * self.vocab_size + token) % contexts
        return np.array(text[:n], np.int64)


def zipf_source(
    vocab_size: int, order: int, exponent: float = 1.0, *, rng: np.random.Generator | int
) -> MarkovSource:
    """A source with a long tail: in each context, the r-th most probable token has a probability
    proportional to 1 / r^exponent (Zipf 1949), so the entropy rate is the entropy of this law.

    The ranks come from a sum of normal noises, one for each length 0 ... m of the context. So contexts
    that end in the same tokens are alike, and each further token of context tells something more."""
    rng = np.random.default_rng(rng)
    scores = sum(rng.standard_normal((vocab_size,) * (k + 1)) for k in range(order + 1))
    ranks = np.argsort(np.argsort(-np.asarray(scores)))  # 0 for the highest score
    law = 1.0 / np.arange(1, vocab_size + 1) ** exponent
    return MarkovSource((law / law.sum())[ranks])


def skewed_source(
    vocab_size: int,
    strengths: Sequence[float],
    exponent: float = 1.0,
    decay: float = 0.75,
    *,
    rng: np.random.Generator | int,
) -> MarkovSource:
    """A source to learn from for a long time: some contexts are thousands of times as frequent as others, and
    what they tell is a sum of V features, the j-th one in proportion to 1 / j^decay. So there is always a
    rarer context, and a smaller feature, that a model does not know yet.

    In all contexts, the r-th token has a probability near 1 / r^exponent (Zipf 1949), times the exponential
    of normal noises. The k-th noise depends on the last k tokens, and its standard deviation is the k-th of
    `strengths`: so there are as many strengths as the order."""
    rng = np.random.default_rng(rng)
    sizes = np.arange(1, vocab_size + 1) ** -float(decay)
    sizes /= np.sqrt(np.sum(sizes**2))
    logits = -exponent * np.log(np.arange(1, vocab_size + 1))
    for k, strength in enumerate(strengths, 1):
        contexts = sizes * rng.standard_normal((vocab_size**k, vocab_size))  # (V^k, V), features of each
        noise = contexts @ rng.standard_normal((vocab_size, vocab_size))
        logits = logits + strength * noise.reshape((vocab_size,) * (k + 1))
    table = np.exp(logits)
    return MarkovSource(table / table.sum(axis=-1, keepdims=True))


class HiddenMarkovSource:
    """A text that is drawn by a chain of K states that cannot be seen: `transition` (K, K) is p(next state |
    state), `emission` (K, V) is p(token | state). No context is long enough to know the state for sure, so
    the text is a Markov chain of no order.

    The first state is from the stationary distribution. Raises ValueError for rows that are no distributions,
    shapes that do not fit, or a chain with more than one stationary distribution."""

    def __init__(self, transition: ArrayLike, emission: ArrayLike) -> None:
        self.transition: Floats = np.array(transition, np.float64)
        self.emission: Floats = np.array(emission, np.float64)
        states = self.transition.shape[:1]
        if (
            self.transition.shape != states * 2
            or self.emission.ndim != 2
            or self.emission.shape[:1] != states
        ):
            raise ValueError(
                f"transition must be (K, K) and emission (K, V), "
                f"got {self.transition.shape} and {self.emission.shape}"
            )
        require_distributions(self.transition, "transition")
        require_distributions(self.emission, "emission")
        if np.linalg.matrix_rank(self.transition - np.eye(len(self.transition))) < len(self.transition) - 1:
            raise ValueError("the states have more than one stationary distribution: connect them")
        self.vocab_size = self.emission.shape[1]
        self.start: Floats = stationary_distribution(self.transition)

    def log_prob(self, tokens: Any) -> Floats:
        """ln p of each token given all before it, (N,) -> (N,), by the forward algorithm: p(state | the
        tokens so far) is carried along the text. The sum is ln p of the text; minus the mean is the loss of
        the best possible model on it. A token that is impossible at its place has -inf, and so have all after
        it.

        Eq.: α_{t+1}(j) = Σ_i α_t(i) a_ij b_j(o_{t+1}), P(O) = Σ_i α_T(i)  (Rabiner 1989, eq. 20 and 21)
        Held by: tests/data/test_markov.py::test_the_forward_algorithm_by_summing_over_all_paths
        """
        ids = check_tokens(tokens, self.vocab_size)
        log_prob = np.full(len(ids), -np.inf)
        state = self.start  # (K,) p(state of the next token | the tokens before)
        for t, token in enumerate(ids):
            alpha = state * self.emission[:, token]  # (K,)
            total = alpha.sum()
            if total == 0:
                break
            log_prob[t] = np.log(total)
            state = (alpha / total) @ self.transition  # divided, so that nothing underflows in long texts
        return log_prob

    def sample(self, n: int, *, rng: np.random.Generator | int) -> Ids:
        """A text (n,)."""
        rng = np.random.default_rng(rng)
        moves = np.cumsum(self.transition, axis=1)[:, :-1]
        rows, state = moves.tolist(), int(categorical(self.start, rng=rng))
        states = np.empty(n, np.int64)
        for t, u in enumerate(rng.random(n).tolist()):
            states[t] = state
            state = bisect_right(rows[state], u)
        return categorical(self.emission[states], rng=rng)


# -- the part that both share ------------------------------------------------------------------------


def stationary_distribution(transition: Floats) -> Floats:
    """The distribution (N,) that a transition (N, N) does not change: the solution of p A = p with sum 1, if
    there is only one. The equations of p A = p add up to 0 = 0, so the sum takes the place of the last."""
    equations = transition.T - np.eye(len(transition))
    equations[-1] = 1.0
    right = np.zeros(len(transition))
    right[-1] = 1.0
    p: Floats = np.maximum(np.linalg.solve(equations, right), 0.0)
    return p / p.sum()


def shift_matrix(table: Floats) -> Floats:
    """The transition (V^m, V^m) between contexts: after the token w, the context (a, b, c) is (b, c, w)."""
    contexts, vocab_size = table.shape
    transition = np.zeros((contexts, contexts))
    rows, tokens = np.indices(table.shape)
    np.add.at(transition, (rows, (rows * vocab_size + tokens) % contexts), table)
    return transition


def require_distributions(rows: Floats, name: str) -> None:
    if not (np.all(rows >= 0) and np.allclose(rows.sum(axis=-1), 1.0, rtol=0, atol=1e-9)):
        raise ValueError(f"each row of {name} must be a distribution: numbers of at least 0 whose sum is 1")


def check_tokens(tokens: Any, vocab_size: int) -> Ids:
    ids = np.asarray(tokens)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ValueError(f"tokens must be one row of integers, got {ids.dtype} {ids.shape}")
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
        raise ValueError(f"tokens must be in 0 .. {vocab_size - 1}, got {ids.min()} .. {ids.max()}")
    return ids.astype(np.int64)

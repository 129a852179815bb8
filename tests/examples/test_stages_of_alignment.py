"""The inputs that the examples of alignment pass to their steps, stage by stage: texts, winners, masks, the
learning rate, and the state that begins again. The steps themselves are tested in test_rlhf.py."""

import sys

import numpy as np
import pytest
from by_hand import Loop, flags, log_p
from example_runs import module

from tinygen import no_grad, tape
from tinygen.align import Responses, response_mask
from tinygen.align.world import accuracy
from tinygen.data.reviews import END, NUMBER, PROMPT, Reviews, sentiment

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

STOP = NUMBER[END]


class Spy:
    """In the place of `Steps`: the same, but no step is made, and all that is asked for is written down. The
    loss of a step is the number of things asked for by then."""

    def __init__(self, steps):
        self.steps, self.asked = steps, []

    def __getattr__(self, name):
        if name in ("sft", "rank", "dpo", "reinforce", "ppo", "grpo"):
            return lambda *given: self.asked.append((name, self.steps.optimizer.lr, given)) or len(self.asked)
        if name in ("start_anew", "keep_reference", "back_to_reference"):
            return lambda *given: self.asked.append((name, *given)) or getattr(self.steps, name)(*given)
        return getattr(self.steps, name)

    def names(self):
        return [call[0] for call in self.asked]


# -- rlhf_exact ------------------------------------------------------------------------------------


@pytest.fixture
def lab(monkeypatch):
    """The example, and its Lab in a world of 27 responses to each of 3 prompts."""
    example = module("rlhf_exact.py")
    home = sys.modules[example.Lab.__module__]  # shared/rlhf_world.py
    monkeypatch.setattr(home, "VOCAB", 3)
    monkeypatch.setattr(home, "LENGTH", 3)
    given = {
        "seeds": 2,
        "layers": 1,
        "width": 4,
        "batch": 16,
        "sft_steps": 2,
        "reward_steps": 2,
        "rl_steps": 2,
    }
    args = flags(monkeypatch, example, **given, dpo_steps=4, pairs=3000, lr=0.4, beta=0.25, epochs=3)
    return example, args, example.Lab(args)


def test_stages_of_rlhf_exact(lab):
    example, args, lab = lab
    steps = lab.steps
    kept = (steps.batch, steps.beta, steps.group, steps.epochs, steps.task.length, steps.task.end)
    assert kept == (16, 0.25, 8, 3, 3, None)
    prompts = steps.task.prompts(50, np.random.default_rng(0))
    np.testing.assert_array_equal(prompts, np.random.default_rng(0).integers(3, size=(50, 1)))
    assert lab.asked is None
    spy = lab.steps = Spy(steps)
    ask = lab.ask
    lab.ask = lambda seed: (spy.asked.append(("ask", seed)), ask(seed))
    run = Loop(28)
    example.train(args, lab, run, [2, 2, 2, 2, 2, 4])
    method = lambda name: ["back_to_reference", name, name]
    once = ["start_anew", "sft", "sft", "keep_reference", "ask", "rank", "rank"]
    once += [*method("reinforce"), *method("ppo"), *method("grpo"), *method("dpo"), "dpo", "dpo"]
    assert spy.names() == 2 * once
    assert [call[1] for call in spy.asked if call[0] in ("start_anew", "ask")] == [0, 0, 1, 1]
    assert run.stages[:14] == [example.STAGES[k] for k in [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 5]]
    assert run.shown[:2] == [(2, f", {example.STAGES[0]}, seed 0"), (3, f", {example.STAGES[0]}, seed 0")]
    rates = {name: [c[1] for c in spy.asked[: len(once)] if c[0] == name] for name in ("sft", "ppo", "dpo")}
    assert rates == {"sft": [0.4, 0.2], "ppo": [0.4, 0.2], "dpo": pytest.approx([0.4, 0.3, 0.2, 0.1])}
    assert {row["seed"] for row in run.rows} == {0, 1}
    made = [n for n, call in enumerate(spy.asked, 1) if len(call) == 3]
    logged = [(row["step"], row["stage"], row["loss"]) for row in run.rows if "loss" in row]
    stages = 2 * [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 5]
    every = [*zip(range(1, 29), stages, made, strict=True)]
    assert logged == [row for row in every if row[0] not in (13, 27)]  # DPO's third step; see `--eval-every`
    assert all(("kl" in row) == (row["stage"] > 1) for row in run.rows if "loss" in row)
    best = [(row["step"], row["seed"], row["stage"], row["n"]) for row in run.rows if "n" in row]
    judged = [(row["step"], row["seed"], row["stage"]) for row in run.rows if "accuracy" in row]
    assert best == [(4 + 14 * seed, seed, 6, n) for seed in (0, 1) for n in (2, 4, 8, 16, 32, 64)]
    assert judged == [(4, 0, 1), (18, 1, 1)]
    bayes = accuracy(lab.ref_log_probs, lab.world.rewards, lab.world.rewards)
    assert run.column("bayes")[-1] == pytest.approx(bayes)
    for ((texts, mask),) in (call[2] for call in spy.asked if call[0] == "sft"):
        assert texts.shape == (16, 4)
        np.testing.assert_array_equal(mask, [[False, True, True, True]] * 16)
    # After the reward model its scores have mean 0 and variance 1 on responses of the reference.
    assert steps.reward.scale.data != 1
    prompts = np.arange(3).repeat(27)
    texts = np.concatenate([prompts[:, None], np.tile(lab.world.responses, (3, 1))], axis=1)
    p = np.exp(log_p(steps.reference(texts[:, :-1])[0].data, texts[:, 1:]).sum(axis=1)) / 3
    scores = steps.reward(texts).data[:, -1]
    assert (p @ scores, p @ scores**2) == (pytest.approx(0, abs=0.15), pytest.approx(1, abs=0.25))


@pytest.mark.parametrize("name", ["lab", "reviews"])
def test_the_models_are_on_the_device_that_is_asked_for(name, request, monkeypatch):
    _, args, lab = request.getfixturevalue(name)
    monkeypatch.setitem(type(lab).__init__.__globals__, "Steps", lambda *_, **options: options)
    args.device = "there"
    assert type(lab)(args).steps["device"] == "there"


def test_the_frontier_of_rlhf_exact(lab):
    """From the price 100 to 0.01 the best policy is the reference times exp(reward / price)."""
    _, _, lab = lab
    lab.ask(0)
    divergence, reward = lab.frontier
    assert len(divergence) == len(reward) == 120
    for place, price in ((0, 100), (-1, 0.01)):
        best = np.exp(lab.ref_log_probs + (lab.world.rewards - lab.world.rewards.max()) / price)
        best /= best.sum(axis=1, keepdims=True)
        logs = np.log(np.where(best > 0, best, 1))
        assert reward[place] == pytest.approx((best * lab.world.rewards).sum(axis=1).mean())
        wanted = (best * (logs - lab.ref_log_probs)).sum(axis=1).mean()
        assert divergence[place] == pytest.approx(wanted, abs=1e-9)


def test_measurements_of_rlhf_exact_record_nothing(lab, monkeypatch):
    """The scores are normalized on 200 responses to each prompt."""
    example, _, lab = lab
    recorded, asked, draw = [], [], example.world.draw_responses
    monkeypatch.setattr(
        example.world, "draw_responses", lambda p, x, **rng: asked.append(x) or draw(p, x, **rng)
    )
    monkeypatch.setattr(tape, "Node", lambda op, *_: recorded.append(op))
    lab.ask(0)
    lab.judge_reward_model()
    assert not recorded
    np.testing.assert_array_equal(asked[-1], np.repeat([0, 1, 2], 200))


def test_people_of_rlhf_exact(lab):
    """Bradley and Terry's odds: of two responses a point apart the better wins with probability σ(1)."""
    _, args, lab = lab
    lab.ask(0)
    prompt, winner, loser = lab.pairs
    assert len(prompt) == args.pairs
    gap = lab.world.rewards[prompt, winner] - lab.world.rewards[prompt, loser]
    for points in (1, 2):
        better, worse = np.sum(gap == points), np.sum(gap == -points)
        n, p = better + worse, 1 / (1 + np.exp(-points))
        assert abs(better - n * p) < 5 * np.sqrt(n * p * (1 - p))
    texts, mask = lab.sample_pairs()
    assert texts.shape == (16, 4)  # as many winners as losers
    np.testing.assert_array_equal(texts[:8, 0], texts[8:, 0])
    np.testing.assert_array_equal(mask, [[False, True, True, True]] * 16)
    known = {tuple(row) for row in np.stack(lab.pairs, axis=1).tolist()}
    numbers = lab.world.number(texts[:, 1:])
    assert {*zip(texts[:8, 0].tolist(), numbers[:8].tolist(), numbers[8:].tolist(), strict=True)} <= known


def test_what_rlhf_exact_measures(lab):
    """KL(policy ‖ reference), the mean reward, the frontier at this divergence, the share of the gain."""
    _, _, lab = lab
    lab.ask(0)
    p, q = np.random.default_rng(0).dirichlet(np.ones(27), (2, 3))
    lab.ref_log_probs = np.log(q)
    found = lab.measure(np.log(p))
    divergence, reward = (p * np.log(p / q)).sum(axis=1).mean(), (p * lab.world.rewards).sum(axis=1).mean()
    best, start = np.interp(divergence, *lab.frontier), (q * lab.world.rewards).sum(axis=1).mean()
    wanted = {"kl": divergence, "reward": reward, "frontier": best, "gain": (reward - start) / (best - start)}
    assert found == pytest.approx(wanted)


# -- rlhf_sentiment --------------------------------------------------------------------------------


@pytest.fixture
def reviews(monkeypatch):
    """The example, and its Lab with few reviews. It asked for 40,000, and 1000 to judge by."""
    example, sizes = module("rlhf_sentiment.py"), []
    few = lambda self, n, *more: sizes.append(n) or Reviews().write(n // 50 if n >= 1000 else n, *more)
    home = sys.modules[example.Lab.__module__]  # shared/rlhf_reviews.py
    monkeypatch.setattr(home, "Reviews", type("Few", (Reviews,), {"write": few}))
    given = {"width": 4, "batch": 8, "pretraining_steps": 2, "sft_steps": 2, "reward_steps": 2, "rl_steps": 2}
    given |= {
        "dpo_steps": 2,
        "pairs": 200,
        "lr": 0.4,
        "align_lr": 0.2,
        "ptx": 0.3,
        "beta": 0.25,
        "samples": 40,
    }
    args = flags(monkeypatch, example, **given)
    lab = example.Lab(args)
    assert sizes == [40_000, 1000]
    return example, args, lab


def test_stages_of_rlhf_sentiment(tmp_path, reviews):
    example, args, lab = reviews
    steps = lab.steps
    assert (steps.batch, steps.beta, steps.task.length, steps.task.end) == (16, 0.25, 21, STOP)
    assert (steps.group, steps.epochs) == (8, 4)
    assert PROMPT == 3
    sizes = steps.policy.config
    assert (sizes.n_layer, sizes.n_head, sizes.n_embd) == (2, 2, 4)
    one_sentence = [row for row in lab.texts.tolist() if NUMBER["i"] not in row]
    assert lab.short.tolist() == one_sentence
    some = lab.sample_texts(lab.short, 5)
    assert {*map(tuple, some.tokens)} <= {*map(tuple, one_sentence)}
    np.testing.assert_array_equal(some.mask, response_mask(some.tokens, 5, STOP))
    assert some.tokens.shape == (8, 24)
    spy, counted = Spy(steps), []
    lab.steps = spy
    lab.sample_texts = lambda texts, prompt: counted.append((texts, prompt)) or ("texts", prompt)
    ask, looks = lab.ask, []
    lab.ask = lambda: spy.asked.append(("ask", None)) or ask()
    lab.evaluate = lambda: (looks.append(len(spy.asked)) or {}, [])
    run, kept_at = Loop(12, tmp_path), []
    run.model = lambda state, name: kept_at.append((name, len(spy.asked)))
    example.train(args, lab, run, [2] * 6)
    method = lambda name: ["back_to_reference", name, name]
    wanted = ["start_anew", *["sft"] * 4, "keep_reference", "ask", "rank", "rank"]
    assert spy.names() == [*wanted, *method("ppo"), *method("ppo"), *method("dpo")]
    made = [call for call in spy.asked if len(call) == 3]
    assert [call[1] for call in made] == [0.4, 0.2] * 3 + [0.2, 0.1] * 3
    assert [call[2] for call in made[:4]] == [(("texts", 1),)] * 2 + [(("texts", 3),)] * 2
    assert [call[2] for call in made[6:10]] == [(w, ("texts", 1)) for w in (0.0, 0.0, 0.3, 0.3)]
    assert [texts is lab.texts for texts, _ in counted] == [True] * 2 + [False] * 2 + [True] * 4
    assert looks == [7, 11, 12, 14, 15, 17, 18]  # at the SFT model, and at each method's first and last step
    assert steps.reward.scale.data != 1
    losses = [n for n, call in enumerate(spy.asked, 1) if len(call) == 3]
    logged = [(row["step"], row["stage"], row["loss"]) for row in run.rows if "loss" in row]
    assert logged == [*zip(range(1, 13), np.arange(6).repeat(2), losses, strict=True)]
    with no_grad():
        scores = steps.reward.score(Responses.from_tokens(np.concatenate(lab.pairs), 3, STOP)).numpy()
    right = np.mean(scores[:200] > scores[200:])
    measured = [(4, 1), (7, 3), (8, 3), (9, 4), (10, 4), (11, 5), (12, 5)]
    assert [tuple(row.values()) for row in run.rows if list(row) == ["step", "stage"]] == measured
    assert [row for row in run.rows if "accuracy" in row] == [{"step": 6, "stage": 2, "accuracy": right}]
    assert run.stages == [stage for stage in example.STAGES for _ in range(2)]
    assert [note for _, note in run.shown] == [f", {stage}" for stage in run.stages]
    assert run.losses() == losses
    assert kept_at == [(example.STAGES[0], 3)]  # after its two steps
    for ((texts, mask),) in (call[2] for call in made if call[0] in ("rank", "dpo")):
        assert texts.shape == (16, 24)
        np.testing.assert_array_equal(texts[:8, :3], texts[8:, :3])
        pairs = {(a.tobytes(), b.tobytes()) for a, b in zip(*lab.pairs, strict=True)}
        assert {(a.tobytes(), b.tobytes()) for a, b in zip(texts[:8], texts[8:], strict=True)} <= pairs
        assert not mask[:, :3].any()
        assert mask[:, 3].all()
    lab.pairs = lab.pairs[:1] * 2
    assert lab.normalize() == 0  # to find both as good is not to agree


def test_people_of_rlhf_sentiment(monkeypatch, reviews):
    """Praise wins over blame with probability σ(4), blame is worth -2."""
    example, args, lab = reviews
    reward_program = sys.modules[example.Lab.__module__].reward_program
    praise, blame = (lab.texts[np.sign(sentiment(lab.texts)) == sign][0] for sign in (1, -1))
    np.testing.assert_array_equal(reward_program(np.stack([praise, blame])), [2, -2])
    sides = iter([np.tile(praise, (200, 1)), np.tile(blame, (200, 1))])
    films = lab.steps.task.prompts(200, np.random.default_rng(args.seed + 1))

    def write(model, prompts, rng):
        assert model is lab.steps.reference
        np.testing.assert_array_equal(prompts, films)
        return Responses(next(sides), None)

    lab.write = write
    lab.ask()
    won = (lab.pairs[0] == praise).all(axis=1)
    assert abs(won.sum() - 200 / (1 + np.exp(-4))) < 5 * np.sqrt(200 * 0.982 * 0.018)
    np.testing.assert_array_equal((lab.pairs[1] == praise).all(axis=1), ~won)
    assert lab.praise_before == 0.5
    neutral = lab.texts[sentiment(lab.texts) == 0][0]
    sides = iter(2 * [np.tile(neutral, (200, 1))])
    lab.ask()
    assert lab.praise_before == 0


def test_what_is_written_in_rlhf_sentiment_ends(reviews):
    _, _, lab = reviews
    prompts = lab.steps.task.prompts(30, np.random.default_rng(0))
    tokens, mask = lab.write(lab.steps.policy, prompts, np.random.default_rng(0))
    assert (tokens[:, 3:] == STOP).any()
    np.testing.assert_array_equal(tokens[:, :3], prompts)
    np.testing.assert_array_equal(mask, response_mask(tokens, 3, STOP))


def test_measurements_of_rlhf_sentiment_record_nothing(reviews, monkeypatch):
    _, _, lab = reviews
    recorded = []
    monkeypatch.setattr(tape, "Node", lambda op, *_: recorded.append(op))
    lab.ask()
    lab.normalize()
    lab.evaluate()
    assert not recorded


def test_what_rlhf_sentiment_measures(reviews):
    """Praise, divergence and grammar of what the policy writes; perplexity on held-out texts."""
    example, _, lab = reviews
    lab.praise_before = 0.4
    rng = np.random.default_rng(3)
    for p in lab.steps.policy.parameters():
        p.data += rng.standard_normal(p.shape).astype(p.dtype) * 0.2
    tokens = lab.texts[:40].copy()
    tokens[:10, 4] = tokens[:10, 3]  # no review says a word twice
    mask = response_mask(tokens, 3, STOP)
    asked = []
    lab.write = lambda model, prompts, rng: asked.append(prompts) or Responses(tokens, mask)
    found, lines = lab.evaluate()
    prompts = lab.steps.task.prompts(40, np.random.default_rng(1))  # each time the same
    np.testing.assert_array_equal(asked, [prompts])
    ours, theirs = (
        log_p(m(tokens[:, :-1])[0].data, tokens[:, 1:]) for m in (lab.steps.policy, lab.steps.reference)
    )
    assert found["kl"] == pytest.approx(((ours - theirs) * mask[:, 1:]).sum(axis=1).mean(), rel=1e-4)
    assert found["positive"] == np.mean(sentiment(tokens) > 0)
    assert found["cheapest"] == pytest.approx(example.least_kl(found["positive"], 0.4))
    assert found["grammatical"] == 0.75
    held = lab.held_out
    counts = response_mask(held, 1, STOP)[:, 1:]
    each = log_p(lab.steps.policy(held[:, :-1])[0].data, held[:, 1:])
    assert found["perplexity"] == pytest.approx(np.exp(-each[counts].mean()), rel=1e-4)
    assert len(lines) == 4
    grammar = lab.reviews.log_probs(held)[:, 1:][counts]  # the first word is given
    assert lab.floor() == pytest.approx(np.exp(-grammar.mean()))

"""InstructGPT's pipeline, and DPO, on film reviews: a language model learns to praise.

    python examples/alignment/rlhf_sentiment.py  # some 2 minutes on 2 cores
    python examples/alignment/rlhf_sentiment.py --from runs/rlhf_sentiment --beta 1 --out runs/beta1
    python examples/alignment/rlhf_sentiment.py --resume  # goes on after Ctrl-C or a kill, to the same bits

A small GPT learns the language of tinygen/data/reviews.py, whose entropy is known; then it learns to write
reviews of one sentence (SFT). A reward model learns which of two reviews people prefer. PPO, PPO with
pretraining mixed in (PPO-ptx) and DPO start from there. If the SFT model praises with probability p, a policy
that praises with probability q has a divergence of at least KL(q ‖ p) nats, of two Bernoulli distributions.
The rise of the perplexity on texts of pretraining is the alignment tax.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from typing import Any

import numpy as np
from shared.flags import Flags, add_from_flag, add_run_flags, number, size
from shared.folder import load_stage
from shared.rlhf import Steps, Task, is_evaluation_step
from shared.rlhf_plots import draw_tax
from shared.run import Run
from shared.table import Figure, at_least, at_most

from tinygen import no_grad
from tinygen.align import Responses, kl, rollouts, world
from tinygen.data.reviews import END, NUMBER, PROMPT, WORDS, Reviews, sentiment, text
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.storage.files import replace_file

STAGES = ("pretraining", "SFT", "reward model", "PPO", "PPO-ptx", "DPO")
COLUMNS = ("step", "stage", "loss", "positive", "kl", "cheapest", "grammatical", "perplexity", "accuracy")
GOOD = at_least(0.9)
EXPECTED = {"DPO": GOOD, "PPO": GOOD, "PPO-ptx": GOOD, "SFT": at_most(0.6)}  # shares that praise
SIZES = {
    "quick": {"pretraining_steps": 80, "sft_steps": 20, "reward_steps": 20, "rl_steps": 2, "dpo_steps": 30}
    | {"pairs": 500, "samples": 200},
    "full": {},
}
LENGTH, STOP = 24, NUMBER[END]  # words of a text, at most; the last of them


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/rlhf_sentiment", "every 100 steps")
    add_from_flag(parser, "pretraining")
    add("--seed", type=number(int, 0), default=0, help="seed of everything")
    add("--width", type=size(2), default=48, help="channels of the stream; even")
    add("--batch", type=size(8), default=64, help="texts or pairs of a step; twice as many in PPO")
    add("--pretraining-steps", type=number(int, 1), default=800, help="on reviews of any length")
    add("--sft-steps", type=number(int, 1), default=150, help="on reviews of one sentence")
    add("--reward-steps", type=number(int, 1), default=500, help="of the reward model")
    add("--rl-steps", type=number(int, 1), default=150, help="of PPO, with and without pretraining")
    add("--dpo-steps", type=number(int, 1), default=300, help="of DPO")
    add("--pairs", type=size(1, 10_000_000), default=8000, help="number of comparisons")
    add("--beta", type=number(float, 1e-3), default=0.5, help="price of a nat of divergence, in rewards")
    add("--ptx", type=number(float, 0), default=0.2, help="weight of the pretraining loss in PPO-ptx")
    add("--lr", type=number(float, 0), default=2e-3, help="learning rate at the start of each stage")
    add("--align-lr", type=number(float, 0), default=5e-4, help="learning rate of PPO and DPO")
    add("--samples", type=size(4, 1_000_000), default=1000, help="reviews in each evaluation")
    add("--eval-every", type=number(int, 1), default=25, help="steps between evaluations")
    parser.set_defaults(save_every=100)
    args = parser.parse_args()
    if args.width % 2:
        args.error(f"--width {args.width} is odd, and there are 2 attention heads")
    args.pretraining_steps = 0 if args.source else args.pretraining_steps
    return args


def reward_program(texts: Any) -> Any:
    """The reward: 2 for praise, -2 for blame, 0 for neither."""
    return 2.0 * np.sign(sentiment(texts))


def least_kl(q: float, p: float) -> float:
    """KL(q ‖ p) of two Bernoulli distributions, in nats: the least divergence of a policy that praises with
    probability q from one that praises with probability p. Infinite when p is 0 and q is not."""
    return float(sum(a * np.log(a / b) if b > 0 else np.inf for a, b in ((q, p), (1 - q, 1 - p)) if a > 0))


class Lab:
    """The texts, the people, and the measurements."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.reviews, self.asked = args, Reviews(), False
        rng = np.random.default_rng(args.seed)
        self.texts, self.held_out = (self.reviews.write(n, LENGTH, rng) for n in (40_000, 1000))
        self.short = self.texts[(self.texts != NUMBER["i"]).all(axis=1)]  # one sentence
        task = Task(lambda n, rng: self.reviews.write(n, PROMPT, rng), LENGTH - PROMPT, STOP)
        config = GPTConfig(len(WORDS), LENGTH, 2, 2, args.width)
        options = {"batch": 2 * args.batch, "beta": args.beta, "device": args.device}
        self.steps = Steps(config, task, np.random.default_rng(0), **options)

    def sample_texts(self, texts: Any, prompt: int) -> Responses:
        """A batch of texts; the first `prompt` words are prompts."""
        tokens = texts[self.steps.rng.integers(len(texts), size=self.args.batch)]
        return Responses.from_tokens(tokens, prompt, STOP)

    def write(self, model: GPT, prompts: Any, rng: np.random.Generator) -> Responses:
        return rollouts.rollout(model, prompts, LENGTH - PROMPT, end=STOP, rng=rng)

    def ask(self) -> None:
        """Let people compare reviews by the SFT model, two of each film."""
        rng = np.random.default_rng(self.args.seed + 1)
        prompts = self.steps.task.prompts(self.args.pairs, rng)
        a, b = (self.write(self.steps.reference, prompts, rng).tokens for _ in range(2))
        first = (rng.random(len(a)) < world.preference(reward_program(a), reward_program(b)))[:, None]
        self.pairs = np.where(first, a, b), np.where(first, b, a)
        self.praise_before = float(np.mean(sentiment(np.concatenate([a, b])) > 0))
        self.asked = True

    def step(self, stage: str) -> float:
        s = self.steps
        if stage == "pretraining":
            return s.sft(self.sample_texts(self.texts, 1))
        if stage == "SFT":
            return s.sft(self.sample_texts(self.short, PROMPT))
        if stage in ("PPO", "PPO-ptx"):
            return s.ppo(self.args.ptx if stage == "PPO-ptx" else 0.0, self.sample_texts(self.texts, 1))
        some = s.rng.integers(self.args.pairs, size=self.args.batch)
        texts = np.concatenate([x[some] for x in self.pairs])  # the winners, then the losers
        return (s.dpo if stage == "DPO" else s.rank)(Responses.from_tokens(texts, PROMPT, STOP))

    def normalize(self) -> float:
        """Normalize the reward model on the compared reviews; returns how often it agrees with people."""
        texts = np.concatenate(self.pairs)
        with no_grad():
            scores = self.steps.reward.score(Responses.from_tokens(texts, PROMPT, STOP)).numpy()
        self.steps.reward.normalize(scores)
        return float(np.mean(scores[: self.args.pairs] > scores[self.args.pairs :]))

    @no_grad()
    def evaluate(self) -> tuple[dict[str, float], list[str]]:
        """Measurements of the policy's reviews: the share that praises, the divergence, the least divergence
        for this share, the share that is grammatical, the perplexity on held-out texts; and four reviews."""
        s, rng = self.steps, np.random.default_rng(1)
        prompts = s.task.prompts(self.args.samples, rng)
        responses = self.write(s.policy, prompts, rng)
        tokens, action_mask = responses.tokens, responses.action_mask
        log_probs, ref_log_probs = (responses.log_probs(model).numpy() for model in (s.policy, s.reference))
        praise = float(np.mean(sentiment(tokens) > 0))
        counted = rollouts.response_mask(self.held_out, 1, STOP)
        loss = -float(rollouts.token_log_probs(s.policy, self.held_out).numpy()[counted[:, 1:]].mean())
        return {
            "positive": praise,
            "kl": float(np.where(action_mask, kl.k1(log_probs, ref_log_probs), 0).sum(axis=1).mean()),
            "cheapest": least_kl(praise, self.praise_before),
            "grammatical": float(np.isfinite(self.reviews.log_probs(tokens)).all(axis=1).mean()),
            "perplexity": float(np.exp(loss)),
        }, [text(row) for row in tokens[:4]]

    def floor(self) -> float:
        """The perplexity of the grammar itself on the held-out texts."""
        counted = rollouts.response_mask(self.held_out, 1, STOP)
        return float(np.exp(-self.reviews.log_probs(self.held_out)[counted].mean()))


def log_evaluation(lab: Lab, run: Run, step: int, k: int) -> None:
    """Log the measurements of the policy of stage k, and keep some of its reviews."""
    place, lines = lab.evaluate()
    run.log(step=step, stage=k, **place)
    replace_file(run.path / f"{STAGES[k]}.txt", ["".join(f"{line}\n" for line in lines).encode()])


def train(args: argparse.Namespace, lab: Lab, run: Run, lengths: list[int]) -> None:
    """All stages, one after the other."""
    s, ends = lab.steps, np.cumsum(lengths)
    with run:
        for done in run.loop(s.things, STAGES[0]):
            k = int(np.searchsorted(ends, done, side="right"))
            stage, here = STAGES[k], done - int(ends[k]) + lengths[k]
            run.enter(stage)
            if here == 0 and k == 0:
                s.start_anew(args.seed)
            elif here == 0 and k == 1:
                run.model(s.policy.state_dict(), STAGES[0])
            elif here == 0 and k == 2:
                s.keep_reference()
            elif here == 0 and k > 2:
                s.back_to_reference()
            if k > 1 and not lab.asked:
                lab.ask()
            if here == 0 and k == 2:
                log_evaluation(lab, run, done, 1)
            s.optimizer.lr = (args.align_lr if k > 2 else args.lr) * (1 - here / lengths[k])
            loss = lab.step(stage)
            run.show(loss, f", {stage}")
            if is_evaluation_step(here + 1, args.eval_every, lengths[k]):
                run.log(step=done + 1, stage=k, loss=loss)
                if k > 2:
                    log_evaluation(lab, run, done + 1, k)
            if k == 2 and here + 1 == lengths[k]:
                run.log(step=done + 1, stage=k, accuracy=lab.normalize())


def main(args: argparse.Namespace) -> None:
    lab = Lab(args)
    rl = [args.rl_steps] * 2
    lengths = [args.pretraining_steps, args.sft_steps, args.reward_steps, *rl, args.dpo_steps]
    run = Run(args, COLUMNS, steps=sum(lengths))
    if args.source and not args.resume:
        lab.steps.start_anew(args.seed)
        load_stage(STAGES[0], lab.steps.policy, args)
    train(args, lab, run, lengths)
    run.model(lab.steps.policy.state_dict())
    if not lab.asked:  # resumed when all was done
        lab.ask()
    last = {STAGES[int(row["stage"])]: row for row in run.rows if "kl" in row}
    accuracy, floor = next(row["accuracy"] for row in run.rows if "accuracy" in row), lab.floor()
    lines = [f"-- {stage}\n" + (run.path / f"{stage}.txt").read_text("utf-8").rstrip() for stage in last]
    lines.append(f"\nreward model: agrees with {accuracy:.1%} of comparisons")
    figures = []
    for stage in ("DPO", "PPO", "PPO-ptx", "SFT"):
        row, before = last[stage], last["SFT"]["positive"]
        praise = Figure(f"{stage}: share that praises", row["positive"], EXPECTED[stage], 1.0, before)
        figures += [praise, Figure(f"{stage}: KL to SFT, nats a review", row["kl"], None, row["cheapest"])]
        figures.append(Figure(f"{stage}: share that is grammatical", row["grammatical"], None, 1.0))
        figures.append(Figure(f"{stage}: perplexity, held-out texts", row["perplexity"], None, floor))
    rows = [row for row in run.rows if "kl" in row]
    draw_tax(run.path / "tax.png", rows, STAGES, lambda q: least_kl(q, lab.praise_before), floor)
    stages = {stage: dict(row) for stage, row in last.items()}
    run.result(figures, "\n".join(lines), stages=stages, accuracy=accuracy, floor=floor)


if __name__ == "__main__":
    start(parse_args, main)

"""Methods of alignment in a world so small that the best policy is known; each method is compared with it.

    python examples/alignment/rlhf_exact.py  # three seeds; some 8 minutes on 2 cores
    python examples/alignment/rlhf_exact.py --seeds 1
    python examples/alignment/rlhf_exact.py --resume  # goes on after Ctrl-C or a kill, to the same bits

A prompt is one of six tokens, a response is five tokens, so there are 7,776 responses. The reward is +1 for
each token that is equal to the prompt, and -1 for each token that is equal to the token before it (the
prompt is before the first token). A small GPT learns from demonstrations, which often repeat tokens (SFT).
A reward model learns from comparisons of its responses. Then each method improves the GPT (shared/rlhf.py).
The price of a policy's reward is its divergence KL(policy ‖ SFT). The frontier is the highest possible
reward at each divergence; see frontier.png.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from typing import Any

import numpy as np
from shared.flags import Flags, add_run_flags, number, size
from shared.rlhf import Steps, Task, find_stage, is_evaluation_step
from shared.rlhf_plots import draw_frontier, method_figures
from shared.run import Run
from shared.table import at_least

from tinygen import no_grad
from tinygen.align import Responses, best_of_n_log_probs, world
from tinygen.models.language.gpt import GPT, GPTConfig

VOCAB, LENGTH, GROUP = 6, 5, 8
STAGES = ("SFT", "reward model", "REINFORCE", "PPO", "GRPO", "DPO")
METHODS = (*STAGES[2:], "best of n")
EXPECTED = {"PPO": at_least(95), "DPO": at_least(95)}  # per cent of the highest reward at its divergence
SIZES = {
    "quick": {"seeds": 1, "sft_steps": 40, "reward_steps": 20, "rl_steps": 3, "dpo_steps": 40, "pairs": 5000},
    "full": {"seeds": 3},
}
MEASURES = ("kl", "reward", "frontier", "gain")
COLUMNS = ("step", "seed", "stage", "loss", *MEASURES, "n", "accuracy", "bayes")


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/rlhf_exact", "every 100 steps")
    add("--seeds", type=number(int, 1), default=3, help="number of runs, each from the start")
    add("--layers", type=size(1, 1000), default=2, help="Transformer blocks")
    add("--width", type=size(4), default=48, help="channels of the stream, a multiple of 4")
    add("--batch", type=size(GROUP), default=256, help=f"texts a step: groups of {GROUP}, or pairs")
    add("--sft-steps", type=number(int, 1), default=300, help="on demonstrations, new ones each step")
    add("--reward-steps", type=number(int, 1), default=2000, help="of the reward model")
    add("--rl-steps", type=number(int, 1), default=300, help="of REINFORCE, of PPO and of GRPO")
    add("--dpo-steps", type=number(int, 1), default=1200, help="of DPO")
    add("--pairs", type=size(1, 10_000_000), default=40_000, help="number of comparisons")
    add("--beta", type=number(float, 1e-3), default=0.5, help="price of a nat of divergence, in rewards")
    add("--lr", type=number(float, 0), default=2e-3, help="learning rate at the start of each stage")
    add("--epochs", type=number(int, 1), default=4, help="PPO's and GRPO's steps on the same responses")
    add("--eval-every", type=number(int, 1), default=25, help="steps between exact evaluations")
    parser.set_defaults(save_every=100)
    args = parser.parse_args()
    if args.width % 4:
        args.error(f"--width {args.width} is no multiple of 4, the number of attention heads")
    return args


def reward_program(prompt: Any, responses: Any) -> Any:
    """The reward (n,) of responses (n, L): the number of prompt tokens minus the number of repetitions."""
    before = np.concatenate([np.full((len(responses), 1), prompt), responses[:, :-1]], axis=1)
    return (responses == prompt).sum(axis=1) - (responses == before).sum(axis=1)


def demonstrations(n: int, rng: np.random.Generator) -> Any:
    """Texts (n, 1 + LENGTH): each token repeats the one before it with probability 0.4, else it is
    uniform."""
    tokens = rng.integers(VOCAB, size=(n, 1 + LENGTH))
    again = rng.random(tokens.shape) < 0.4
    for t in range(1, 1 + LENGTH):
        tokens[:, t] = np.where(again[:, t], tokens[:, t - 1], tokens[:, t])
    return tokens


class Lab:
    """The world, people who compare responses in it, and exact measurements of policies."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.asked: int | None = None  # the seed with which people were asked
        self.world = world.World(np.arange(VOCAB)[:, None], VOCAB, LENGTH, reward_program)
        task = Task(lambda n, rng: rng.integers(VOCAB, size=(n, 1)), LENGTH)
        config = GPTConfig(VOCAB, 1 + LENGTH, args.layers, 4, args.width)
        options = {"batch": args.batch, "beta": args.beta, "group": GROUP, "epochs": args.epochs}
        self.steps = Steps(config, task, np.random.default_rng(0), device=args.device, **options)

    def ask(self, seed: int) -> None:
        """Let people compare responses of the reference: the numbers of prompts, winners and losers."""
        self.asked, self.ref_log_probs = seed, self.exact_log_probs(self.steps.reference)
        self.pairs = self.world.preferences(self.ref_log_probs, self.args.pairs, rng=seed)
        self.frontier = world.frontier(self.ref_log_probs, self.world.rewards, np.geomspace(100, 0.01, 120))

    def sample_pairs(self) -> Responses:
        """A batch of pairs: first the winners, then the losers."""
        some = self.steps.rng.integers(self.args.pairs, size=self.args.batch // 2)
        prompt, winner, loser = (numbers[some] for numbers in self.pairs)
        texts = self.world.tokens(np.tile(prompt, 2), np.concatenate([winner, loser]))
        return Responses.from_tokens(texts, 1)

    def step(self, stage: str) -> float:
        s = self.steps
        if stage == "SFT":
            return s.sft(Responses.from_tokens(demonstrations(self.args.batch, s.rng), 1))
        if stage in ("reward model", "DPO"):
            return (s.dpo if stage == "DPO" else s.rank)(self.sample_pairs())
        return {"REINFORCE": s.reinforce, "PPO": s.ppo, "GRPO": s.grpo}[stage]()

    @no_grad()
    def exact_log_probs(self, policy: GPT) -> Any:
        """ln π of all responses, in float64."""
        log_probs = self.world.log_probs(policy).numpy().astype(np.float64)
        if np.isnan(log_probs).any():
            raise FloatingPointError("the policy's probabilities are NaN")
        return world.log_normalize(log_probs)

    def measure(self, log_probs: Any) -> dict[str, float]:
        """A policy's divergence and reward, the frontier's reward at this divergence, and the gain in
        reward over the reference as a share of the frontier's gain."""
        divergence, rewards = world.kl(log_probs, self.ref_log_probs), self.world.rewards
        mean, start = (world.expectation(p, rewards) for p in (log_probs, self.ref_log_probs))
        best = np.interp(divergence, *self.frontier)
        return {"kl": divergence, "reward": mean, "frontier": best, "gain": (mean - start) / (best - start)}

    @no_grad()
    def measure_reward_model(self, run: Run, step: int, seed: int) -> None:
        """Log the reward model's accuracy, and best-of-n by its scores; then normalize it."""
        model, rewards = self.steps.reward, self.world.rewards
        numbers = np.arange(rewards.shape[1])
        every = [self.world.tokens(np.full_like(numbers, n), numbers) for n in range(VOCAB)]
        scores = np.stack([model(texts)[:, -1].numpy() for texts in every])
        right, bayes = (world.accuracy(self.ref_log_probs, rewards, x) for x in (scores, rewards))
        run.log(step=step, seed=seed, stage=1, accuracy=right, bayes=bayes)
        for n in (2, 4, 8, 16, 32, 64):
            place = self.measure(best_of_n_log_probs(self.ref_log_probs, scores, n))
            run.log(step=step, seed=seed, stage=len(STAGES), n=n, **place)
        prompts = np.arange(VOCAB).repeat(200)
        drawn = world.draw_responses(self.ref_log_probs, prompts, rng=self.steps.rng)
        model.normalize(scores[prompts, drawn])


def train(args: argparse.Namespace, lab: Lab, run: Run, lengths: list[int]) -> None:
    """All stages, for each seed."""
    with run:
        for done in run.loop(lab.steps.things, STAGES[0]):
            seed, k, here = find_stage(done, lengths)
            stage = STAGES[k]
            run.enter(stage)
            if here == 0 and stage == "SFT":
                lab.steps.start_anew(seed)
            elif here == 0:
                (lab.steps.keep_reference if k == 1 else lab.steps.back_to_reference)()
            if k > 0 and lab.asked != seed:
                lab.ask(seed)
            lab.steps.optimizer.lr = args.lr * (1 - here / lengths[k])
            loss = lab.step(stage)
            run.show(loss, f", {stage}, seed {seed}")
            if is_evaluation_step(here + 1, args.eval_every, lengths[k]):
                place = lab.measure(lab.exact_log_probs(lab.steps.policy)) if k > 1 else {}
                run.log(step=done + 1, seed=seed, stage=k, loss=loss, **place)
            if stage == "reward model" and here + 1 == lengths[k]:
                lab.measure_reward_model(run, done + 1, seed)


def main(args: argparse.Namespace) -> None:
    lab = Lab(args)
    lengths = [args.sft_steps, args.reward_steps, *[args.rl_steps] * 3, args.dpo_steps]
    run = Run(args, COLUMNS, steps=sum(lengths) * args.seeds)
    train(args, lab, run, lengths)
    run.model(lab.steps.policy.state_dict())
    if lab.asked is None:  # resumed when all was done
        lab.ask(args.seeds - 1)
    last = {(row["seed"], row["stage"]): row for row in run.rows if "kl" in row}
    ends = {name: [last[seed, k] for seed in range(args.seeds)] for k, name in enumerate(METHODS, 2)}
    judged = [row for row in run.rows if "accuracy" in row]
    right, bayes = (float(np.mean([row[name] for row in judged])) for name in ("accuracy", "bayes"))
    methods, figures = {}, []
    start_reward = world.expectation(lab.ref_log_probs, lab.world.rewards)  # SFT's, with the last seed
    for name in ("DPO", "PPO", "REINFORCE", "GRPO", "best of n"):
        m = {key: float(np.mean([row[key] for row in ends[name]])) for key in MEASURES}
        methods[name] = m | {"of_frontier": m["reward"] / m["frontier"]}
        figures += method_figures(name, m, start_reward, EXPECTED.get(name))
    draw_frontier(run.path / "frontier.png", run.rows, lab.frontier, ends)
    head = f"reward model: right about {right:.1%} of comparisons; the most that is possible: {bayes:.1%}"
    foot = f"means of {args.seeds} seeds; baseline: the SFT policy"
    run.result(figures, head, foot, methods=methods, accuracy=right, bayes=bayes)


if __name__ == "__main__":
    start(parse_args, main)

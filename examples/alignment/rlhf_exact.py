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

import numpy as np
from shared.flags import Flags, add_run_flags, number, size
from shared.rlhf import find_stage, is_evaluation_step
from shared.rlhf_plots import draw_frontier, method_figures
from shared.rlhf_world import GROUP, Lab, demonstrations
from shared.run import Run
from shared.table import at_least

from tinygen.align import Responses, world

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


def step(lab: Lab, stage: str) -> float:
    """One training step of a stage; returns its loss."""
    s = lab.steps
    if stage == "SFT":
        return s.sft(Responses.from_tokens(demonstrations(lab.args.batch, s.rng), 1))
    if stage in ("reward model", "DPO"):
        return (s.dpo if stage == "DPO" else s.rank)(lab.sample_pairs())
    return {"REINFORCE": s.reinforce, "PPO": s.ppo, "GRPO": s.grpo}[stage]()


def log_reward_model(lab: Lab, run: Run, step: int, seed: int) -> None:
    """Log the reward model's accuracy, and best-of-n by its scores, which is the last "stage"."""
    right, bayes, best_of = lab.judge_reward_model()
    run.log(step=step, seed=seed, stage=1, accuracy=right, bayes=bayes)
    for n, place in best_of.items():
        run.log(step=step, seed=seed, stage=len(STAGES), n=n, **place)


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
            loss = step(lab, stage)
            run.show(loss, f", {stage}, seed {seed}")
            if is_evaluation_step(here + 1, args.eval_every, lengths[k]):
                place = lab.measure(lab.exact_log_probs(lab.steps.policy)) if k > 1 else {}
                run.log(step=done + 1, seed=seed, stage=k, loss=loss, **place)
            if stage == "reward model" and here + 1 == lengths[k]:
                log_reward_model(lab, run, done + 1, seed)


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

"""InstructGPT's pipeline, and DPO, on film reviews: a language model learns to praise.

    python examples/alignment/rlhf_sentiment.py  # some 2 minutes on 2 cores
    python examples/alignment/rlhf_sentiment.py --from runs/rlhf_sentiment --beta 1 --out runs/beta1
    python examples/alignment/rlhf_sentiment.py --resume  # goes on after Ctrl-C or a kill, to the same bits

A small GPT learns the language of tinygen/data/reviews.py, whose entropy is known; then it learns to write
reviews of one sentence (SFT). A reward model learns which of two reviews people prefer. PPO, PPO with an
added pretraining loss (PPO-ptx) and DPO start from these two. If the SFT model praises with probability p,
a policy that praises with probability q has a divergence of at least KL(q ‖ p) nats, the divergence of two
Bernoulli distributions. The rise of the perplexity on pretraining texts is the alignment tax.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse

from shared.flags import FULL, Flags, add_from_flag, add_run_flags, number, size
from shared.folder import load_stage
from shared.rlhf import find_stage, is_evaluation_step
from shared.rlhf_plots import draw_tax
from shared.rlhf_reviews import Lab, least_kl
from shared.run import Run
from shared.table import Figure, at_least, at_most

from tinygen.data.reviews import PROMPT
from tinygen.storage.files import replace_file

STAGES = ("pretraining", "SFT", "reward model", "PPO", "PPO-ptx", "DPO")
COLUMNS = ("step", "stage", "loss", "positive", "kl", "cheapest", "grammatical", "perplexity", "accuracy")
GOOD = at_least(0.9)
EXPECTED = {"DPO": GOOD, "PPO": GOOD, "PPO-ptx": GOOD, "SFT": at_most(0.6)}  # of reviews that praise
SIZES = {
    "quick": {"pretraining_steps": 70, "sft_steps": 20, "reward_steps": 8, "rl_steps": 2, "dpo_steps": 25}
    | {"pairs": 500, "samples": 200, "align_lr": 2e-3},
    "full": FULL,
}


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


def step(lab: Lab, stage: str) -> float:
    """One training step of a stage; returns its loss."""
    s = lab.steps
    if stage == "pretraining":
        return s.sft(lab.sample_texts(lab.texts, 1))
    if stage == "SFT":
        return s.sft(lab.sample_texts(lab.short, PROMPT))
    if stage in ("PPO", "PPO-ptx"):
        return s.ppo(lab.args.ptx if stage == "PPO-ptx" else 0.0, lab.sample_texts(lab.texts, 1))
    return (s.dpo if stage == "DPO" else s.rank)(lab.sample_pairs())


def log_evaluation(lab: Lab, run: Run, step: int, k: int) -> None:
    """Log the measurements of the policy of stage k, and keep some of its reviews."""
    place, lines = lab.evaluate()
    run.log(step=step, stage=k, **place)
    replace_file(run.path / f"{STAGES[k]}.txt", ["".join(f"{line}\n" for line in lines).encode()])


def train(args: argparse.Namespace, lab: Lab, run: Run, lengths: list[int]) -> None:
    """All stages, one after the other."""
    s = lab.steps
    with run:
        for done in run.loop(s.things, STAGES[0]):
            _, k, here = find_stage(done, lengths)
            stage = STAGES[k]
            run.enter(stage)
            if here == 0 and k == 0:
                s.start_anew(args.seed)
            elif here == 0 and k == 1:
                run.model(s.policy.state_dict(), STAGES[0])
            elif here == 0 and k > 2:
                s.back_to_reference()
            elif here == 0:
                s.keep_reference()
            if k > 1 and not lab.asked:
                lab.ask()
            if here == 0 and k == 2:
                log_evaluation(lab, run, done, 1)
            s.optimizer.lr = (args.align_lr if k > 2 else args.lr) * (1 - here / lengths[k])
            loss = step(lab, stage)
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
    if not lab.asked:  # a finished run was resumed
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

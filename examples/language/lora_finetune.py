"""Fine-tune a language model with LoRA and in full, and compare quality and the number of trained weights.

    python examples/language/lora_finetune.py  # some 4 minutes on 2 cores
    python examples/language/lora_finetune.py --from runs/lora_finetune --rank 2 --out runs/rank2
    python examples/language/lora_finetune.py --resume  # goes on after Ctrl-C or a kill, to the same bits

A small GPT learns to write the film reviews of tinygen/data/reviews.py, of which some 40 % praise the film.
Then it is fine-tuned on the reviews that praise. Their entropy is known: their share of all reviews is
P(praise), so p(review | praise) = p(review) / P(praise). No model has a lower loss.

At the end the run's folder has three folders that any program can continue from: base, the pretrained model;
adapters, in peft's format; merged, base with the adapters in its weights. `transformers` reads them too.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from typing import Any

import numpy as np
from shared.flags import FULL, Flags, add_from_flag, add_run_flags, number, size
from shared.folder import load_stage
from shared.run import Run
from shared.table import Figure, at_least, less_than

from tinygen import no_grad
from tinygen.align import Responses, add_lora, lora_state, merge_lora, response_mask, sft_loss
from tinygen.data.reviews import END, NUMBER, WORDS, Reviews, sentiment, text
from tinygen.models.huggingface.peft import save_adapters
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.optim import Adam, clip_grad_norm, warmup_cosine

LENGTH, STOP = 24, NUMBER[END]
STAGES = ("pretraining", "full", "LoRA")
QUICK = {"width": 64, "rank": 2, "pretraining_steps": 80, "steps_each": 25, "samples": 500}
SIZES = {"quick": QUICK, "full": FULL}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/lora_finetune", "every 100 steps")
    add_from_flag(parser, "pretraining")
    add("--seed", type=number(int, 0), default=0, help="of everything")
    add("--width", type=size(2), default=256, help="channels of the stream; even")
    add("--rank", type=size(1), default=9, help="of the adapters")
    add("--alpha", type=number(float, 1e-9), default=16.0, help="the adapters count alpha/rank times")
    add("--batch", type=size(1), default=64, help="reviews of a step")
    add("--pretraining-steps", type=number(int, 1), default=500, help="on all reviews")
    add("--steps-each", type=number(int, 1), default=800, help="of each way to fine-tune")
    add("--lr", type=number(float, 0), default=1e-3, help="highest learning rate of pretraining")
    add("--full-lr", type=number(float, 0), default=5e-4, help="of fine-tuning in full")
    add("--lora-lr", type=number(float, 0), default=3e-3, help="of the adapters")
    add("--samples", type=size(1, 1_000_000), default=4000, help="reviews that each model writes at the end")
    add("--eval-every", type=number(int, 1), default=50, help="steps between evaluations")
    parser.set_defaults(save_every=100)
    args = parser.parse_args()
    if args.width % 2:
        args.error(f"--width {args.width} is odd, and there are 2 attention heads")
    if args.rank > args.width:
        args.error(f"--rank {args.rank} is above --width {args.width}: no matrix has a higher one")
    if args.source:
        args.pretraining_steps = 0
    return args


class Lab:
    """Three models of the same shape, one for each stage, and the texts."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.rng = args, np.random.default_rng(args.seed)
        config = GPTConfig(len(WORDS), LENGTH, 2, 2, args.width)
        self.models = [GPT(config, rng=self.rng) for _ in STAGES]
        add_lora(self.models[2], args.rank, args.alpha, rng=self.rng)
        if args.source and not args.resume:
            load_stage("pretraining", self.models[0], args)
        for model in self.models:
            model.to(args.device)
        self.optimizers = [
            Adam([p for p in m.parameters() if p.requires_grad], betas=(0.9, 0.99)) for m in self.models
        ]
        self.reviews, rng = Reviews(), np.random.default_rng(args.seed + 1)
        everything, held_out = (self.reviews.write(n, LENGTH, rng) for n in (40_000, 2000))
        self.texts = everything, everything[sentiment(everything) > 0]
        self.held_out = held_out[sentiment(held_out) > 0]
        self.share = len(self.texts[1]) / len(everything)

    @property
    def things(self) -> dict[str, Any]:
        names = {f"model{i}": model for i, model in enumerate(self.models)}
        return {**names, **{f"optimizer{i}": x for i, x in enumerate(self.optimizers)}, "rng": self.rng}

    def begin(self, k: int) -> None:
        """Copy the pretrained weights into the models for fine-tuning. The adapters keep their initial
        weights."""
        ours = self.models[k].state_dict()
        places = {name.replace(".base.", "."): name for name in ours}
        base = {places[name]: x for name, x in self.models[0].state_dict().items()}
        self.models[k].load_state_dict({**ours, **base})

    def step(self, k: int, lr: float) -> float:
        texts = self.texts[min(k, 1)]
        tokens = texts[self.rng.integers(len(texts), size=self.args.batch)]
        optimizer = self.optimizers[k]
        optimizer.lr = lr
        optimizer.zero_grad()
        loss = sft_loss(self.models[k], Responses.from_tokens(tokens, 1, STOP))
        loss.backward()
        clip_grad_norm(optimizer.params, 1.0)
        optimizer.step()
        return float(loss.item())

    @no_grad()
    def held_out_loss(self, model: GPT) -> float:
        """The loss in nats a word on held-out reviews that praise."""
        return float(sft_loss(model, Responses.from_tokens(self.held_out, 1, STOP)).item())

    def save(self, folder: Path) -> None:
        """Save the folders `base` and `merged` for `GPT.from_pretrained`, and `adapters` for
        `load_adapters` on top of `base`. After this call the adapters are merged into the weights."""
        pretrained, _, adapted = self.models
        pretrained.save_pretrained(folder / "base")
        save_adapters(adapted, folder / "adapters", base_model=str(folder / "base"))
        merge_lora(adapted)
        adapted.save_pretrained(folder / "merged")

    def floor(self) -> float:
        """The loss in nats a word of the grammar itself, if it knows that the reviews praise."""
        words = response_mask(self.held_out, 1, STOP).sum()
        nats = -self.reviews.log_probs(self.held_out).sum() + len(self.held_out) * np.log(self.share)
        return float(nats / words)

    def praise(self, model: GPT) -> tuple[float, str]:
        """The share of the model's reviews that praise, and one of its reviews."""
        start = np.full((self.args.samples, 1), NUMBER["the"])
        tokens = model.sample(start, LENGTH - 1, rng=np.random.default_rng(2))
        return float(np.mean(sentiment(tokens) > 0)), text(tokens[0])


def train(args: argparse.Namespace, lab: Lab, run: Run, lengths: list[int]) -> None:
    """The loop over the stages."""
    ends, rates = np.cumsum(lengths), (args.lr, args.full_lr, args.lora_lr)
    with run:
        for done in run.loop(lab.things, STAGES[0]):
            k = int(np.searchsorted(ends, done, side="right"))
            here = done - int(ends[k]) + lengths[k]
            run.enter(STAGES[k])
            if here == 0 and k > 0:
                if k == 1:
                    run.model(lab.models[0].state_dict(), STAGES[0])
                lab.begin(k)
                run.log(step=0, **{STAGES[k]: lab.held_out_loss(lab.models[k])})
            loss = lab.step(k, warmup_cosine(here, rates[k], 0.1 * rates[k], lengths[k] // 20, lengths[k]))
            run.show(loss, f", {STAGES[k]}")
            if k > 0 and ((here + 1) % args.eval_every == 0 or here + 1 == lengths[k]):
                run.log(step=here + 1, **{STAGES[k]: lab.held_out_loss(lab.models[k])})


def main(args: argparse.Namespace) -> None:
    lab = Lab(args)
    lengths = [args.pretraining_steps, args.steps_each, args.steps_each]
    run = Run(args, ["step", *STAGES[1:]], steps=sum(lengths))
    train(args, lab, run, lengths)
    run.model(lab.models[1].state_dict())
    lab.save(run.path)  # the figures below are of the merged model

    adapters = lora_state(lab.models[2])
    floor, whole = lab.floor(), lab.models[0].num_parameters()
    counts = {"pretraining": whole, "full": whole, "LoRA": sum(x.size for x in adapters.values())}
    rows, figures, reviews = {}, [], []
    for stage, model in zip(STAGES, lab.models, strict=True):
        praise, review = lab.praise(model)
        loss, part = lab.held_out_loss(model), counts[stage] / whole
        rows[stage] = {"loss": loss, "praise": praise, "trained": counts[stage], "part": part}
        reviews.append(f"{stage:11}  {review}")
        before = rows[STAGES[0]]
        better = None if stage == STAGES[0] else less_than(before["loss"])
        as_good = at_least(rows["full"]["praise"] - 0.02) if stage == "LoRA" else None
        figures += [
            Figure(f"{stage}: loss, nats a word", loss, better, floor, before["loss"]),
            Figure(f"{stage}: share of reviews that praise", praise, as_good, 1.0, before["praise"]),
            Figure(f"{stage}: share of the parameters that are trained", part),
        ]
    curves = {"full": f"in full, {whole:,} parameters", "LoRA": f"LoRA, {counts['LoRA']:,}"}
    title = f"Fine-tuning: LoRA trains {rows['LoRA']['part']:.1%} of the parameters"
    run.curve(curves, {"grammar": floor}, title, "loss on held-out reviews that praise")
    head = [f"the loss is of held-out reviews that praise; the grammar's is {floor:.4f}", *reviews]
    run.result(figures, "\n".join(head), stages=rows, floor=floor)


if __name__ == "__main__":
    start(parse_args, main)

"""T5, BART and mask-predict repair damaged texts, then do five tasks that are given in words.

    python examples/language/tasks_in_words.py           # some minutes on 2 cores
    python examples/language/tasks_in_words.py --resume  # goes on after Ctrl-C, or a kill

The texts are short reports in English and German from a grammar (`tinygen/data/reports.py`). In pretraining
the models repair them: T5 fills holes (Raffel et al. 2020), BART writes the whole text again (Lewis et al.
2020), and so does a masked language model, which writes all words at once (Ghazvininejad et al. 2019). Then
each model is fine-tuned on all tasks and on repairs together, beside the same model from nothing, which has
the same questions, but no repairs. The questions are about 18 of the 24 names; the tests are about the other
six, which only repairs have.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
import copy
from typing import Any

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, number, size
from shared.repairs import (
    FAMILIES,
    KNOWN,
    UNKNOWN,
    build,
    damage,
    pretraining_texts,
    question_pairs,
    questions,
    shares_right,
    without_tuning,
)
from shared.run import Run
from shared.table import Figure, at_least

from tinygen import ops
from tinygen.data.reports import TASKS, TOPICS
from tinygen.optim import Adam, clip_grad_norm, warmup_cosine

GUESS = {"praise or blame": 0.5, "which topic": 1 / len(TOPICS)}
PASSES = (1, 2, 4, 10)
RATES = {"T5": 2.0, "BART": 1.0, "mask-predict": 1.0}
"""Times the learning rate: T5's embeddings begin with the standard deviation 1, eight times as wide."""

SIZES = {
    "quick": {
        "families": ["BART"],
        "width": 32,
        "layers": 1,
        "batch": 16,
        "pretraining_steps": 60,
        "steps_each": 220,
        "tuning_lr": 5e-3,
        "tests": 50,
    },
    "full": FULL,
}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/tasks_in_words", "every 500 steps")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the reports and the batches")
    add("--families", nargs="+", choices=FAMILIES, default=[*FAMILIES], help="of models")
    add("--layers", type=size(1, 100), default=2, help="layers of the encoder, and of the decoder")
    add("--width", type=size(4), default=64, help="channels; a multiple of the 4 attention heads")
    add("--batch", type=size(1), default=32, help="texts per step")
    add("--pretraining-steps", type=number(int, 2), default=1100, help="steps of pretraining")
    add("--steps-each", type=number(int, 2), default=400, help="steps of fine-tuning")
    add("--lr", type=number(float, 0), default=3e-3, help="highest learning rate of pretraining")
    add("--tuning-lr", type=number(float, 0), default=1.5e-3, help="highest learning rate of fine-tuning")
    add("--questions", type=size(5), default=1000, help="questions with answers, of all tasks together")
    add("--tests", type=size(10, 100_000), default=500, help="questions of each task for the test")
    args = parser.parse_args()
    if args.width % 4:
        args.error(f"--width {args.width} is no multiple of the 4 attention heads")
    args.save_every = args.save_every or 500
    args.steps = args.pretraining_steps + args.steps_each
    return args


class Lab:
    """Of each family three models: one to pretrain, one to fine-tune from it, and one to train from nothing;
    they begin with the same weights."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.rng = args, np.random.default_rng(args.seed + 1)
        self.pretrained = {
            family: build(family, args.layers, args.width, rng=args.seed).to(args.device)
            for family in args.families
        }
        self.tuned = copy.deepcopy(self.pretrained)
        self.nothing = copy.deepcopy(self.pretrained)
        self.models = {
            **self.pretrained,
            **{f"{family}, pretrained": model for family, model in self.tuned.items()},
            **{f"{family}, from nothing": model for family, model in self.nothing.items()},
        }
        self.optimizers = {
            name: Adam(model.parameters(), betas=(0.9, 0.98)) for name, model in self.models.items()
        }
        self.asked = questions(args.questions, KNOWN, rng=np.random.default_rng(args.seed + 2))

    @property
    def things(self) -> dict[str, Any]:
        optimizers = {f"{name}: optimizer": x for name, x in self.optimizers.items()}
        return {**self.models, **optimizers, "batches": self.rng}

    def descend(self, name: str, rate: float, *batches: tuple[Any, Any]) -> float:
        """A step of one model on the sum of the losses of batches of sources and targets. Returns the sum."""
        optimizer = self.optimizers[name]
        optimizer.lr = rate * RATES[name.partition(",")[0]]
        loss = ops.stack([self.models[name].loss(*batch) for batch in batches]).sum()
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(optimizer.params, 1.0)
        optimizer.step()
        return float(loss.item())

    def texts(self) -> list[Any]:
        return pretraining_texts(self.args.batch, rng=self.rng)

    def pretrain(self, step: int) -> dict[str, float]:
        """A step of each family on new texts, the same for all."""
        args, n, texts = self.args, self.args.pretraining_steps, self.texts()
        rate = warmup_cosine(step, args.lr, 0.0, min(100, n // 4), n)
        return {
            family: self.descend(family, rate, damage(family, texts, rng=self.rng))
            for family in self.pretrained
        }

    def tune(self, step: int) -> dict[str, float]:
        """A step of the other six models, on the same questions. What was pretrained goes on with repairs,
        too: else it forgets the names that no answer has."""
        args, n = self.args, self.args.steps_each
        if step == 0:
            for family, model in self.tuned.items():
                model.load_state_dict(self.pretrained[family].state_dict())
        rows = self.rng.integers(len(self.asked), size=args.batch)
        asked, texts = question_pairs([self.asked[row] for row in rows]), self.texts()
        rate = warmup_cosine(step, args.tuning_lr, 0.0, min(50, n // 4), n)
        losses = {}
        for family in self.pretrained:
            repairs = damage(family, texts, rng=self.rng)
            for name, batches in (("pretrained", (asked, repairs)), ("from nothing", (asked,))):
                losses[f"{family}, {name}"] = self.descend(f"{family}, {name}", rate, *batches)
        return losses


def train(lab: Lab, run: Run) -> None:
    """The loop."""
    first = lab.args.pretraining_steps
    with run:
        for step in run.loop(lab.things, "pretraining"):
            if step >= first:
                run.enter("fine-tuning")
            losses = lab.pretrain(step) if step < first else lab.tune(step - first)
            run.log(step=step, **losses)
            run.show(max(losses.values()))


def main(args: argparse.Namespace) -> None:
    lab = Lab(args)
    run = Run(args, ["step", *lab.models])
    train(lab, run)
    run.model({f"{name}.{k}": x for name, each in lab.models.items() for k, x in each.state_dict().items()})
    repairs = {name: name for name in lab.pretrained}
    run.curve(repairs, {}, "Pretraining: a repaired text", "loss (nats a word)")

    rng = np.random.default_rng(args.seed + 3)
    tests, rows = questions(args.tests * len(TASKS), UNKNOWN, rng=rng), list[Figure]()
    for kind, models in (("pretrained", lab.tuned), ("from nothing", lab.nothing)):
        for family, model in models.items():
            expected = at_least(0.95) if models is lab.tuned else None
            for task, share in shares_right(model, tests).items():
                name = f"{family}, {kind}: {task}"
                rows.append(Figure(name, share, expected, 1.0, GUESS.get(task, 0.0)))
    longer = [(task, report) for task, report in tests if task in ("translate", "write")]
    for passes in PASSES if "mask-predict" in lab.tuned else ():
        for task, share in shares_right(lab.tuned["mask-predict"], longer, passes).items():
            rows.append(Figure(f"mask-predict, {passes} passes: {task}", share, None, 1.0, 0.0))
    rows += without_tuning(lab.pretrained, args.tests, rng)
    run.result(rows, tests=args.tests, questions=args.questions)


if __name__ == "__main__":
    start(parse_args, main)

"""Exercises on training: optimizers, the norm of the gradient, learning rates, averages of weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen import nn, optim
from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Mistake, Values
from tinygen.tensor import Tensor


def group(**changed: Any) -> dict[str, Any]:
    """The settings of Adam; its eps is large, so that its place matters."""
    return {"lr": 0.1, "betas": (0.9, 0.99), "eps": 0.1, "weight_decay": 0.0, **changed}


SGD = Exercise(
    "sgd",
    "tinygen.optim.sgd:SGD.update",
    "momentum, and Nesterov's",
    hints=(
        "The step is not along the gradient, but along a sum of all gradients so far, of which old "
        "ones count less.",
        "m ← momentum · m + g, in place (m[...] = ), and the step is along m. Nesterov's is along g + "
        "momentum · m.",
        "g + decay * p first, if there is weight decay; then m; then p -= lr * (g + momentum * m if "
        "nesterov else m).",
    ),
    given=lambda: {
        "sgd": optim.SGD([Tensor(numbers(3), requires_grad=True)], lr=0.1),
        "p": numbers(3),
        "g": numbers(3, seed=1),
        "state": {"m": np.zeros(3)},
        "plain": {"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
        "heavy": {"lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
        "nesterov": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0},
        "decay": {"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.5},
    },
    checks=(
        Values("update(sgd, p, g, {}, plain); p"),
        Values("update(sgd, p, g, {}, decay); p"),
        Values("update(sgd, p, g, state, heavy); update(sgd, p, g, state, heavy); state['m']"),
        Values("update(sgd, p, g, state, heavy); update(sgd, p, g, state, heavy); p"),
        Values("update(sgd, p, g, state, nesterov); update(sgd, p, g, state, nesterov); p"),
    ),
    mistakes=(
        Mistake(
            "momentum * m + g",
            "momentum * m + (1 - momentum) * g",
            "it is 0.19 g, expected 1.9 g",
            "m is a mean of the gradients (as in Adam), not a sum",
        ),
        Mistake(
            "m[...] = momentum",
            "m = momentum",
            "it is , expected 1.9 g",
            "m is a new array: the state is not changed, and the momentum is forgotten",
        ),
        Mistake(
            "g + momentum * m if",
            "momentum * m if",
            "it is 1 p - 0.261 g, expected 1 p - 0.461 g",
            "Nesterov's step lacks the gradient itself",
        ),
    ),
)

ADAM = Exercise(
    "adam",
    "tinygen.optim.adam:Adam.update",
    "Adam, its bias correction, and AdamW's decay",
    hints=(
        "m and v are running means of g and g², which start at 0: so at first they are too small. By "
        "which factor, if all gradients were equal?",
        "m_hat = m / (1 - beta1^t), v_hat = v / (1 - beta2^t), with t = 1 at the first step; p -= lr · "
        "m_hat / (sqrt(v_hat) + eps). Change p, m and v in place.",
        "`self.decoupled` is AdamW: p *= 1 - lr * decay, and the gradient stays as it is. Otherwise g "
        "= g + decay * p, before m and v.",
    ),
    given=lambda: {
        "adam": optim.Adam([Tensor(numbers(3), requires_grad=True)]),
        "adamw": optim.AdamW([Tensor(numbers(3), requires_grad=True)]),
        "p": numbers(3),
        "g": numbers(3, seed=1),
        "h": numbers(3, seed=2),
        "state": {"step": 0, "m": np.zeros(3), "v": np.zeros(3)},
        "group": group(),
        "decay": group(weight_decay=0.5),
    },
    checks=(
        Values("update(adam, p, g, state, group); p"),
        Values("update(adam, p, g, state, group); update(adam, p, h, state, group); p"),
        Values("update(adam, p, g, state, group); update(adam, p, h, state, group); state"),
        Values("update(adam, p, g, state, decay); p"),
        Values("update(adamw, p, g, state, decay); p"),
    ),
    mistakes=(
        Mistake(
            "m_hat = m / (1 - beta1**t)",
            "m_hat = m",
            "",
            "the mean of the gradients is not corrected for its start at 0",
        ),
        Mistake(
            "np.sqrt(v_hat) + eps",
            "np.sqrt(v_hat + eps)",
            "",
            "eps is under the root instead of beside it",
        ),
        Mistake(
            "p *= 1 - lr * decay",
            "g = g + decay * p",
            "",
            "AdamW's decay goes through the gradient, where Adam rescales it",
        ),
    ),
)


def parameters(*gradients: Any) -> list[Tensor]:
    """Parameters with these gradients."""
    made = []
    for g in gradients:
        p = Tensor(np.zeros_like(g), requires_grad=True)
        p.grad = g.copy()
        made.append(p)
    return made


CLIP = Exercise(
    "clip",
    "tinygen.optim.clip:clip_grad_norm",
    "scale all gradients by their joint norm",
    hints=(
        "The direction of the step must not change. So all gradients get the same factor.",
        "norm = the root of the sum of all squares (`joint_norm`); scale = max_norm / (norm + 1e-6), "
        "used only if it is below 1. Return the norm from before.",
        "for p in params: p.grad *= scale, in place. If the norm is not finite, change nothing.",
    ),
    given=lambda: {
        "params": parameters(numbers(2, 2), numbers(3)),
        "bad": parameters(np.array([np.inf, 1.0]), numbers(2)),
    },
    checks=(
        Values("clip_grad_norm(params, 0.5)", within=1e-5),
        Values("clip_grad_norm(params, 0.5); [p.grad for p in params]", within=1e-5),
        Values("clip_grad_norm(params, 100.0); [p.grad for p in params]", within=1e-5),
        Values("clip_grad_norm(params, 3.0); [p.grad for p in params]", within=1e-5),
        Values("clip_grad_norm(bad, 1.0); [p.grad for p in bad]"),
    ),
    mistakes=(
        Mistake(
            "    return norm",
            "    return min(norm, max_norm)",
            "",
            "the norm after clipping is returned, not the one before",
        ),
        Mistake(
            "and scale < 1",
            "",
            "every entry has the factor 43.4794",
            "small gradients are scaled up to the norm",
        ),
        Mistake(
            "            g *= scale",
            "            g *= min(max_norm / (joint_norm([g]) + 1e-6), 1)",
            "every entry has the factor 1.07664",
            "each gradient is clipped by its own norm, which changes the direction of the step",
        ),
    ),
)

COSINE = Exercise(
    "cosine",
    "tinygen.optim.schedule:warmup_cosine",
    "warmup, then half a cosine",
    hints=(
        "Three pieces: a straight line up, half a cosine down, a constant.",
        "While step < warmup: lr (step + 1)/(warmup + 1). Then progress = (step - warmup)/(decay_steps "
        "- warmup), at most 1.",
        "min_lr + (1 + cos(π · progress))/2 · (lr - min_lr).",
    ),
    given=dict,
    checks=(
        Values("np.array([warmup_cosine(step, 0.5, 0.1, 4, 12) for step in range(4)])"),
        Values("np.array([warmup_cosine(step, 0.5, 0.1, 4, 12) for step in range(4, 13)])"),
        Values("np.array([warmup_cosine(step, 0.5, 0.1, 4, 12) for step in range(13, 16)])"),
    ),
    mistakes=(
        Mistake(
            "(step + 1) / (warmup + 1)",
            "step / warmup",
            "",
            "the first step has the learning rate 0",
        ),
        Mistake(
            "* (lr - min_lr)",
            "* lr",
            "",
            "the cosine falls by lr instead of lr - min_lr: it does not begin at lr",
        ),
        Mistake(
            "(step - warmup) / (decay_steps - warmup)",
            "step / decay_steps",
            "",
            "progress is counted from step 0, so that the cosine does not begin at its top",
        ),
    ),
)

NOAM = Exercise(
    "noam",
    "tinygen.optim.schedule:noam",
    "the learning rate of the first Transformer",
    hints=(
        "Two curves: one grows with the step, one falls with its root. The learning rate is the lower one.",
        "lr = channels^-0.5 · min(n^-0.5, n · warmup^-1.5), with n = 1 at the first step.",
        "n = step + 1; return channels**-0.5 * min(n**-0.5, n * warmup**-1.5).",
    ),
    given=dict,
    checks=(Values("np.array([noam(step, 64, 4) for step in range(8)])"), Values("noam(0, 256, 1)")),
    mistakes=(
        Mistake(
            "n = step + 1",
            "n = max(step, 1)",
            "",
            "steps are counted from 0, the paper counts from 1",
        ),
        Mistake("min(", "max(", "", "the higher of the two curves is taken"),
        Mistake(
            "warmup**-1.5",
            "warmup**-0.5",
            "",
            "the slope of the warmup is warmup^-0.5 instead of warmup^-1.5: the two curves do not meet "
            "at its end",
        ),
    ),
)


def averages(decay: float, warmup: bool) -> optim.EMA:
    """The average of a model whose weights have moved since."""
    model = nn.Linear(2, 2, rng=0).astype(np.float64)
    ema = optim.EMA(model, decay, warmup)
    for p in model.parameters():
        p.data = p.data + 1.0
    return ema


EMA = Exercise(
    "ema",
    "tinygen.optim.ema:EMA.update",
    "the moving average of the weights",
    hints=(
        "The average moves a small part of the way to the present weights.",
        "average ← d · average + (1 - d) · p. `self.average` has the arrays and `self.params` the "
        "parameters, by name; `self.updates` counts.",
        "With warmup, d = min(decay, (1 + n)/(10 + n)) at the n-th update, n = 1, 2, ...; else d = decay.",
    ),
    given=lambda: {"ema": averages(0.9, False), "warm": averages(0.9, True), "low": averages(0.15, True)},
    checks=(
        Values("update(ema); ema.average"),
        Values("update(ema); update(ema); ema.average"),
        Values("update(warm); update(warm); warm.average"),
        Values("update(low); low.average"),
        Values("update(ema); update(ema); ema.updates"),
    ),
    mistakes=(
        Mistake(
            "average += (1 - d) *",
            "average += d *",
            "every entry is too large by 0.8",
            "the old average and the new weights have each other's part",
        ),
        Mistake(
            "(1 + n) / (10 + n)",
            "n / (10 + n)",
            "every entry is too large by 0.030303",
            "the warmup is n/(10 + n) instead of (1 + n)/(10 + n)",
        ),
        Mistake(
            "min(self.decay, (1 + n) / (10 + n)) if",
            "(1 + n) / (10 + n) if",
            "every entry is too small by 0.0318182",
            "the warmup has no bound: d passes decay",
        ),
    ),
)

CHAPTER = Chapter("Training", (SGD, ADAM, CLIP, COSINE, NOAM, EMA))

"""Ablations of optimizers, and of what goes with them."""

from __future__ import annotations

from ablations.ablation import Ablation, Change

ADAM = "tinygen/optim/adam.py"

OPTIMIZERS = (
    Ablation(
        name="no_zero_grad",
        chapter="optimizers",
        title="Gradients that are never forgotten",
        change=Change("tinygen/optim/optimizer.py", "            p.grad = None\n", "            pass\n"),
        experiment="engine.offset",
        worse="higher",
        why="backward() adds to .grad, so that several losses can share it. Without zero_grad() each step "
        "follows the sum of all gradients so far. That is momentum without friction: the weights roll "
        "through the minimum and up on the other side, and never come to rest.",
        test="tests/optim/test_optim.py::test_zero_grad_forgets_all_gradients",
    ),
    Ablation(
        name="no_bias_correction",
        chapter="optimizers",
        title="Adam without bias correction",
        change=Change(
            ADAM,
            "        m_hat = m / (1 - beta1**t)\n        v_hat = v / (1 - beta2**t)\n",
            "        m_hat = m\n        v_hat = v\n",
        ),
        experiment="language.plain_adam",
        worse="higher",
        why="The running means m and v start at 0. v remembers 1000 steps, m only 10; so at first v is much "
        "too small while m is almost right, and the first steps are up to 6.6 times too long. They "
        "carry the weights to a place from which learning takes longer.",
        test="tests/optim/test_fused.py::test_the_definition_by_hand",
    ),
    Ablation(
        name="l2_for_adamw",
        chapter="optimizers",
        title="Weight decay inside the gradient, where AdamW has it outside",
        change=Change(ADAM, "    decoupled = True\n", "    decoupled = False\n"),
        experiment="engine.absent_words",
        worse="lower",
        why="Adam divides each gradient by its own size. So if the decay is a part of the gradient, its "
        "strength is divided away: a weight with no other gradient moves toward 0 by the whole learning "
        "rate at each step, however small the decay is. AdamW multiplies by 1 - lr · decay, outside of "
        "that division.",
        test="tests/optim/test_optim.py::test_adamw_decay_is_a_factor_whatever_the_gradient",
    ),
    Ablation(
        name="no_clipping",
        chapter="optimizers",
        title="No gradient clipping",
        change=Change(
            "tinygen/optim/clip.py", "    if math.isfinite(norm) and scale < 1:\n", "    if False:\n"
        ),
        experiment="engine.long_memory",
        worse="higher",
        why="Through ten steps of a recurrent network the gradient is multiplied ten times by almost the "
        "same matrix, and may grow beyond all bounds. One such gradient throws the weights far away. A "
        "clipped gradient keeps its direction, and the step stays small.",
        test="tests/optim/test_optim.py::test_clipping_scales_all_gradients_by_the_same_factor",
    ),
    Ablation(
        name="no_warmup",
        chapter="optimizers",
        title="No warmup of the learning rate",
        change=Change("tinygen/optim/schedule.py", "    if step < warmup:\n", "    if False:\n"),
        experiment="language.deep_gpt",
        worse="higher",
        why="At the start Adam knows the size of the gradients from a few steps only, and moves every "
        "weight by about the whole learning rate. A deep network that is still random cannot bear that: "
        "it forgets its initialization. With a slow start the same rate is good.",
        test="tests/optim/test_optim.py::test_warmup_cosine_at_its_corners",
    ),
    Ablation(
        name="no_ema",
        chapter="optimizers",
        title="The last weights, where EMA keeps an average",
        change=Change(
            "tinygen/optim/ema.py",
            "            average += (1 - d) * (p - average)",
            "            average += p - average",
        ),
        experiment="diffusion.ring_denoiser",
        worse="higher",
        why="At a constant learning rate the weights do not settle: they wander around the minimum, pushed "
        "by the noise of each batch. Their average over some hundred steps is nearer to it than each of "
        "them.",
        test="tests/optim/test_optim.py::test_ema_without_warmup_is_a_geometric_sum",
    ),
)

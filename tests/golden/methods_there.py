"""The references of samplers, diffusers' schedulers; and of optimizers, torch's."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from golden import models
from golden.models_there import noise
from golden.reference import REFERENCES, Weights, reference

BETAS = {
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "sqrt_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}
PREDICTS = ("epsilon", "sample", "v_prediction")
MULTISTEP = {
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "solver_type": "midpoint",
    "timestep_spacing": "trailing",
    "final_sigmas_type": "zero",
}


def scheduler(kind: str, schedule: str, **options: Any) -> Any:
    """diffusers' scheduler, its coefficients made again in float64: it keeps them in float32."""
    import diffusers

    made = getattr(diffusers, kind)(num_train_timesteps=1000, **BETAS[schedule], **options)
    made.betas = torch.tensor(models.SCHEDULES[schedule].beta[1:])
    made.alphas = 1 - made.betas
    made.alphas_cumprod = torch.cumprod(made.alphas, dim=0)
    return made


def schedule_of(w: Weights, kind: str) -> Any:
    import diffusers

    made = diffusers.DDPMScheduler(num_train_timesteps=1000, **BETAS[kind])
    return made.betas[[0, 1, 500, 998, 999]], made.alphas_cumprod[[0, 1, 500, 998]]


def ancestral(w: Weights, kind: str, variance: str, clip: float | None) -> Any:
    from diffusers.schedulers import scheduling_ddpm

    said = [models.SAID, models.FRACTION] if variance == "learned" else [models.SAID]
    x, said = torch.tensor(models.X), torch.tensor(np.concatenate(said, axis=1))
    called_there = "learned_range" if variance == "learned" else f"fixed_{variance}"
    scheduling_ddpm.randn_tensor = lambda *_, **__: noise(*x.shape)
    options = {"variance_type": called_there, "clip_sample": clip is not None}
    for predicts in PREDICTS:
        made = scheduler("DDPMScheduler", kind, prediction_type=predicts, **options)
        yield from (made.step(said, t, x).prev_sample for t in (0, 1, 500))


def implicit(w: Weights, eta: float, clip: float | None) -> Any:
    x, said = torch.tensor(models.X), torch.tensor(models.SAID)
    options = {"clip_sample": clip is not None, "timestep_spacing": "trailing"}
    more = {"use_clipped_model_output": True, "variance_noise": noise(*x.shape)}
    for predicts in PREDICTS:
        made = scheduler("DDIMScheduler", "linear", prediction_type=predicts, **options)
        made.set_timesteps(50)
        steps = made.timesteps.flip(0)
        yield from (made.step(said, int(steps[i]), x, eta, **more).prev_sample for i in (0, 1, 25))


def multistep(w: Weights, kept: tuple[int, ...] = (0, 1, 5, 9), **options: Any) -> Any:
    """Coefficients and states in float64: the scheduler keeps them in float32."""
    from diffusers.schedulers import scheduling_dpmsolver_multistep as there

    there.torch = SimpleNamespace(**{**vars(torch), "float32": torch.float64})
    made = scheduler("DPMSolverMultistepScheduler", "linear", **MULTISTEP | options)
    made.set_timesteps(10)
    alpha_bar = made.alphas_cumprod[made.timesteps]
    made.sigmas = torch.cat([((1 - alpha_bar) / alpha_bar) ** 0.5, torch.zeros(1)])
    states, said = [torch.tensor(models.X)], torch.tensor(models.SAID)
    for t in made.timesteps:
        states.append(made.step(0.3 * states[-1] + said, t, states[-1]).prev_sample)
    return [states[1 + i] for i in kept]


def pseudo_linear(w: Weights, predicts: str) -> Any:
    options = {"timestep_spacing": "trailing", "skip_prk_steps": True, "set_alpha_to_one": True}
    made = scheduler("PNDMScheduler", "linear", prediction_type=predicts, **options)
    made.set_timesteps(10)
    states, said = [torch.tensor(models.X)], torch.tensor(models.SAID)
    for t in made.timesteps:
        states.append(made.step(0.3 * states[-1] + said, t, states[-1]).prev_sample)
    return [states[1 + i] for i in (0, 1, 2, 3, 4, 10)]


def in_sigma(w: Weights, eta: float) -> Any:
    """Euler's method at Karras et al.'s levels; with new noise by the other scheduler, at the same ones."""
    from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral_there
    from diffusers.schedulers import scheduling_euler_discrete as there

    for module in (there, ancestral_there):
        module.torch = SimpleNamespace(**{**vars(torch), "float32": torch.float64})
        module.np = SimpleNamespace(**{**vars(np), "float32": np.float64})
    ancestral_there.randn_tensor = lambda shape, **given: noise(*shape)
    levels = scheduler("EulerDiscreteScheduler", "linear", use_karras_sigmas=True)
    levels.set_timesteps(5)
    made = scheduler("EulerAncestralDiscreteScheduler", "linear") if eta else levels
    made.set_timesteps(5)
    made.sigmas, said = levels.sigmas, torch.tensor(models.SAID)
    states = [torch.tensor(models.X) * (made.sigmas[0] ** 2 + 1) ** 0.5]
    for t in made.timesteps:
        seen = made.scale_model_input(states[-1], t)
        states.append(made.step(0.3 * seen + said, t, states[-1]).prev_sample)
    return [states[1 + i] for i in (0, 2, 4)]


def zero_terminal(w: Weights, kind: str) -> Any:
    from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

    betas = rescale_zero_terminal_snr(torch.tensor(models.SCHEDULES[kind].beta[1:]))
    return betas[[0, 1, 500, 998, 999]]


def rescaled(w: Weights, phi: float) -> Any:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    with_, without = torch.tensor(models.X), torch.tensor(models.SAID)
    return rescale_noise_cfg(without + 7.5 * (with_ - without), with_, phi)


for name in models.SAMPLERS:
    what, *given = name.split("-")
    number = lambda word: None if word == "None" else float(word)
    if what == "schedule":
        REFERENCES[name] = partial(schedule_of, kind=given[0])
    elif what == "ancestral":
        REFERENCES[name] = partial(ancestral, kind=given[0], variance=given[1], clip=number(given[2]))
    elif what == "dpm_solver":
        predicts = dict(zip(("eps", "x0", "v"), PREDICTS, strict=True))[given[0]]
        REFERENCES[name] = partial(multistep, prediction_type=predicts)
    elif what == "order":
        options = {"solver_type": "heun" if given[1] == "True" else "midpoint", "lower_order_final": False}
        REFERENCES[name] = partial(multistep, kept=(0, 2, 5, 9), solver_order=int(given[0]), **options)
    elif what == "plms":
        REFERENCES[name] = partial(pseudo_linear, predicts={"eps": "epsilon", "v": "v_prediction"}[given[0]])
    elif what == "sigma_euler":
        REFERENCES[name] = partial(in_sigma, eta=float(given[0]))
    elif what == "zero_terminal":
        REFERENCES[name] = partial(zero_terminal, kind=given[0])
    elif what == "rescaled":
        REFERENCES[name] = partial(rescaled, phi=float(given[0]))
    else:
        REFERENCES[name] = partial(implicit, eta=number(given[0]), clip=number(given[1]))

# -- flow matching and score matching: the papers' formulas, and diffusers' scheduler for Euler's method -----


def tensors(*arrays: Any) -> list[Any]:
    return [torch.tensor(x) for x in arrays]


def field(x: Any, t: Any, turn: Any) -> Any:
    return torch.tanh(x @ turn) - t * x


@reference("flow-loss")
def flow_loss(w: Weights, turn: Any) -> Any:
    """Lipman et al. 2023, eq. 23 with σ_min = 0."""
    x1, x0, t = tensors(models.POINTS, models.NOISE, models.TIMES[:, None])
    return ((field((1 - t) * x0 + t * x1, t, turn) - (x1 - x0)) ** 2).mean()


@reference("flow-euler")
def flow_euler(w: Weights) -> Any:
    """Its time s = 1 - t, and its model predicts noise less data."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    made = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    made.set_timesteps(sigmas=[1.0, 0.8, 0.6, 0.4, 0.2])
    x, turn = tensors(models.NOISE, models.TURN)
    for k, step in enumerate(made.timesteps):
        x = made.step(-field(x, 1 - step.double() / 1000, turn), step, x, return_dict=False)[0].double()
        if k in (0, 2, 4):
            yield x


@reference("flow-midpoint")
def flow_midpoint(w: Weights) -> Any:
    x, turn = tensors(models.NOISE, models.TURN)
    for k in range(5):
        half = x + 0.1 * field(x, 0.2 * k, turn)
        x = x + 0.2 * field(half, 0.2 * k + 0.1, turn)
        if k in (0, 2, 4):
            yield x


@reference("flow-log_prob")
def flow_log_prob(w: Weights) -> Any:
    """Chen et al. 2018, theorem 1: back from t = 1 by midpoints, with the trace of torch's Jacobian there."""
    (turn,) = tensors(models.TURN)
    found = []
    for x in torch.tensor(models.POINTS):
        change = torch.zeros(())
        for k in (4, 3, 2, 1):
            half = x - 0.125 * field(x, 0.25 * k, turn)
            there = 0.25 * (k - 0.5)
            jacobian = torch.autograd.functional.jacobian(lambda y, t=there: field(y, t, turn), half)
            change = change + 0.25 * jacobian.trace()
            x = x - 0.25 * field(half, there, turn)
        found.append(torch.distributions.Normal(0.0, 1.0).log_prob(x).sum() - change)
    return torch.stack(found)


@reference("score-loss")
def score_loss(w: Weights, turn: Any) -> Any:
    """Song & Ermon 2019, section 4.2, with λ(σ) = σ²."""
    x, z, sigma = tensors(models.POINTS, models.NOISE, models.LEVELS[[0, 1, 2, 0], None])
    noisy = x + sigma * z
    each = 0.5 * ((field(noisy, sigma, turn) + (noisy - x) / sigma**2) ** 2).sum(1)
    return (sigma[:, 0] ** 2 * each).mean()


@reference("score-langevin")
def score_langevin(w: Weights) -> Any:
    """Song & Ermon 2019, algorithm 1."""
    x, turn = tensors(models.NOISE, models.TURN)
    states = []
    for sigma in models.LEVELS:
        alpha = 0.05 * sigma**2 / models.LEVELS[-1] ** 2
        for _ in range(2):
            x = x + alpha / 2 * field(x, sigma, turn) + alpha**0.5 * noise(*x.shape)
            states.append(x)
    return [states[i] for i in (0, 1, 2, 5)]


# -- optimizers ------------------------------------------------------------------------------------


def optimized(w: Weights, name: str) -> Any:
    params = [torch.tensor(x, requires_grad=True) for x in models.START]
    kind, options = models.OPTIMIZERS[name]
    defaults = {"weight_decay": 0.01} if name == "adamw" else {}
    optimizer = getattr(torch.optim, kind.__name__)(params, **defaults, **options)
    for step in range(3):
        for p, g in zip(params, models.gradients(step), strict=True):
            p.grad = torch.tensor(g)
        torch.nn.utils.clip_grad_norm_(params, models.CLIP)
        optimizer.step()
    return params


REFERENCES.update({name: partial(optimized, name=name) for name in models.OPTIMIZERS})

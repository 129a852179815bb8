"""Parity with the schedulers of diffusers, which count steps from 0. They keep β and ᾱ in float32, in which 1
- ᾱ has few digits left near the data. So the schedules are compared as they are, and the steps with ᾱ
replaced by its float64 values."""

import numpy as np
import pytest

from tinygen.diffusion import (
    Process,
    ancestral_step,
    cosine_schedule,
    ddim_step,
    evenly_spaced,
    guide,
    linear_schedule,
    rescale_guidance,
    rescale_zero_terminal_snr,
    sqrt_linear_schedule,
)

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers.schedulers import scheduling_ddim, scheduling_ddpm  # noqa: E402

CASES = [
    (linear_schedule(1000), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
    (
        sqrt_linear_schedule(1000),
        {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195},
    ),
    (cosine_schedule(1000), {"beta_schedule": "squaredcos_cap_v2"}),
]
KINDS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
SHAPE = (2, 3, 4)


def arrays(n):
    return list(np.random.default_rng(0).standard_normal((n, *SHAPE)))


def in_float64(scheduler, schedule):
    """The scheduler with all of its coefficients made again from β in float64. Rescaled to zero-terminal SNR
    in float32, its β are quotients of numbers near 1, with digits down to 1e-6."""
    atol = 1e-6 if schedule.alpha[-1] == 0 else 0
    np.testing.assert_allclose(schedule.beta[1:], scheduler.betas.numpy(), rtol=1e-5, atol=atol)
    scheduler.betas = torch.tensor(schedule.beta[1:])
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = torch.cumprod(scheduler.alphas, dim=0)
    return scheduler


class Replay(np.random.Generator):
    """A generator that gives the noise it was made with."""

    def __init__(self, noise):
        super().__init__(np.random.PCG64(0))
        self.noise = noise

    def standard_normal(self, shape, dtype):
        assert (shape, dtype) == (self.noise.shape, self.noise.dtype)
        return self.noise


def close(got, wanted):
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("schedule", "config"), CASES)
def test_schedules(schedule, config):
    theirs = scheduling_ddpm.DDPMScheduler(num_train_timesteps=1000, **config)
    np.testing.assert_allclose(schedule.beta[1:], theirs.betas.numpy(), rtol=1e-5)
    np.testing.assert_allclose(schedule.alpha_bar[1:], theirs.alphas_cumprod.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("schedule", "config"), CASES)
def test_forward(schedule, config):
    theirs = in_float64(scheduling_ddpm.DDPMScheduler(num_train_timesteps=1000, **config), schedule)
    x0, noise = arrays(2)
    process, t = Process(schedule, "v"), np.array([4, 701])
    a, b, u = torch.tensor(x0), torch.tensor(noise), torch.tensor(t - 1)
    close(process.diffuse(x0, t, noise), theirs.add_noise(a, b, u))
    close(process.target(x0, noise, t), theirs.get_velocity(a, b, u))


@pytest.mark.parametrize(("schedule", "config"), CASES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_ancestral_step(schedule, config, kind, variance, clip, monkeypatch):
    theirs = scheduling_ddpm.DDPMScheduler(
        num_train_timesteps=1000,
        prediction_type=KINDS[kind],
        variance_type=f"fixed_{variance}",
        clip_sample=clip is not None,
        **config,
    )
    in_float64(theirs, schedule)
    x, prediction, noise = arrays(3)
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *args, **kwargs: torch.tensor(noise))
    for t in (1, 2, 501, 901):
        got = ancestral_step(
            Process(schedule, kind),
            lambda x, t: prediction,
            x,
            t,
            rng=Replay(noise),
            variance=variance,
            clip=clip,
        )
        close(got, theirs.step(torch.tensor(prediction), t - 1, torch.tensor(x)).prev_sample)


@pytest.mark.parametrize(("schedule", "config"), CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_ancestral_step_with_a_learned_variance(schedule, config, kind, monkeypatch):
    theirs = scheduling_ddpm.DDPMScheduler(
        num_train_timesteps=1000,
        prediction_type=KINDS[kind],
        variance_type="learned_range",
        clip_sample=False,
        **config,
    )
    in_float64(theirs, schedule)
    x, prediction, fraction, noise = arrays(4)
    both = np.concatenate([prediction, fraction], axis=1)
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *args, **kwargs: torch.tensor(noise))
    for t in (1, 2, 501, 901):
        got = ancestral_step(
            Process(schedule, kind), lambda x, t: both, x, t, rng=Replay(noise), variance="learned"
        )
        close(got, theirs.step(torch.tensor(both), t - 1, torch.tensor(x)).prev_sample)


@pytest.mark.parametrize(("schedule", "config"), CASES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_ddim_step(schedule, config, kind, eta, clip):
    """50 steps of 1000, which both space alike ("trailing", the last one kept)."""
    theirs = scheduling_ddim.DDIMScheduler(
        num_train_timesteps=1000,
        prediction_type=KINDS[kind],
        clip_sample=clip is not None,
        timestep_spacing="trailing",
        **config,
    )
    in_float64(theirs, schedule).set_timesteps(50)
    x, prediction, noise = arrays(3)
    process = Process(schedule, kind).respace(evenly_spaced(1000, 50))
    np.testing.assert_array_equal(process.schedule.timesteps[:0:-1], theirs.timesteps.numpy())
    for i in (1, 2, 26, 46):
        got = ddim_step(process, lambda x, t: prediction, x, i, eta=eta, rng=Replay(noise), clip=clip)
        wanted = theirs.step(
            torch.tensor(prediction),
            int(process.schedule.timesteps[i]),
            torch.tensor(x),
            eta,
            use_clipped_model_output=True,
            variance_noise=torch.tensor(noise),
        )
        close(got, wanted.prev_sample)


# -- zero-terminal SNR, rescaled guidance ----------------------------------------------------------


@pytest.mark.parametrize(
    "schedule", [linear_schedule(1000), sqrt_linear_schedule(1000), cosine_schedule(1000)]
)
def test_zero_terminal_snr(schedule):
    """Near α = 0 a β is 1 minus a quotient of two small numbers: hence the absolute tolerance."""
    theirs = scheduling_ddim.rescale_zero_terminal_snr(torch.tensor(schedule.beta[1:])).numpy()
    ours = rescale_zero_terminal_snr(schedule)
    np.testing.assert_allclose(ours.beta[1:], theirs, rtol=1e-9, atol=1e-12)
    assert ours.beta[-1] == theirs[-1] == 1


def zero_terminal(kind, predicts, **options):
    """Their scheduler, and our process."""
    made = kind(
        num_train_timesteps=1000,
        prediction_type=KINDS[predicts],
        beta_start=1e-4,
        beta_end=0.02,
        rescale_betas_zero_snr=True,
        clip_sample=False,
        timestep_spacing="trailing",
        **options,
    )
    schedule = rescale_zero_terminal_snr(linear_schedule(1000))
    return in_float64(made, schedule), Process(schedule, predicts)


@pytest.mark.parametrize("kind", ["x0", "v"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_step_from_pure_noise(kind, eta):
    """Step 50 starts where α is 0."""
    theirs, process = zero_terminal(scheduling_ddim.DDIMScheduler, kind)
    theirs.set_timesteps(50)
    process = process.respace(evenly_spaced(1000, 50))
    x, prediction, noise = arrays(3)
    for i in (50, 49, 1):
        got = ddim_step(process, lambda x, t: prediction, x, i, eta=eta, rng=Replay(noise))
        wanted = theirs.step(
            torch.tensor(prediction),
            int(process.schedule.timesteps[i]),
            torch.tensor(x),
            eta,
            variance_noise=torch.tensor(noise),
        )
        close(got, wanted.prev_sample)


@pytest.mark.parametrize("kind", ["x0", "v"])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ancestral_step_from_pure_noise(kind, variance, monkeypatch):
    theirs, process = zero_terminal(scheduling_ddpm.DDPMScheduler, kind, variance_type=f"fixed_{variance}")
    x, prediction, noise = arrays(3)
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *args, **kwargs: torch.tensor(noise))
    for t in (1000, 999, 2):
        got = ancestral_step(process, lambda x, t: prediction, x, t, rng=Replay(noise), variance=variance)
        close(got, theirs.step(torch.tensor(prediction), t - 1, torch.tensor(x)).prev_sample)


@pytest.mark.parametrize("phi", [0.0, 0.7, 1.0])
def test_rescaled_guidance(phi):
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    conditional, unconditional = arrays(2)
    guided = guide(conditional, unconditional, 7.5)
    wanted = rescale_noise_cfg(torch.tensor(guided), torch.tensor(conditional), phi)
    close(rescale_guidance(guided, conditional, phi), wanted)

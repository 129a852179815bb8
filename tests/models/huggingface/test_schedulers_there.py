"""The schedulers of diffusers: every state after the same calls of the same model, from the folder that
`save_pretrained` writes. Here diffusers computes its coefficients in float64, too."""

import itertools
import json
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from tinygen.models.huggingface.schedulers import from_pretrained

torch = pytest.importorskip("torch")
there = pytest.importorskip("diffusers.schedulers")
from diffusers.schedulers import scheduling_euler_ancestral_discrete  # noqa: E402

X, SAID, DATA = np.random.default_rng(0).standard_normal((3, 2, 3, 4, 4))
MASK = np.random.default_rng(1).random((2, 1, 4, 4)) < 0.5
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SPACINGS = ("leading", "linspace", "trailing")


def model(x, t):
    """Neither linear in x nor in t, of any library."""
    wave = np.cos if isinstance(x, np.ndarray) else torch.cos
    said = SAID.astype(x.dtype) if isinstance(x, np.ndarray) else torch.tensor(SAID, dtype=x.dtype)
    turn = float(t[0]) / 300
    return wave(x) * 0.4 + said * math.sin(turn) - x * (0.1 * turn)


NEEDED = {"DDIMScheduler": {"clip_sample": False}, "PNDMScheduler": {"skip_prk_steps": True}}
"""What a file must have, since the defaults of these classes are refused."""


@pytest.fixture
def in_float64(monkeypatch):
    """Modules of diffusers with float64 where they say float32, or nothing."""
    double = {"float32": torch.float64, "linspace": partial(torch.linspace, dtype=torch.float64)}
    for name in ("ddim", "pndm", "euler_discrete", "euler_ancestral_discrete", "dpmsolver_multistep"):
        module = __import__(f"diffusers.schedulers.scheduling_{name}", fromlist=["torch"])
        monkeypatch.setattr(module, "torch", SimpleNamespace(**vars(torch) | double))
        monkeypatch.setattr(module, "np", SimpleNamespace(**vars(np) | {"float32": np.float64}))


def states_there(scheduler, steps, dtype, data=None, strength=1.0, mask=None):
    """As the pipelines for text to image, image to image and inpainting call it."""
    scheduler.set_timesteps(steps)
    skipped = steps - int(steps * strength)
    timesteps = scheduler.timesteps[skipped:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped)
    noise = torch.tensor(X, dtype=dtype)
    x = noise * scheduler.init_noise_sigma
    if data is not None:
        data = torch.tensor(data, dtype=dtype)
        if mask is None or strength < 1:
            x = scheduler.add_noise(data, noise, timesteps[:1])
    states = []
    for i, t in enumerate(timesteps):
        said = model(scheduler.scale_model_input(x, t), [t])
        x = scheduler.step(said, t, x).prev_sample
        if mask is not None:
            known = data
            if i < len(timesteps) - 1:
                known = scheduler.add_noise(data, noise, timesteps[i + 1][None])
            x = torch.where(torch.tensor(mask), x, known)
        states.append(x.numpy())
    return states


def largest_difference(folder, kind, options, dtype, *, steps, **given):
    """Of all states, relative to the largest number in each."""
    theirs = getattr(there, kind)(**options)
    theirs.save_pretrained(folder)
    if options == NEEDED.get(kind, {}):  # a file with nothing else
        text = json.dumps({"_class_name": kind, **options})
        (folder / "scheduler_config.json").write_text(text)
    wanted = states_there(theirs, steps, dtype, **given)
    x = X.astype(str(dtype).removeprefix("torch."))
    if "data" in given:
        given["data"] = given["data"].astype(x.dtype)
    got = list(from_pretrained(folder).sample(model, x, steps=steps, rng=Draws(), **given))
    assert got[-1].dtype == x.dtype
    assert len(got) in (len(wanted), len(wanted) - 1)  # a step from a level to itself is not made
    wanted[len(got) - 1] = wanted[-1]
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(got, wanted, strict=False))


def sampled(kind, **options):
    """30 configurations in which every value of an option occurs, of all that there are."""
    chosen = np.random.default_rng(0)
    columns = {name: chosen.permutation(np.resize(np.arange(len(v)), 30)) for name, v in options.items()}
    for i in range(30):
        config = {name: options[name][columns[name][i]] for name in options}
        if config.get("use_karras_sigmas") and config.get("rescale_betas_zero_snr"):
            config["betas"] = SD  # of "linear" they are refused
        if kind == "DPMSolverMultistepScheduler" and config["use_karras_sigmas"]:
            config["final_sigmas_type"] = "zero"  # the other one is refused
        yield config.pop("betas") | config


BETAS = (SD, {"beta_schedule": "linear"}, {"beta_schedule": "squaredcos_cap_v2"})
COMMON = {"betas": BETAS, "timestep_spacing": SPACINGS, "steps_offset": (0, 1)}
PREDICTIONS, BOTH = ("epsilon", "v_prediction", "sample"), (False, True)
CONFIGS = {
    "DDIMScheduler": COMMON
    | {"prediction_type": PREDICTIONS, "set_alpha_to_one": BOTH, "clip_sample": (False,)},
    "PNDMScheduler": COMMON
    | {"prediction_type": PREDICTIONS[:2], "set_alpha_to_one": BOTH, "skip_prk_steps": (True,)},
    "EulerDiscreteScheduler": COMMON
    | {
        "prediction_type": PREDICTIONS,
        "interpolation_type": ("linear", "log_linear"),
        "use_karras_sigmas": BOTH,
        "final_sigmas_type": ("zero", "sigma_min"),
        "rescale_betas_zero_snr": BOTH,
    },
    "EulerAncestralDiscreteScheduler": COMMON
    | {"prediction_type": PREDICTIONS[:2], "rescale_betas_zero_snr": BOTH},
    "DPMSolverMultistepScheduler": COMMON
    | {
        "prediction_type": PREDICTIONS,
        "solver_order": (1, 2, 3),
        "solver_type": ("midpoint", "heun"),
        "lower_order_final": BOTH,
        "use_karras_sigmas": BOTH,
        "final_sigmas_type": ("zero", "sigma_min"),
        "lambda_min_clipped": (-float("inf"), -5.1),
        "rescale_betas_zero_snr": BOTH,
    },
}
WAYS = (
    {"steps": 20},
    {"steps": 7, "data": DATA, "strength": 0.6},
    {"steps": 30, "data": DATA, "strength": 0.9, "mask": MASK},
    {"steps": 10, "data": DATA, "mask": MASK},
    {"steps": 9, "data": DATA},
)


class Draws(np.random.Generator):
    """A generator, for both libraries, that draws the same numbers each time."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def standard_normal(self, shape, dtype):
        return SAID.astype(dtype)

    def __call__(self, shape, dtype=None, **given):
        return torch.tensor(SAID, dtype=dtype)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.usefixtures("in_float64")
def test_their_states_in_float64(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduling_euler_ancestral_discrete, "randn_tensor", Draws())
    for options, way in zip(sampled(kind, **CONFIGS[kind]), itertools.cycle(WAYS), strict=False):
        assert largest_difference(tmp_path, kind, options, torch.float64, **way) < 1e-10, (options, way)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.usefixtures("in_float64")
def test_options_that_are_missing_have_their_defaults(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduling_euler_ancestral_discrete, "randn_tensor", Draws())
    assert largest_difference(tmp_path, kind, NEEDED.get(kind, {}), torch.float64, steps=12) < 1e-10


KNOWN = {
    "Stable Diffusion 1": ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}),
    "Stable Diffusion 2": (
        "DDIMScheduler",
        {"prediction_type": "v_prediction", "steps_offset": 1, "set_alpha_to_one": False},
    ),
    "SDXL": ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
    "Euler": ("EulerDiscreteScheduler", {}),
    "DPM-Solver++": ("DPMSolverMultistepScheduler", {}),
    "with Karras's levels": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "zero-terminal SNR": (
        "DDIMScheduler",
        {
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "timestep_spacing": "trailing",
        },
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_their_states_in_float32(name, tmp_path):
    """As both are used, with the constants of Stable Diffusion. The rest is diffusers' coefficients, products
    of 1000 numbers in float32."""
    kind, options = KNOWN[name]
    options = SD | options | ({"clip_sample": False} if kind == "DDIMScheduler" else {})
    for way in WAYS[:3]:
        assert largest_difference(tmp_path, kind, options, torch.float32, **way) < 1e-5

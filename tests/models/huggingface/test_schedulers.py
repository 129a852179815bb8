"""Folders of schedulers: what is read, what is refused, and sampling from the middle."""

import json
import re

import numpy as np
import pytest

from tinygen.diffusion import Process, ddim, last_state, plms
from tinygen.models.huggingface.schedulers import OPTIONS, from_pretrained
from tinygen.storage.files import CheckpointError

SD1 = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
"""As Stable Diffusion 1.5 has it, with an option of another class."""

DDIM = {**SD1, "_class_name": "DDIMScheduler"}
EULER = {"_class_name": "EulerDiscreteScheduler"}
ANCESTRAL = {"_class_name": "EulerAncestralDiscreteScheduler"}
DPM = {"_class_name": "DPMSolverMultistepScheduler"}
ALL = (SD1, DDIM, EULER, ANCESTRAL, DPM)

NOISE, DATA = np.random.default_rng(0).standard_normal((2, 2, 3, 4, 4))
MASK = np.random.default_rng(1).random((2, 1, 4, 4)) < 0.5


def read(folder, options):
    (folder / "scheduler_config.json").write_text(json.dumps(options))
    return from_pretrained(folder)


def point(scheduler, data=0.7):
    """The best model for data that is one point, of any number of a step, and the numbers that it sees."""
    s, seen = scheduler.schedule, []

    def model(x, t):
        seen.append(float(t[0]))
        alpha = np.interp(t[0], np.arange(len(s)), s.alpha[1:])
        return (x - alpha * data) / np.sqrt(1 - alpha**2)

    return model, seen


# -- what is read ----------------------------------------------------------------------------------


def test_the_calls_of_stable_diffusion_1(tmp_path):
    """20 steps: the second one twice, every 50th, from 1 on; the last ends at the least noise."""
    scheduler = read(tmp_path, SD1)
    model, seen = point(scheduler)
    codes = last_state(scheduler.sample(model, NOISE, steps=20))
    assert seen == [951, 901, 901, *range(851, 0, -50)]
    s = scheduler.schedule
    eps = (codes - s.alpha[1] * 0.7) / s.sigma[1]  # of a point, ε stays as it is
    start = (NOISE - s.alpha[952] * 0.7) / s.sigma[952]
    np.testing.assert_allclose(eps, start, rtol=1e-8)


@pytest.mark.parametrize(
    ("spacing", "numbers"),
    [("leading", [7, 4, 1]), ("trailing", [9, 6, 2]), ("linspace", [9, 4, 0])],
)
def test_spacings(tmp_path, spacing, numbers):
    """3 of 10 steps; halves are rounded to even."""
    options = {**DDIM, "num_train_timesteps": 10, "timestep_spacing": spacing, "beta_end": 0.5}
    scheduler = read(tmp_path, options)
    model, seen = point(scheduler)
    list(scheduler.sample(model, NOISE, steps=3))
    assert seen == numbers


@pytest.mark.parametrize("options", ALL, ids=lambda o: o["_class_name"])
def test_a_point_is_reached(tmp_path, options):
    """Its ε stays, so every method that takes ε or x_0 from the model reaches it, or the least noise."""
    scheduler = read(tmp_path, {**options, "set_alpha_to_one": True, "steps_offset": 0})
    model, _ = point(scheduler)
    data = last_state(scheduler.sample(model, NOISE, steps=10, rng=0))
    np.testing.assert_allclose(data, np.full_like(data, 0.7), atol=0.02)  # between steps, α is a little off


def test_it_samples_as_the_samplers_here(tmp_path):
    """Where the distances are even, DDIM and PLMS are those of a process of every 50th step."""
    for options, sampler in ((DDIM, ddim), (SD1, plms)):
        scheduler = read(tmp_path, {**options, "set_alpha_to_one": True, "timestep_spacing": "trailing"})
        process = Process(scheduler.schedule).respace(np.arange(50, 1001, 50))
        model = lambda x, t: np.cos(x) * 0.4 + t[0] / 1000
        ours = list(scheduler.sample(model, NOISE, steps=20))
        for a, b in zip(ours, sampler(process, model, NOISE), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", ALL, ids=lambda o: o["_class_name"])
def test_float32_stays(tmp_path, options):
    scheduler = read(tmp_path, options)
    x, data = NOISE.astype(np.float32), DATA.astype(np.float32)
    for given in ({}, {"data": data, "strength": 0.5}, {"data": data, "strength": 0.5, "mask": MASK}):
        states = list(scheduler.sample(lambda x, t: 0.5 * x, x, steps=4, rng=0, **given))
        assert {state.dtype for state in states} == {np.dtype(np.float32)}


# -- from the middle -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ALL, ids=lambda o: o["_class_name"])
def test_image_to_image_begins_where_its_steps_begin(tmp_path, options):
    """At a quarter of the steps the first input of the model is data with the noise of that step."""
    scheduler = read(tmp_path, {**options, "timestep_spacing": "trailing", "num_train_timesteps": 1000})
    seen = []
    model = lambda x, t: seen.append((x.copy(), t[0])) or 0.5 * x
    states = list(scheduler.sample(model, NOISE, steps=8, data=DATA, strength=0.25, rng=0))
    s, t = scheduler.schedule, int(seen[0][1]) + 1
    np.testing.assert_allclose(seen[0][0], s.alpha[t] * DATA + s.sigma[t] * NOISE, rtol=1e-9)
    assert t == (375 if options is SD1 else 250)  # PNDM begins a call earlier, as in diffusers
    assert len(states) == len(seen) == (3 if options is SD1 else 2)


@pytest.mark.parametrize("options", ALL, ids=lambda o: o["_class_name"])
def test_a_mask_keeps_the_data(tmp_path, options):
    """In the end exactly; and with all of the mask true, nothing is kept."""
    scheduler = read(tmp_path, options)
    model = lambda x, t: 0.5 * x
    given = {"steps": 6, "data": DATA, "strength": 0.5}
    masked = last_state(scheduler.sample(model, NOISE, mask=MASK, rng=0, **given))
    kept = np.broadcast_to(~MASK, DATA.shape)
    np.testing.assert_array_equal(masked[kept], DATA[kept])
    assert np.abs(masked - DATA)[~kept].min() > 0
    whole = last_state(scheduler.sample(model, NOISE, mask=np.ones((1, 1), bool), rng=0, **given))
    np.testing.assert_array_equal(whole, last_state(scheduler.sample(model, NOISE, rng=0, **given)))
    fresh = last_state(scheduler.sample(model, NOISE, steps=6, data=DATA, mask=MASK | True, rng=0))
    np.testing.assert_array_equal(fresh, last_state(scheduler.sample(model, NOISE, steps=6, rng=0)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "steps must be within 1 .. 1000, got 0"),
        ({"steps": 1001}, "steps must be within 1 .. 1000, got 1001"),
        ({"steps": 1000}, "begin at 1000, after the last of the folder's 1000 steps, 999: take fewer steps"),
        ({"steps": 5, "strength": 0.5}, "strength and mask are about data"),
        ({"steps": 5, "mask": MASK}, "strength and mask are about data"),
        ({"steps": 5, "data": DATA, "strength": 0.1}, "strength=0.1 of 5 steps is no step"),
        ({"steps": 5, "data": DATA, "strength": 1.5}, "strength must be within [0, 1], got 1.5"),
    ],
)
def test_samples_that_cannot_be_made(tmp_path, given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        list(read(tmp_path, SD1).sample(lambda x, t: x, NOISE, **given))


def test_new_noise_needs_a_generator(tmp_path):
    with pytest.raises(ValueError, match="adds noise: pass a generator"):
        list(read(tmp_path, ANCESTRAL).sample(lambda x, t: x, NOISE, steps=3))


# -- what is refused -------------------------------------------------------------------------------

ZERO_SNR = {"rescale_betas_zero_snr": True}
REFUSED = [
    ({"_class_name": "LMSDiscreteScheduler"}, "_class_name"),
    ({"_class_name": ["DDIMScheduler"]}, "_class_name"),
    ({}, "_class_name"),
    ({**DDIM, "clip_sample": True}, "clip_sample"),
    ({k: v for k, v in DDIM.items() if k != "clip_sample"}, "clip_sample"),
    ({**DDIM, "thresholding": True}, "thresholding"),
    ({**DDIM, **ZERO_SNR}, "prediction_type"),
    ({**DDIM, "num_train_timesteps": 1, **ZERO_SNR}, "num_train_timesteps"),
    ({**DDIM, "num_train_timesteps": 10**9}, "num_train_timesteps"),
    ({**DDIM, "prediction_type": "flow_prediction"}, "prediction_type"),
    ({**DDIM, "beta_schedule": "sigmoid"}, "beta_schedule"),
    ({**DDIM, "beta_end": 1.5}, "beta_end"),
    ({**DDIM, "beta_start": "0.1"}, "beta_start"),
    ({**DDIM, "beta_start": float("nan")}, "beta_start"),
    ({**DDIM, "trained_betas": [0.1, 0.2]}, "trained_betas"),
    ({**DDIM, "timestep_spacing": "even"}, "timestep_spacing"),
    ({**DDIM, "steps_offset": -1}, "steps_offset"),
    ({**DDIM, "set_alpha_to_one": 1}, "set_alpha_to_one"),
    ({**DDIM, "shift": 3.0}, "shift"),
    ({**SD1, "skip_prk_steps": False}, "skip_prk_steps"),
    ({**SD1, "prediction_type": "sample"}, "prediction_type"),
    ({**EULER, "timestep_type": "continuous"}, "timestep_type"),
    ({**EULER, "sigma_max": 10.0}, "sigma_max"),
    ({**EULER, "interpolation_type": "cubic"}, "interpolation_type"),
    ({**EULER, "use_exponential_sigmas": True}, "use_exponential_sigmas"),
    ({**EULER, "use_beta_sigmas": True}, "use_beta_sigmas"),
    ({**EULER, "use_karras_sigmas": True, **ZERO_SNR}, "use_karras_sigmas"),
    ({**EULER, "final_sigmas_type": "one"}, "final_sigmas_type"),
    ({**ANCESTRAL, "prediction_type": "sample"}, "prediction_type"),
    ({**DPM, "algorithm_type": "sde-dpmsolver++"}, "algorithm_type"),
    ({**DPM, "solver_order": 4}, "solver_order"),
    ({**DPM, "solver_type": "bh2"}, "solver_type"),
    ({**DPM, "euler_at_final": True, "final_sigmas_type": "sigma_min"}, "euler_at_final"),
    ({**DPM, "use_karras_sigmas": True, "final_sigmas_type": "sigma_min"}, "final_sigmas_type"),
    ({**DPM, "use_lu_lambdas": True}, "use_lu_lambdas"),
    ({**DPM, "use_flow_sigmas": True}, "use_flow_sigmas"),
    ({**DPM, "use_dynamic_shifting": True}, "use_dynamic_shifting"),
    ({**DPM, "variance_type": "learned"}, "variance_type"),
    ({**DPM, "lambda_min_clipped": None}, "lambda_min_clipped"),
]


@pytest.mark.parametrize(("options", "name"), REFUSED)
def test_what_is_refused(tmp_path, options, name):
    """In one line, by the name of the option and its value."""
    with pytest.raises(CheckpointError) as error:
        read(tmp_path, options)
    assert f"the option {name}: expected " in str(error.value)
    assert "\n" not in str(error.value)


def test_options_of_other_classes_are_ignored(tmp_path):
    """Pipelines leave them when they exchange a scheduler."""
    others = ("final_sigmas_type", "use_karras_sigmas", "solver_order", "lambda_min_clipped")
    assert OPTIONS.issuperset(others)
    given = {**DDIM, **dict.fromkeys(others, "anything")}
    assert len(list(read(tmp_path, given).sample(lambda x, t: x, NOISE, steps=3))) == 3


def test_no_file_and_no_json(tmp_path):
    with pytest.raises(CheckpointError):
        from_pretrained(tmp_path)
    (tmp_path / "scheduler_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="a JSON object"):
        from_pretrained(tmp_path)

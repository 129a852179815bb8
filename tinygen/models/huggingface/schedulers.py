"""Reads the schedulers of `diffusers`: how a folder wants noise to become data.

    scheduler = from_pretrained("sd/scheduler")
    codes = last_state(scheduler.sample(model, noise, steps=20))

scheduler_config.json has the options. If one is missing, it has the default of diffusers' class. Pipelines
exchange their schedulers, and leave the options of the old class in the file: an option of another of these
classes is ignored, as it is there. Any other option, and any value that the samplers here cannot express,
raises an error that names it. `scheduler_steps.py` has what the schedulers do.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.diffusion.process import Prediction
from tinygen.diffusion.schedule import Schedule, cosine_schedule, rescale_zero_terminal_snr
from tinygen.models.huggingface.folders import Options
from tinygen.models.huggingface.scheduler_steps import (
    DPMSolverScheduler,
    EulerScheduler,
    Scheduler,
    StepScheduler,
    quiet,
    trained_sigmas,
)

CONFIG = "scheduler_config.json"

PREDICTS: dict[str, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}

OPTIONS = {
    "algorithm_type",
    "beta_end",
    "beta_schedule",
    "beta_start",
    "clip_sample",
    "clip_sample_range",
    "dynamic_thresholding_ratio",
    "euler_at_final",
    "final_sigmas_type",
    "flow_shift",
    "interpolation_type",
    "lambda_min_clipped",
    "lower_order_final",
    "num_train_timesteps",
    "prediction_type",
    "rescale_betas_zero_snr",
    "sample_max_value",
    "set_alpha_to_one",
    "sigma_max",
    "sigma_min",
    "skip_prk_steps",
    "solver_order",
    "solver_type",
    "steps_offset",
    "thresholding",
    "time_shift_type",
    "timestep_spacing",
    "timestep_type",
    "trained_betas",
    "use_beta_sigmas",
    "use_dynamic_shifting",
    "use_exponential_sigmas",
    "use_flow_sigmas",
    "use_karras_sigmas",
    "use_lu_lambdas",
    "variance_type",
}
"""The options of the five classes."""


class SchedulerOptions(Options):
    """The options of a scheduler, and its class."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.kind = self.left.pop("_class_name", None)

    def number(self, name: str, default: float) -> float:
        """The option, a number; it may be infinite."""
        found = self.left.pop(name, default)
        if type(found) not in (int, float) or math.isnan(found):
            self.refuse(name, "a number", found)
        return float(found)

    def end(self) -> None:
        """Refuse the options that none of the classes has."""
        self.left = {name: value for name, value in self.left.items() if name not in OPTIONS}
        super().end()


def from_pretrained(folder: str | Path) -> Scheduler:
    """The scheduler in a folder with scheduler_config.json: a DDIMScheduler, PNDMScheduler,
    EulerDiscreteScheduler, EulerAncestralDiscreteScheduler or DPMSolverMultistepScheduler.

    Raises CheckpointError for the first option that cannot be expressed here."""
    o = SchedulerOptions(Path(folder) / CONFIG)
    read = KINDS.get(o.kind) if isinstance(o.kind, str) else None
    if read is None:
        o.refuse("_class_name", f"one of {', '.join(KINDS)}", o.kind)
    scheduler = read(o)
    o.end()
    return scheduler


# -- options that several classes have ------------------------------------------------------------


def schedule_of(o: SchedulerOptions) -> Schedule:
    """The schedule of the training, all its steps."""
    total = o.size("num_train_timesteps", 1000)
    if total > 100_000:
        o.refuse("num_train_timesteps", "at most 100000", total)
    kind = o.choice("beta_schedule", "linear", "linear", "scaled_linear", "squaredcos_cap_v2")
    first, last = o.number("beta_start", 0.0001), o.number("beta_end", 0.02)
    for name, beta in (("beta_start", first), ("beta_end", last)):
        if not 0 < beta < 1:
            o.refuse(name, "a number above 0 and below 1", beta)
    o.choice("trained_betas", None)
    with quiet():
        if kind == "squaredcos_cap_v2":
            return cosine_schedule(total)
        if kind == "scaled_linear":
            return Schedule(np.square(np.linspace(math.sqrt(first), math.sqrt(last), total)))
        return Schedule(np.linspace(first, last, total))


def rescaled(o: SchedulerOptions, schedule: Schedule) -> Schedule:
    """The schedule, with zero-terminal SNR where rescale_betas_zero_snr is true."""
    if not o.flag("rescale_betas_zero_snr", False):
        return schedule
    if len(schedule) < 2:
        o.refuse("num_train_timesteps", "at least 2 with rescale_betas_zero_snr", len(schedule))
    return rescale_zero_terminal_snr(schedule)


def common(o: SchedulerOptions, spacing: str, *predictions: str) -> dict[str, Any]:
    """What every scheduler has, whose timestep_spacing is `spacing` unless the file has one, and whose
    network may predict one of `predictions`."""
    offset = o.left.pop("steps_offset", 0)
    if type(offset) is not int or not 0 <= offset < 2**31:
        o.refuse("steps_offset", "a whole number from 0", offset)
    return {
        "schedule": schedule_of(o),
        "predicts": PREDICTS[o.choice("prediction_type", "epsilon", *predictions)],
        "spacing": o.choice("timestep_spacing", spacing, "leading", "trailing", "linspace"),
        "offset": offset,
    }


def levels_of(o: SchedulerOptions, schedule: Schedule) -> dict[str, Any]:
    """use_karras_sigmas and final_sigmas_type, and others like them that must be off."""
    for name in ("use_exponential_sigmas", "use_beta_sigmas"):
        o.choice(name, False, False, None)
    karras = bool(o.choice("use_karras_sigmas", False, True, False, None))
    if karras and np.any(np.diff(trained_sigmas(schedule)) <= 0):
        o.refuse("use_karras_sigmas", "false: with this zero-terminal SNR σ falls in the last step", True)
    stop = o.choice("final_sigmas_type", "zero", "zero", "sigma_min") == "sigma_min"
    return {"karras": karras, "stop": stop}


# -- the classes ----------------------------------------------------------------------------------


def ddim(o: SchedulerOptions) -> Scheduler:
    given = common(o, "leading", "epsilon", "v_prediction", "sample")
    given["schedule"] = rescaled(o, given["schedule"])
    if given["predicts"] == "eps" and given["schedule"].alpha[-1] == 0:
        o.refuse("prediction_type", "another with rescale_betas_zero_snr: of x_T ε says nothing", "epsilon")
    o.choice("clip_sample", True, False)  # codes have no bounds
    o.choice("thresholding", False)
    return StepScheduler(**given, order=1, last=0 if o.flag("set_alpha_to_one", True) else 1)


def pndm(o: SchedulerOptions) -> Scheduler:
    given = common(o, "leading", "epsilon", "v_prediction")
    o.choice("skip_prk_steps", False, True)
    return StepScheduler(**given, order=4, last=0 if o.flag("set_alpha_to_one", False) else 1)


def euler(o: SchedulerOptions) -> Scheduler:
    given = common(o, "linspace", "epsilon", "v_prediction", "sample")
    given["schedule"] = rescaled(o, given["schedule"])
    o.choice("timestep_type", "discrete")
    for name in ("sigma_min", "sigma_max"):
        o.choice(name, None)
    log_linear = o.choice("interpolation_type", "linear", "linear", "log_linear") == "log_linear"
    return EulerScheduler(**given, **levels_of(o, given["schedule"]), log_linear=log_linear, eta=0.0)


def euler_ancestral(o: SchedulerOptions) -> Scheduler:
    given = common(o, "linspace", "epsilon", "v_prediction")
    given["schedule"] = rescaled(o, given["schedule"])
    return EulerScheduler(**given, karras=False, stop=False, log_linear=False, eta=1.0)


def dpm_solver(o: SchedulerOptions) -> Scheduler:
    o.choice("algorithm_type", "dpmsolver++")
    whole = o.left.get("beta_schedule") != "squaredcos_cap_v2"
    given = common(o, "linspace", "epsilon", "v_prediction", "sample")
    given["schedule"] = rescaled(o, given["schedule"])
    for name in ("thresholding", "use_lu_lambdas", "use_flow_sigmas", "use_dynamic_shifting"):
        o.choice(name, False)
    o.choice("variance_type", None)
    levels = levels_of(o, given["schedule"])
    if levels["karras"] and levels["stop"]:
        expected = '"zero" with use_karras_sigmas, whose last level is sigma_min'
        o.refuse("final_sigmas_type", expected, "sigma_min")
    o.choice("euler_at_final", False, False, *[True] * (not levels["stop"]))  # with "zero" it always is
    return DPMSolverScheduler(
        **given,
        **levels,
        order=o.choice("solver_order", 2, 1, 2, 3),
        heun=o.choice("solver_type", "midpoint", "midpoint", "heun") == "heun",
        lower_order_final=o.flag("lower_order_final", True),
        smallest_lambda=o.number("lambda_min_clipped", -math.inf),
        whole=whole,
    )


KINDS = {
    "DDIMScheduler": ddim,
    "PNDMScheduler": pndm,
    "EulerDiscreteScheduler": euler,
    "EulerAncestralDiscreteScheduler": euler_ancestral,
    "DPMSolverMultistepScheduler": dpm_solver,
}

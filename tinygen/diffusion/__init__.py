"""Diffusion: noise is added to data step by step, and a model learns to remove it.

x_0 is the data, t = 1 ... T are the steps (`schedule`). Read `schedule`, `process`, `loss`, `sampling`; then
`dpm_solver`, `plms`, `karras`, `guidance`, `inpaint`, `bound`. `flow_matching` goes from noise to data on
straight lines, in a time of its own; `score_matching` learns scores at several levels of noise, and samples
by Langevin dynamics.
"""

from tinygen.diffusion.bound import Bound, bits_per_dim
from tinygen.diffusion.dpm_solver import dpm_solver
from tinygen.diffusion.flow_matching import (
    euler,
    flow_log_prob,
    flow_matching_loss,
    flow_matching_loss_at,
    midpoint,
)
from tinygen.diffusion.guidance import (
    classifier_free_guidance,
    classifier_guidance,
    clip_guidance,
    guide,
    rescale_guidance,
)
from tinygen.diffusion.inpaint import inpaint
from tinygen.diffusion.karras import karras_sigmas, sigma_euler, sigma_schedule
from tinygen.diffusion.loss import hybrid_loss, hybrid_loss_at, loss_at, min_snr, simple_loss
from tinygen.diffusion.plms import plms
from tinygen.diffusion.process import Process
from tinygen.diffusion.sampling import (
    Model,
    Sampler,
    ancestral_sampling,
    ancestral_step,
    ddim,
    ddim_encode,
    ddim_step,
    last_state,
    predict,
)
from tinygen.diffusion.schedule import (
    Schedule,
    cosine_schedule,
    evenly_spaced,
    linear_schedule,
    rescale_zero_terminal_snr,
    sqrt_linear_schedule,
)
from tinygen.diffusion.score_matching import (
    annealed_langevin,
    langevin_step,
    noise_levels,
    score_matching_loss,
    score_matching_loss_at,
)

__all__ = [
    "Bound",
    "Model",
    "Process",
    "Sampler",
    "Schedule",
    "ancestral_sampling",
    "ancestral_step",
    "annealed_langevin",
    "bits_per_dim",
    "classifier_free_guidance",
    "classifier_guidance",
    "clip_guidance",
    "cosine_schedule",
    "ddim",
    "ddim_encode",
    "ddim_step",
    "dpm_solver",
    "euler",
    "evenly_spaced",
    "flow_log_prob",
    "flow_matching_loss",
    "flow_matching_loss_at",
    "guide",
    "hybrid_loss",
    "hybrid_loss_at",
    "inpaint",
    "karras_sigmas",
    "langevin_step",
    "last_state",
    "linear_schedule",
    "loss_at",
    "midpoint",
    "min_snr",
    "noise_levels",
    "plms",
    "predict",
    "rescale_guidance",
    "rescale_zero_terminal_snr",
    "score_matching_loss",
    "score_matching_loss_at",
    "sigma_euler",
    "sigma_schedule",
    "simple_loss",
    "sqrt_linear_schedule",
]

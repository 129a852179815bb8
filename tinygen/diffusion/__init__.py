"""Diffusion: noise put into data step by step, and taken out again by a model that learned to see it."""

from tinygen.diffusion.guidance import classifier_free, guided
from tinygen.diffusion.loss import loss_at, simple_loss
from tinygen.diffusion.process import Process
from tinygen.diffusion.sampling import ancestral, ancestral_step, ddim, ddim_encode, ddim_step
from tinygen.diffusion.schedule import Schedule, cosine, linear, spread, sqrt_linear

__all__ = [
    "Process",
    "Schedule",
    "ancestral",
    "ancestral_step",
    "classifier_free",
    "cosine",
    "ddim",
    "ddim_encode",
    "ddim_step",
    "guided",
    "linear",
    "loss_at",
    "simple_loss",
    "spread",
    "sqrt_linear",
]

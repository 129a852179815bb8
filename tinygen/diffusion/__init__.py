"""Diffusion: noise put into data step by step, and taken out again by a model that learned to see it."""

from tinygen.diffusion.bound import Bound, bits_per_dim
from tinygen.diffusion.guidance import classifier_free, classifier_guided, guided
from tinygen.diffusion.inpaint import inpaint
from tinygen.diffusion.loss import hybrid_loss, hybrid_loss_at, loss_at, min_snr, simple_loss
from tinygen.diffusion.process import Process
from tinygen.diffusion.sampling import ancestral, ancestral_step, ddim, ddim_encode, ddim_step
from tinygen.diffusion.schedule import Schedule, cosine, linear, spread, sqrt_linear

__all__ = [
    "Bound",
    "Process",
    "Schedule",
    "ancestral",
    "ancestral_step",
    "bits_per_dim",
    "classifier_free",
    "classifier_guided",
    "cosine",
    "ddim",
    "ddim_encode",
    "ddim_step",
    "guided",
    "hybrid_loss",
    "hybrid_loss_at",
    "inpaint",
    "linear",
    "loss_at",
    "min_snr",
    "simple_loss",
    "spread",
    "sqrt_linear",
]

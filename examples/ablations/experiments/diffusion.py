"""Experiments for diffusion: points in the plane, with the exact denoiser or a small network."""

from __future__ import annotations

from typing import Any

import numpy as np
from shared.flags import numpy_function
from shared.points import exact_denoiser, excess_loss, sliced_wasserstein

from tinygen.data.mixtures import Mixture, ring
from tinygen.diffusion import (
    Process,
    ancestral_sampling,
    ddim,
    last_state,
    linear_schedule,
    simple_loss,
)
from tinygen.diffusion.guidance import guide
from tinygen.models.pictures.denoiser import Denoiser
from tinygen.optim import EMA, AdamW


def exact_score(seed: int) -> dict[str, Any]:
    """Points of three groups, of 70, 20 and 10 %, by ancestral sampling in 50 steps with the best possible
    denoiser: what is wrong with them is the fault of schedule or sampler."""
    rng, process = np.random.default_rng(seed), Process(linear_schedule(50))
    data = Mixture([0.7, 0.2, 0.1], [[1.2, 0.0], [-1.0, 1.2], [-1.0, -1.2]], 0.2)
    noise = rng.standard_normal((2000, 2))
    x = last_state(ancestral_sampling(process, exact_denoiser(data, process), noise, rng=rng))
    figures = {
        "distance from the data": sliced_wasserstein(data.sample(2000, rng), x),
        "share of the largest group": float(np.mean(x[:, 0] > 0)),
        "its standard deviation": float(np.std(x[x[:, 0] > 0] - [1.2, 0.0])),
    }
    return {"figures": figures, "points": x[:500].round(3).tolist()}


def ring_denoiser(seed: int) -> dict[str, Any]:
    """A small network learns to denoise a ring, at a constant rate, and draws points with the average of its
    weights."""
    rng, data, process = np.random.default_rng(seed), ring(), Process(linear_schedule(50))
    model = Denoiser(2, 64, waves=4, rng=rng)
    optimizer, ema = AdamW(model.parameters(), lr=1e-2, weight_decay=0.0), EMA(model, 0.99)
    for _ in range(800):
        loss = simple_loss(process, model, data.sample(128, rng).astype(np.float32), rng=rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update()
    ema.copy_to(model)
    learned = numpy_function(model, "cpu")
    above = excess_loss(learned, data, process, 500, seed + 1)[0].mean()
    noise = rng.standard_normal((2000, 2))
    x = last_state(ddim(process, learned, noise))
    distance = sliced_wasserstein(data.sample(2000, rng), x)
    figures = {"loss above the floor": float(above), "distance from the data": distance}
    return {"figures": figures, "points": x[:500].round(3).tolist()}


def guidance(seed: int) -> dict[str, Any]:
    """Points of one class of three, at scales of guidance from 0 to 10, with exact denoisers."""
    rng, data, process = np.random.default_rng(seed), ring(6, 0.35), Process(linear_schedule(50))
    both = [exact_denoiser(mixture, process) for mixture in (data.part([0, 1]), data)]
    noise, truth = rng.standard_normal((1000, 2)), data.part([0, 1]).sample(1000, rng)
    scales, distances = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0], []
    for scale in scales:
        model = lambda x, t, scale=scale: guide(both[0](x, t), both[1](x, t), scale)
        distances.append(sliced_wasserstein(truth, last_state(ddim(process, model, noise))))
    figures = {"distance at scale 1": distances[2], "distance at scale 10": distances[-1]}
    line = {"x": scales, "y": distances, "xlabel": "scale", "ylabel": "distance from p(x | class)"}
    return {"figures": figures, "curve": line}

"""Schedules of long runs, which the tests of the loops cannot check in a few steps: there the warmup takes
less than half of the run. The figures in docs/results were measured with these schedules."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
from by_hand import Loop, flags
from example_runs import module

from tinygen import nn

for package in ("matplotlib", "tqdm", "PIL"):
    pytest.importorskip(package)


class Done(Exception):
    pass


class Idle(nn.Module):
    """In the place of any model: it has weights, and nothing to do before the first step."""

    def __init__(self):
        self.weight = nn.Parameter(np.zeros((1, 1)))

    def restart(self, *_, **__):
        pass


LOOPS = [  # the lowest rate as a part of the highest, and the steps of the warmup, of 1000
    ("diffusion_2d.py", "train", 1 / 100, 100),
    ("gpt_algorithms.py", "train", 1 / 10, 100),
    ("ddpm_digits.py", "train_model", 1 / 10, 100),
    ("inpaint_shapes.py", "train", 1 / 100, 100),
    ("vae_digits.py", "learn_both", 0, 50),
    ("vqvae_shapes.py", "train_model", 1 / 20, 100),
    ("latent_diffusion_shapes.py", "descend", 1 / 50, 100),
    ("lora_finetune.py", "train", 1 / 10, 50),
]


@pytest.mark.parametrize(("file", "name", "lowest", "warmup"), LOOPS)
def test_the_schedule_of_a_long_run(monkeypatch, file, name, lowest, warmup):
    example, asked = module(file), []
    steps = {} if file in ("lora_finetune.py", "latent_diffusion_shapes.py") else {"steps": 1000}
    args = flags(monkeypatch, example, lr=0.5, **steps)

    def schedule(*given):
        asked.append(given)
        raise Done

    monkeypatch.setattr(example, "warmup_cosine", schedule)
    model, run = Idle(), Loop(1000)
    given = dict.fromkeys(("ema", "loss", "process", "task", "test", "tests"))
    given["data"] = SimpleNamespace(pictures=np.zeros((9, 1)))
    given |= {"args": args, "run": run, "model": model, "models": model, "module": model, "optimizer": model}
    given |= {"train": np.zeros((9, 1)), "lr": 0.5, "at": 0, "steps": 1000, "lengths": [1000]}
    given |= {"lab": SimpleNamespace(things={}, step=None)}
    loop = getattr(example, name)
    with pytest.raises(Done):
        loop(*(given[parameter] for parameter in inspect.signature(loop).parameters))
    assert asked == [(0, 0.5, pytest.approx(lowest * 0.5), warmup, 1000)]

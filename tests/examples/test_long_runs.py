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


LOOPS = [  # the lowest rate as a part of the highest, and the steps of the warmup, of 1000 and of 40
    ("diffusion_2d.py", "train", 1 / 100, 100, 20),
    ("gpt_algorithms.py", "train", 1 / 10, 100, 20),
    ("ddpm_digits.py", "train_model", 1 / 10, 100, 20),
    ("inpaint_shapes.py", "train", 1 / 100, 100, 20),
    ("palette_shapes.py", "train", 1 / 100, 100, 20),
    ("vae_digits.py", "learn_both", 0, 50, 20),
    ("vqvae_shapes.py", "train_model", 1 / 20, 100, 20),
    ("latent_diffusion_shapes.py", "descend", 1 / 50, 100, 20),
    ("lora_finetune.py", "train", 1 / 10, 50, 2),
]


@pytest.mark.parametrize("steps", [1000, 40])
@pytest.mark.parametrize(("file", "name", "lowest", "warmup", "of_40"), LOOPS)
def test_the_schedule_of_a_run(monkeypatch, file, name, lowest, warmup, of_40, steps):
    example, asked = module(file), []
    given = {} if file in ("lora_finetune.py", "latent_diffusion_shapes.py") else {"steps": steps}
    args = flags(monkeypatch, example, lr=0.5, **given)

    def schedule(*given):
        asked.append(given)
        raise Done

    monkeypatch.setattr(example, "warmup_cosine", schedule)
    model, run = Idle(), Loop(steps)
    given = dict.fromkeys(("ema", "loss", "process", "task", "test", "tests"))
    given["data"] = SimpleNamespace(pictures=np.zeros((9, 1)))
    given |= {"args": args, "run": run, "model": model, "models": model, "module": model, "optimizer": model}
    given |= {"train": np.zeros((9, 1)), "lr": 0.5, "at": 0, "steps": steps, "lengths": [steps]}
    given |= {"lab": SimpleNamespace(things={}, step=None)}
    loop = getattr(example, name)
    with pytest.raises(Done):
        loop(*(given[parameter] for parameter in inspect.signature(loop).parameters))
    assert asked == [(0, 0.5, pytest.approx(lowest * 0.5), warmup if steps == 1000 else of_40, steps)]

"""From GPT to Llama: the two ends are the library's models, a step written out by hand, the whole run."""

import sys

import numpy as np
import pytest
from by_hand import Loop, Training, flags, log_p, same, warmup_cosine
from example_runs import module, outcome, run_here

from tinygen import nn, no_grad
from tinygen.models import GPT, GPTConfig, Llama, LlamaConfig

for package in ("matplotlib", "tqdm"):
    pytest.importorskip(package)

EXAMPLE = "gpt_to_llama.py"
SMALL = {
    "layers": 1,
    "heads": 3,
    "width": 12,
    "block": 6,
    "batch": 2,
    "steps": 5,
    "seed": 3,
    "evaluations": 2,
}


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


@pytest.fixture(scope="module")
def decoders(example):
    return sys.modules["shared.decoders"]


@pytest.fixture
def sizes(decoders):
    return decoders.Sizes(vocab=11, block=7, layers=2, heads=6, channels=24)


def random_weights(model, rng):
    """The model in float64 with larger weights, so that no part of it is close to 0."""
    model.astype(np.float64)
    for p in model.parameters():
        p.data = 0.5 * rng.standard_normal(p.shape) + (p.ndim == 1)
    return model


def gpt_with_weights_of(model, sizes):
    """The library's GPT with the weights of a decoder without changes."""
    gpt = GPT(GPTConfig(sizes.vocab, sizes.block, sizes.layers, sizes.heads, sizes.channels), rng=0)
    gpt.astype(np.float64)
    gpt.wte.weight.data, gpt.wpe.weight.data = model.wte.weight.data, model.wpe.weight.data
    pairs = [(gpt.ln_f, model.norm)]
    for theirs, ours in zip(gpt.h, model.h, strict=True):
        pairs += [(theirs.ln1, ours.norm1), (theirs.ln2, ours.norm2), (theirs.attn.proj, ours.attn.proj)]
        pairs += [(theirs.mlp.fc, ours.mlp.up), (theirs.mlp.proj, ours.mlp.down)]
        three = (ours.attn.q, ours.attn.k, ours.attn.v)
        theirs.attn.qkv.weight.data = np.concatenate([layer.weight.data for layer in three])
        theirs.attn.qkv.bias.data = np.concatenate([layer.bias.data for layer in three])
    for theirs, ours in pairs:
        theirs.weight.data, theirs.bias.data = ours.weight.data, ours.bias.data
    return gpt


# -- the models ------------------------------------------------------------------------------------


def test_without_changes_it_is_gpt(decoders, sizes):
    rng = np.random.default_rng(0)
    model = random_weights(decoders.Decoder(sizes, 96, (), rng=0), rng)
    gpt, idx = gpt_with_weights_of(model, sizes), rng.integers(0, 11, (2, 7))
    np.testing.assert_allclose(model(idx).data, gpt(idx)[0].data, rtol=1e-12)
    assert model.num_parameters() == gpt.num_parameters()


def test_with_all_changes_it_is_llama(decoders, sizes):
    rng = np.random.default_rng(0)
    model = random_weights(decoders.Decoder(sizes, 40, decoders.CHANGES, rng=0), rng)
    llama = Llama(LlamaConfig(11, 14, 2, 6, 2, 24, hidden=40, tie_weights=True), rng=0).astype(np.float64)
    llama.load_state_dict(model.state_dict() | {"lm_head.weight": model.wte.weight.data})
    idx = rng.integers(0, 11, (2, 14))  # more than are trained
    np.testing.assert_allclose(model(idx).data, llama(idx)[0].data, rtol=1e-12)
    assert model.num_parameters() == llama.num_parameters()


def test_grouped_queries_are_gpt_with_repeated_heads(decoders, sizes):
    rng = np.random.default_rng(0)
    grouped = random_weights(decoders.Decoder(sizes, 48, ("GQA",), rng=0), rng)
    model = decoders.Decoder(sizes, 48, (), rng=0).astype(np.float64)
    state = grouped.state_dict()
    for name in state:
        if ".k." in name or ".v." in name:  # two heads of 4 channels: each of them three times in a row
            first, second = state[name][:4], state[name][4:]
            state[name] = np.concatenate([first, first, first, second, second, second])
    model.load_state_dict(state)
    idx = rng.integers(0, 11, (2, 7))
    np.testing.assert_allclose(grouped(idx).data, model(idx).data, rtol=1e-12)


def test_a_change_alone_changes_its_part_alone(decoders, sizes):
    """By the types of the layers, and by the numbers of parameters that a formula gives."""
    c, t, hidden = sizes.channels, sizes.block, 8
    gpt = decoders.Decoder(sizes, hidden, (), rng=0).num_parameters()
    differences = {
        "RoPE": -t * c,  # no table
        "RMSNorm": -5 * c,  # no bias, in five norms
        "SwiGLU": 2 * (c * hidden + hidden),  # one more matrix in each of two blocks
        "GQA": -2 * 2 * (c * 16 + 16),  # 8 instead of 24 keys and values in each
    }
    for name, difference in differences.items():
        model = decoders.Decoder(sizes, hidden, (name,), rng=0)
        assert model.num_parameters() == gpt + difference, name
        assert (model.wpe is None) == model.h[0].attn.rotates == (name == "RoPE")
        kinds = {type(layer) for layer in (model.norm, model.h[1].norm1, model.h[1].norm2)}
        assert kinds == {nn.RMSNorm if name == "RMSNorm" else nn.LayerNorm}
        assert isinstance(model.h[1].mlp, nn.SwiGLU) == (name == "SwiGLU")
        assert model.h[1].attn.kv_heads == (2 if name == "GQA" else 6)
    with pytest.raises(IndexError):
        decoders.Decoder(sizes, hidden, ("SwiGLU",), rng=0)(np.zeros((1, t + 1), int))


def test_the_start_is_that_of_gpt(decoders, sizes):
    """N(0, 0.02²), less for what is added to the stream, and no bias."""
    model = decoders.Decoder(sizes._replace(channels=96, layers=8), 64, ("SwiGLU",), rng=0)
    for name, p in model.named_parameters():
        if p.ndim == 2:
            std = 0.02 / (4 if name.endswith(("proj.weight", "down.weight")) else 1)
            np.testing.assert_allclose(p.data.std(), std, rtol=0.1, err_msg=name)
        else:
            np.testing.assert_array_equal(p.data, float("norm" in name and name.endswith("weight")))


def test_all_have_equally_many_parameters(example, decoders):
    """At the default size. No other width would be closer."""
    sizes = decoders.Sizes(vocab=103, block=64, layers=4, heads=6, channels=96)
    wanted = decoders.Decoder(sizes, 4 * 96, (), rng=0).num_parameters()
    assert decoders.equal_hidden(sizes, ()) == 4 * 96
    for changes in example.VARIANTS.values():
        hidden = decoders.equal_hidden(sizes, changes)
        apart = [
            abs(decoders.Decoder(sizes, hidden + more, changes, rng=0).num_parameters() / wanted - 1)
            for more in (-8, 0, 8)
        ]
        assert min(apart) == apart[1] < 0.01


@pytest.mark.parametrize("kind", ["GPT", "Llama"])
def test_the_bytes_of_the_cache_are_those_of_the_library(decoders, sizes, kind):
    if kind == "GPT":
        model = GPT(GPTConfig(11, 7, 2, 6, 24), rng=0)
    else:
        model = Llama(LlamaConfig(11, 7, 2, 6, 2, 24), rng=0)
    caches = [nn.KVCache(7) for _ in model.h]
    with no_grad():
        model.features(np.zeros((1, 1), int), caches)
    taken = sum(x.numpy().nbytes for cache in caches for x in cache.contents())
    changes = () if kind == "GPT" else decoders.CHANGES
    assert decoders.Decoder(sizes, 8, changes, rng=0).cache_bytes() == taken


# -- the steps -------------------------------------------------------------------------------------


def test_the_steps(monkeypatch, example):
    """All models see the same batches. The held-out loss counts each window's second half."""
    args, loop = flags(monkeypatch, example, lr=0.02, **SMALL), Loop(5)
    rng = np.random.default_rng(0)
    text, held_out = rng.integers(0, 11, 60), rng.integers(0, 11, 25)
    names = ("GPT", "GPT with SwiGLU", "Llama")
    learners = {name: example.Learner(name, 11, args) for name in names}
    copies = {}
    for name, learner in learners.items():
        learner.model.astype(np.float64)
        copies[name] = example.Learner(name, 11, args).model.astype(np.float64)
        same(learner.model, copies[name])
    example.train(text, held_out, learners, args, loop)

    decay = lambda p: 0.1 if p.ndim == 2 else 0.0
    trainings = {
        name: Training(copy, betas=(0.9, 0.99), clip=1.0, decay=decay) for name, copy in copies.items()
    }
    rng, rows, largest = np.random.default_rng(4), [], []
    windows = np.arange(0, 25 - 6, 3)[:, None] + np.arange(7)
    for step in range(5):
        places = rng.integers(60 - 6, size=2)[:, None] + np.arange(7)
        x, y = text[places[:, :-1]], text[places[:, 1:]]
        rate = warmup_cosine(step, 0.02, 0.001, 2, 5)
        losses = [trainings[name].step(-np.mean(log_p(copies[name](x), y)), rate) for name in names]
        largest.append(max(losses))
        if step % 2:
            x, y = held_out[windows[:, :-1]], held_out[windows[:, 1:]]
            found = {name: -np.mean(log_p(copies[name](x).data, y)[:, 3:]) for name in names}
            rows.append({"step": step + 1, **found})
    for name, learner in learners.items():
        same(learner.model, copies[name])
    np.testing.assert_allclose(loop.losses(), largest, rtol=1e-9)
    assert [row.keys() for row in loop.rows] == [row.keys() for row in rows]
    for name in ("step", *names):
        np.testing.assert_allclose(loop.column(name), [row[name] for row in rows], rtol=1e-9)
    assert {*loop.things} == {"batches", *names, *(f"{name}: optimizer" for name in names)}


def test_each_model_has_its_own_rate(monkeypatch, example):
    args = flags(monkeypatch, example, **SMALL)
    assert {name: example.Learner(name, 11, args).lr for name in example.VARIANTS} == example.RATES
    args = flags(monkeypatch, example, lr=0.5, **SMALL)
    assert example.Learner("Llama", 11, args).lr == 0.5


def test_timed_steps_change_no_weight(monkeypatch, example):
    args = flags(monkeypatch, example, **SMALL)
    learners = {name: example.Learner(name, 11, args) for name in ("GPT", "Llama")}
    before = {name: learner.model.state_dict() for name, learner in learners.items()}
    before = {name: {key: x.copy() for key, x in state.items()} for name, state in before.items()}
    clock = iter([1.0, 1.5, 2.0, 2.25, 3.0, 3.5, 4.0, 5.0])
    monkeypatch.setattr(example.time, "perf_counter", lambda: next(clock))
    x = np.zeros((2, 6), int)
    times = example.take_turns(learners, x, x, 2)
    assert {name: each.tolist() for name, each in times.items()} == {"GPT": [500, 500], "Llama": [250, 1000]}
    for name, learner in learners.items():
        same(learner.model.state_dict(), before[name], 0)


# -- the whole run ---------------------------------------------------------------------------------

TINY = [
    "--layers",
    1,
    "--heads",
    3,
    "--width",
    6,
    "--block",
    4,
    "--batch",
    2,
    "--steps",
    6,
    "--save-every",
    2,
]


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, capsys, example):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. " * 30)
    tiny = [*TINY, "--evaluations", 3, "--rounds", 1, "--data", text]
    run_here(monkeypatch, example, *tiny, "--out", tmp_path / "whole")
    parts = ("--out", tmp_path / "parts", *tiny)
    assert run_here(monkeypatch, example, *parts, stop_after=3) == 130
    assert "--resume" in capsys.readouterr().err
    run_here(monkeypatch, example, *parts, "--resume")

    def without_times(folder):
        metrics, weights, figures = outcome(folder)
        rows = [
            row for row in figures.pop("table") if "time" not in row["name"] and "milli" not in row["name"]
        ]
        return metrics, weights, figures | {"table": rows}

    assert without_times(tmp_path / "whole") == without_times(tmp_path / "parts")
    assert (tmp_path / "whole" / "gains.png").read_bytes().startswith(b"\x89PNG")


def test_a_part_of_the_text(monkeypatch, tmp_path, example):
    """Training takes the first 80 %, the judgement the last tenth, or the one before to choose rates."""
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(97 + i) * 100 for i in range(10)))
    for part, letter in (("test", "j"), ("choice", "i")):
        seen = {}
        monkeypatch.setattr(
            example, "train", lambda text, held_out, *_, seen=seen: seen.update(a=text, b=held_out)
        )
        monkeypatch.setattr(example.Run, "model", lambda *_: 1 / 0)
        args = flags(monkeypatch, example, data=text, part=part, out=tmp_path / "out", **SMALL)
        with pytest.raises(ZeroDivisionError):
            example.main(args)
        assert np.array_equal(np.unique(seen["a"]), np.arange(8))
        assert np.array_equal(seen["b"], np.full(100, ord(letter) - 97))

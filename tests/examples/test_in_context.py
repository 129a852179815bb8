"""Learning in context: the loop by hand, the parts of the decoder, and measurements of models whose answers
and attention are known."""

import copy
import sys

import numpy as np
import pytest
from by_hand import Loop, Training, flags, log_p, same, warmup_cosine
from example_runs import module, outcome, require_pictures, require_same_from, run

from tinygen import Tensor
from tinygen.data.linear_functions import LinearFunctions
from tinygen.models import GPT, GPTConfig

for package in ("matplotlib", "tqdm"):
    pytest.importorskip(package)

EXAMPLE = "in_context.py"
SMALL = {"dim": 2, "layers": 1, "channels": 8, "batch": 8, "seed": 4, "lr": 0.01}


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


@pytest.fixture(scope="module")
def shared(example):
    return sys.modules["shared.contexts"]


# -- the loop --------------------------------------------------------------------------------------


def test_the_steps(monkeypatch, example, shared):
    """The curriculum: x has one dimension and three pairs in the first step of twenty, two and five from the
    second on. Copying is trained in the first two steps, and measured in the first and the last of them."""
    args = flags(monkeypatch, example, steps=20, copy_steps=2, **SMALL)
    noises = {"without noise": 0.0, "with noise": 0.5}
    rng = np.random.default_rng(0)
    models = {name: shared.PairDecoder(2, 5, 1, 4, 8, rng=rng) for name in noises}
    models["copying"] = GPT(GPTConfig(32, 48, 2, 4, 8), rng=rng)
    models = {name: model.astype(np.float64) for name, model in models.items()}
    others = copy.deepcopy(models)
    learners = {name: example.Learner(models[name], 0.01, 20) for name in noises}
    learners["copying"] = example.Learner(models["copying"], 0.01, 2)
    loop = Loop(20)
    monkeypatch.setattr(loop, "loop", lambda *_: range(3))
    example.train(learners, noises, args, loop)

    rng, losses = np.random.default_rng(5), {name: [] for name in others}
    trainings = {name: Training(model, betas=(0.9, 0.98), clip=1.0) for name, model in others.items()}
    for step in range(3):
        dims = 1 if step == 0 else 2
        x = rng.standard_normal((8, 2 * dims + 1, 2), np.float32)
        x[:, :, dims:] = 0
        for name, noise in noises.items():
            w = rng.standard_normal((8, 2, 1))
            y = (x.astype(np.float64) @ w)[..., 0] + noise * rng.standard_normal((8, 2 * dims + 1))
            y = y.astype(np.float32)
            loss = np.mean((others[name](x, y) - y) ** 2)
            losses[name].append(trainings[name].step(loss, 0.01 * warmup_cosine(step, 1.0, 0.0, 0, 20)))
        if step < 2:
            text, targets, _ = shared.repeated_texts(2, rng=rng)
            log_probs = log_p(others["copying"](text)[0], np.maximum(targets, 0))
            loss = -np.sum(log_probs * (targets >= 0)) / np.sum(targets >= 0)
            losses["copying"].append(trainings["copying"].step(loss, warmup_cosine(step, 0.01, 0.0, 0, 2)))
    for name, model in models.items():
        same(model, others[name], 1e-6)
        np.testing.assert_allclose(loop.column(name), losses[name], rtol=1e-7)
    assert [("right" in row) for row in loop.rows] == [True, True, False]
    assert loop.losses() == loop.column("without noise")
    assert loop.stages == ["copying", "pairs"] * 2


# -- the decoder of pairs --------------------------------------------------------------------------


def test_a_prediction_sees_its_x_and_the_pairs_before_it(shared):
    model = shared.PairDecoder(3, 6, 2, 4, 8, rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 6, 3), np.float32), rng.standard_normal((2, 6), np.float32)
    before = model(x, y).numpy()
    assert before.shape == (2, 6)
    for array, first in ((x, 3), (y, 4)):  # y_3 is what position 3 predicts
        changed = array.copy()
        changed[:, 3] += 1.0
        after = model(*((changed, y) if array is x else (x, changed))).numpy()
        np.testing.assert_array_equal(after[:, :first], before[:, :first])
        assert np.all(after[:, first:] != before[:, first:])


def test_the_decoder_by_its_parts(shared):
    model = shared.PairDecoder(2, 3, 1, 4, 8, rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((1, 2, 2), np.float32), np.array([[5.0, 7.0]], np.float32)
    rows = np.array([x[0, 0], [5.0, 0.0], x[0, 1], [7.0, 0.0]], np.float32)
    h = rows @ model.read_in.weight.data.T + model.read_in.bias.data + model.positions.data[:4]
    h = model.norm(model.blocks[0](h[None])).numpy()[:, ::2]
    wanted = h @ model.read_out.weight.data[0] + model.read_out.bias.data
    np.testing.assert_allclose(model(x, y).numpy(), wanted, rtol=1e-5)


# -- what is measured ------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_errors_of_known_answers(shared, noise):
    """The best answers have no error above the best; 0 and twice the best have the same. A measured error is
    near the error on y itself."""
    f = LinearFunctions(3, noise)
    x = np.random.default_rng(0).standard_normal((3000, 7, 3))
    best = shared.squared_errors(lambda x, y: Tensor(f.predictions(x, y)[0]), f, x, "cpu", rng=1)
    twice = shared.squared_errors(lambda x, y: Tensor(2 * f.predictions(x, y)[0]), f, x, "cpu", rng=1)
    np.testing.assert_allclose(best["model"], best["best"], atol=1e-6)
    np.testing.assert_allclose(twice["model"], twice["zero"], rtol=1e-6)
    y = f.answer(x, rng=1)
    np.testing.assert_allclose(best["zero"], np.mean(y**2, axis=0) / 3, rtol=0.15)
    if noise == 0:
        np.testing.assert_allclose(best["best"], [1, 2 / 3, 1 / 3, 0, 0, 0, 0], atol=0.05)


def test_kinds_of_inputs(shared):
    """The same mean square as in training, except of the one that is twice as large."""
    x = np.ones((1, 1, 4))
    made = {kind: change(x)[0, 0] for kind, change in shared.INPUTS.items()}
    squares = {kind: np.mean(each**2) for kind, each in made.items()}
    assert [*squares.values()] == pytest.approx([1, 1, 1, 4])
    np.testing.assert_allclose(made[", skewed x"] / made[", skewed x"][0], [1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(made[", x in half of the dimensions"], [np.sqrt(2), np.sqrt(2), 0, 0])
    np.testing.assert_array_equal(shared.half(1), [1.0])
    errors = shared.errors_of_kinds(lambda x, y: Tensor(0 * y), LinearFunctions(2), 3, "cpu", rng=0)
    assert [*errors] == [*shared.INPUTS]


def test_texts_with_repeats(shared):
    text, targets, periods = shared.repeated_texts(50, rng=np.random.default_rng(0))
    assert text.shape == targets.shape == (50, 48)
    assert (periods.min(), periods.max()) == (8, 24)
    for row, target, period in zip(text, targets, periods, strict=True):
        assert len(set(row[:period])) == period
        np.testing.assert_array_equal(row[period:], row[:-period])
        np.testing.assert_array_equal(target[: period - 1], -1)
        np.testing.assert_array_equal(target[period - 1 : -1], row[period:])
        assert target[-1] == row[48 - period]


def test_weights_of_the_attention(shared):
    """Their product with the values is what the layer computes."""
    model = GPT(GPTConfig(32, 48, 2, 4, 8), rng=0)
    for name, p in model.named_parameters():
        p.data *= 10 if name.endswith("qkv.weight") else 1
    idx = np.random.default_rng(0).integers(0, 32, (3, 48))
    first, second = shared.attention_weights(model, idx)
    assert first.shape == second.shape == (3, 4, 48, 48)
    x = model.wte(idx) + model.wpe(np.arange(48))
    for block, weights in zip(model.h, (first, second), strict=True):
        attn = block.attn
        values = attn.qkv(block.ln1(x)).numpy()[..., 16:].reshape(3, 48, 4, 2).transpose(0, 2, 1, 3)
        merged = (weights @ values).transpose(0, 2, 1, 3).reshape(3, 48, 8)
        wanted = merged @ attn.proj.weight.data.T + attn.proj.bias.data
        np.testing.assert_allclose(attn(block.ln1(x)).numpy(), wanted, rtol=1e-4, atol=1e-6)
        x = block(x)


def test_scores_of_known_heads(shared, monkeypatch):
    """Heads that look at the token after the first place, at the first place, at themselves, and everywhere;
    a model that copies, but not in every second text."""
    text, targets, periods = shared.repeated_texts(40, rng=np.random.default_rng(1))
    t = np.arange(48)
    looks = np.zeros((40, 4, 48, 48))
    for i, period in enumerate(periods):
        for head, place in enumerate((t - period + 1, t - period, t)):
            looks[i, head, t, np.maximum(place, 0)] = 1
    looks[:, 3] = np.tril(np.ones((48, 48))) / (t[:, None] + 1)
    monkeypatch.setattr(shared, "attention_weights", lambda *_: [looks, looks[:, ::-1]])
    answers = np.where(np.arange(40)[:, None] % 2 == 0, targets, (targets + 1) % 32)
    found = shared.measure_copies(lambda idx: (Tensor(np.eye(32)[answers]), None), text, targets, periods)
    scores = [found[head] for head in shared.HEADS]
    assert scores[:3] == [1, 0, 0]
    assert 0.02 < scores[3] < 0.06
    assert scores[4:] == scores[3::-1]
    assert found["right"] == pytest.approx(np.mean((targets >= 0)[::2]) / np.mean(targets >= 0) / 2)


# -- the run ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_run_and_the_same_one_resumed(tmp_path):
    """Resumed after it lost its last 20 steps, as if it had been killed at step 20."""
    given = ["--steps", 40, "--copy-steps", 30, "--out", tmp_path / "out", "--dim", 2, "--save-every", 20]
    given += ["--channels", 8, "--layers", 1, "--batch", 8]
    done = run(EXAMPLE, *given)
    assert done.returncode == 0, done.stderr
    result = outcome(tmp_path / "out")[2]
    assert len(result["table"]) == 11
    assert all(np.isfinite(row["measured"]) for row in result["table"])
    require_pictures(tmp_path / "out", "errors", "heads")
    require_same_from(20, tmp_path / "out", EXAMPLE, *given)

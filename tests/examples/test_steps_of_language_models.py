"""The training loops of the language models, step by step, compared with the same training written out by
hand: the batches, the tokens that count in the loss, the learning rate, clipping, weight decay, and the
update."""

import copy
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from by_hand import Loop, Training, exact, flags, log_p, same, warmup_cosine
from example_runs import module

from tinygen import tape
from tinygen.data.reviews import Reviews
from tinygen.models.language.gpt import GPT, GPTConfig

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")


def decay(rate):
    """Of matrices alone."""
    return lambda p: rate if p.ndim >= 2 else 0.0


# -- gpt_text --------------------------------------------------------------------------------------

TEXT = {"layers": 1, "heads": 2, "width": 8, "block": 5, "batch": 3, "steps": 5, "warmup": 2, "lr": 0.02}
TEXT |= {"min_lr": 0.004, "beta2": 0.9, "weight_decay": 0.3, "clip": 0.2, "eval_every": 3}


@pytest.mark.parametrize(("warmup", "warmed"), [(1, 1), (3, 2)])
def test_gpt_text(monkeypatch, warmup, warmed):
    """The warmup takes at most half of the steps. A step takes 0.5 seconds here."""
    example = module("gpt_text.py")
    args = flags(monkeypatch, example, **{**TEXT, "warmup": warmup}, eval_batches=2)
    ids = np.random.default_rng(0).integers(7, size=60)
    model, other = exact(GPT(GPTConfig(7, 5, 1, 2, 8, bias=False), rng=np.random.default_rng(1)))
    run, clock = Loop(args.steps), itertools.count(step=0.5)
    monkeypatch.setattr(example, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert example.train_model(model, ids[:50], ids[50:], args, run) == pytest.approx(3 * 5 / 0.5)
    assert {note for _, note in run.shown} == {", 30 tokens/s"}

    seen = example.evaluate(other, ids[:50], ids[50:], args, np.random.default_rng(args.seed + 2))
    assert run.rows[0] == {"step": 0, "train_loss": seen[0], "val_loss": seen[1]}
    rng = np.random.default_rng(args.seed + 1)
    training = Training(other, betas=(0.9, 0.9), clip=0.2, decay=decay(0.3))
    losses = []
    for step in range(5):
        places = rng.integers(50 - 5, size=(3, 1)) + np.arange(5)
        logits, _ = other(ids[places])
        loss = -np.mean(log_p(logits, ids[places + 1]))
        losses.append(training.step(loss, warmup_cosine(step, 0.02, 0.004, warmed, 5)))
    same(model, other)
    assert run.column("step") == [0, 0, 1, 2, 3, 3, 4, 5]
    assert [row["step"] for row in run.rows if "val_loss" in row] == [0, 3, 5]
    assert run.score == run.rows[-1]["val_loss"]
    assert run.lines[-1] == "step     5   train {train_loss:.4f}   validation {val_loss:.4f} nats".format(
        **run.rows[-1]
    )
    np.testing.assert_allclose(run.column("batch_loss"), losses, rtol=1e-9)
    assert run.losses() == run.column("batch_loss")


def test_the_losses_that_gpt_text_reports(monkeypatch):
    """Of all the text in pieces that start without a context; or of random pieces."""
    example = module("gpt_text.py")
    args = flags(monkeypatch, example, **TEXT, eval_batches=2)
    ids = np.random.default_rng(0).integers(7, size=340)  # 67 pieces: two batches of 64 at most
    model, _ = exact(GPT(GPTConfig(7, 5, 1, 2, 8), rng=np.random.default_rng(1)))
    pieces = np.arange(67 * 5).reshape(67, 5)
    wanted = -np.mean(log_p(model(ids[pieces])[0].data, ids[pieces + 1]))
    assert example.whole_loss(model, ids, 5) == pytest.approx(wanted, rel=1e-12)

    rng = np.random.default_rng(3)
    wanted = []
    for text in (ids[:300], ids[300:]):
        places = [rng.integers(len(text) - 5, size=(3, 1)) + np.arange(5) for _ in range(2)]
        wanted.append(np.mean([-np.mean(log_p(model(text[p])[0].data, text[p + 1])) for p in places]))
    got = example.evaluate(model, ids[:300], ids[300:], args, np.random.default_rng(3))
    np.testing.assert_allclose(got, wanted, rtol=1e-12)
    assert model.training
    args.eval_batches = 0
    got = example.evaluate(model, ids[:300], ids[300:], args, np.random.default_rng(3))
    np.testing.assert_allclose(got, [example.whole_loss(model, x, 5) for x in (ids[:40], ids[300:])])


# -- gpt_algorithms --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sorting", "addition"])
def test_gpt_algorithms(monkeypatch, name):
    """Only the answer counts."""
    example = module("gpt_algorithms.py")
    args = flags(monkeypatch, example, task=name, batch=3, steps=4, lr=0.02)
    task = example.TASKS[name]()
    config = GPTConfig(task.vocab_size, task.block_size, 1, 2, 8)
    model, other = exact(GPT(config, rng=np.random.default_rng(1)))
    run, losses = Loop(4), []
    example.train(model, task, args, run)

    rng = np.random.default_rng(args.seed + 1)
    training = Training(other, betas=(0.9, 0.95), clip=1.0, decay=decay(0.1))
    for step in range(4):
        prompts = task.train[rng.integers(len(task.train), size=3)]
        if name == "sorting":
            answers = np.sort(prompts, axis=1)
        else:
            sums = prompts @ [10, 1, 10, 1]
            answers = np.stack([sums % 10, sums // 10 % 10, sums // 100], axis=1)
        texts = np.concatenate([prompts, answers], axis=1)
        logits, _ = other(texts[:, :-1])
        loss = -np.mean(log_p(logits[:, prompts.shape[1] - 1 :], answers))
        losses.append(training.step(loss, warmup_cosine(step, 0.02, 0.002, 2, 4)))
    same(model, other)
    np.testing.assert_allclose(run.column("batch_loss"), losses, rtol=1e-9)
    assert run.losses() == run.column("batch_loss")
    assert run.column("step") == [0, 1, 2, 3]


def test_the_accuracy_of_gpt_algorithms(monkeypatch):
    """Of the unseen inputs, after every 100th step."""
    example = module("gpt_algorithms.py")
    args = flags(monkeypatch, example, task="sorting", batch=3)
    task = example.TASKS["sorting"]()
    model = GPT(GPTConfig(task.vocab_size, task.block_size, 1, 2, 8), rng=1)
    monkeypatch.setattr(example, "accuracy", lambda m, t, x: 0.25 if (m, t) == (model, task) else x)
    run = Loop(300)
    run.loop = lambda things: (98, 99, 100)
    example.train(model, task, args, run)
    assert [row for row in run.rows if "test_accuracy" in row] == [{"step": 99, "test_accuracy": 0.25}]
    assert run.score == 0.75
    right = ", 25.0% of unseen inputs right"
    assert [note for _, note in run.shown] == ["", right, right]


# -- lora_finetune ---------------------------------------------------------------------------------


def words_after_the_first(tokens, end):
    """True for the words from the second to the end, of tokens (B, T): (B, T - 1)."""
    ended = np.array([[end in row[1:t] for t in range(1, len(row))] for row in tokens.tolist()])
    return ~ended


def test_lora_finetune(monkeypatch):
    """Pretraining on all reviews; then from its weights, twice, on those that praise: all weights, and the
    adapters alone. The first word is given."""
    example = module("lora_finetune.py")
    args = flags(
        monkeypatch, example, width=8, rank=2, batch=4, pretraining_steps=3, steps_each=4, eval_every=3
    )
    few = type("Few", (example.Reviews,), {"write": lambda self, n, *more: Reviews().write(n // 100, *more)})
    monkeypatch.setattr(example, "Reviews", few)
    lab = example.Lab(args)
    for model in lab.models:
        model.astype(np.float64)
    others, rng = copy.deepcopy(lab.models), np.random.default_rng()
    rng.bit_generator.state = lab.rng.bit_generator.state
    lengths = [3, 4, 4]
    run, kept_in, keep = Loop(sum(lengths)), [], Loop.model
    monkeypatch.setattr(
        Loop, "model", lambda run, *given: kept_in.append(run.stages[-1]) or keep(run, *given)
    )
    example.train(args, lab, run, lengths)
    assert kept_in == [example.STAGES[1]]

    rates, losses = (args.lr, args.full_lr, args.lora_lr), []
    for k, model in enumerate(others):
        if k:  # what was pretrained, under the names that it has with adapters
            base = dict(others[0].named_parameters())
            for name, p in model.named_parameters():
                if "lora" not in name:
                    p.data = base[name.replace(".base.", ".")].data.copy()
        if k == 1:
            full = {name: p.data.copy() for name, p in others[0].named_parameters()}
        training = Training(model, betas=(0.9, 0.99), clip=1.0)
        texts = lab.texts[min(k, 1)]
        assert k == 0 or np.all(example.sentiment(texts) > 0)
        for step in range(lengths[k]):
            tokens = texts[rng.integers(len(texts), size=4)]
            counts = words_after_the_first(tokens, example.STOP)
            each = log_p(model(tokens[:, :-1])[0], tokens[:, 1:])
            loss = -(each * counts).sum() / counts.sum()
            losses.append(training.step(loss, warmup_cosine(step, rates[k], 0.1 * rates[k], 0, lengths[k])))
        same(lab.models[k], model)
    same(lab.models[0], full)  # fine-tuning leaves it as it was
    same({name: x for name, x in run.kept["pretraining"].items() if name in full}, full)
    assert run.stages == [stage for stage, n in zip(example.STAGES, lengths, strict=True) for _ in range(n)]
    assert [note for _, note in run.shown] == [f", {stage}" for stage in run.stages]
    np.testing.assert_allclose(run.losses(), losses, rtol=1e-9)
    for k, stage in enumerate(example.STAGES[1:], 1):
        assert [row["step"] for row in run.rows if stage in row] == [0, 3, 4]
        assert run.rows[3 * k - 1][stage] == lab.held_out_loss(lab.models[k])
    assert len(run.rows) == 6
    adapted = {name for name, p in lab.models[2].named_parameters() if p.requires_grad}
    assert adapted == {name for name, _ in lab.models[2].named_parameters() if "lora" in name}
    assert next(row for row in run.rows if "full" in row)["step"] == 0
    held = example.Lab.held_out_loss(lab, lab.models[1])
    tokens = lab.held_out
    counts = words_after_the_first(tokens, example.STOP)
    wanted = -log_p(lab.models[1](tokens[:, :-1])[0].data, tokens[:, 1:])[counts].mean()
    assert held == pytest.approx(wanted, rel=1e-9)
    recorded = []
    monkeypatch.setattr(tape, "Node", lambda op, *_: recorded.append(op))
    lab.held_out_loss(lab.models[1])
    assert not recorded

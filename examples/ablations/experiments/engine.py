"""Experiments for the engine and the optimizers: small networks of NumPy calls and ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen import Tensor, nn, no_grad, ops
from tinygen.optim import SGD, Adam, AdamW, clip_grad_norm


def curve(y: list[float], ylabel: str, **more: Any) -> dict[str, Any]:
    """A curve over the steps, for the picture."""
    return {"x": [*range(len(y))], "y": y, "xlabel": "step", "ylabel": ylabel, **more}


def spirals(n: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Points (n, 2) on three arms of a spiral, and the arms' numbers (n,)."""
    arm, radius = rng.integers(3, size=n), rng.uniform(0.1, 1, n)
    angle = 2 * np.pi * arm / 3 + 6 * radius + 0.2 * rng.standard_normal(n)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return x.astype(np.float32), arm


def residual_network(seed: int) -> dict[str, Any]:
    """A residual network learns the arms of a spiral by SGD. Its biases are added by broadcasting, and each
    block uses its input twice."""
    rng = np.random.default_rng(seed)
    x, arm = spirals(600, rng)
    shapes: dict[str, tuple[int, ...]] = {"in": (2, 32), "out": (32, 3)}
    shapes |= {f"w{i}": (32, 32) for i in range(4)} | {f"b{i}": (32,) for i in range(4)}
    p = {}
    for name, shape in shapes.items():
        scale = shape[0] ** -0.5 if len(shape) == 2 else 0.0
        p[name] = nn.Parameter((scale * rng.standard_normal(shape)).astype(np.float32))

    def loss_of(p: Any) -> Any:
        h = 2 * x @ p["in"]
        for i in range(4):
            h = h + np.tanh(h @ p[f"w{i}"] + p[f"b{i}"])
        return ops.cross_entropy(h @ p["out"], arm)

    optimizer, losses = SGD(p.values(), lr=0.2), []
    error = gradient_error(loss_of, p, rng)
    for _ in range(100):
        loss = loss_of(p)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    figures = {"loss after 100 steps": losses[-1], "relative error of the gradient": error}
    return {
        "figures": figures,
        "curve": curve(losses, "cross-entropy, nats", levels={"guess": np.log(3)}, log=True),
    }


def gradient_error(loss_of: Any, p: dict[str, Any], rng: np.random.Generator) -> float:
    """The largest |slope - difference quotient| / |difference quotient| over the parameters, in float64, each
    along a random direction."""
    worst = 0.0
    for name in p:
        q: dict[str, Any] = {
            key: Tensor(value.data.astype(np.float64), requires_grad=True) for key, value in p.items()
        }
        direction, h = rng.standard_normal(q[name].shape), 1e-5
        loss_of(q).backward()
        slope, ends = 0.0 if q[name].grad is None else np.sum(q[name].grad * direction), []
        for sign in (1, -1):
            with no_grad():
                ends.append(loss_of({**q, name: Tensor(q[name].data + sign * h * direction)}).item())
        quotient = (ends[0] - ends[1]) / (2 * h)
        worst = max(worst, abs(slope - quotient) / abs(quotient))
    return float(worst)


def large_inputs(seed: int) -> dict[str, Any]:
    """A linear classifier of two clouds with coordinates in the hundreds, like pixels from 0 to 255. Its loss
    is the squared error of the probabilities."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=400)
    x = (100 * rng.standard_normal((400, 64)) + 40 * (2 * label[:, None] - 1)).astype(np.float32)
    model, losses = nn.Linear(64, 2, rng=rng), []
    optimizer = Adam(model.parameters(), lr=1e-3)
    for _ in range(100):
        loss = ops.mse(ops.softmax(model(x)), np.eye(2, dtype=np.float32)[label])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    right = float(np.mean(model(x).numpy().argmax(axis=1) == label))
    figures = {"share of right answers": right, "loss after 100 steps": losses[-1]}
    return {"figures": figures, "curve": curve(losses, "squared error")}


def offset(seed: int) -> dict[str, Any]:
    """Linear regression by gradient descent: y = x w + 5. The bias is one number, and broadcast to all of 500
    examples."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((500, 3)).astype(np.float32)
    y = (x @ rng.standard_normal(3) + 5).astype(np.float32)
    w, b = nn.Parameter(np.zeros(3, np.float32)), nn.Parameter(np.zeros(1, np.float32))
    optimizer, losses = SGD([w, b], lr=0.1), []
    for _ in range(60):
        loss = ops.mse(x @ w + b, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    figures = {"loss after 60 steps": losses[-1], "the bias, which is 5": b.numpy().item()}
    return {"figures": figures, "curve": curve(losses, "squared error", log=True)}


def long_memory(seed: int) -> dict[str, Any]:
    """A plain recurrent network adds two marked numbers of a sequence of ten, by SGD."""
    rng = np.random.default_rng(seed)
    layers, head, t = nn.RNN(2, 32, rng=rng), nn.Linear(32, 1, rng=rng), 10
    layers.layers[0].weight_hh.data *= 2
    params = [*layers.parameters(), *head.parameters()]
    optimizer, losses = SGD(params, lr=0.1), []
    for _ in range(500):
        numbers, marks = rng.random((32, t)), np.zeros((32, t))
        for row in marks:
            row[rng.choice(t, 2, replace=False)] = 1
        h, _ = layers(np.stack([numbers, marks], axis=2).astype(np.float32))
        target = (numbers * marks).sum(axis=1, keepdims=True).astype(np.float32)
        loss = ops.mse(head(h[:, -1]), target)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(params, 1.0)
        optimizer.step()
        losses.append(loss.item())
    figures = {"mean loss of the last 100 steps": float(np.mean(losses[-100:])), "highest loss": max(losses)}
    return {"figures": figures, "curve": curve(losses, "squared error", log=True)}


def absent_words(seed: int) -> dict[str, Any]:
    """A bigram model of 40 words learns a text, and then is tuned on a text with only half of the words, by
    AdamW with a small weight decay. What is left of the vectors of the other half?"""
    rng = np.random.default_rng(seed)
    vectors, out = nn.Embedding(40, 16, rng=rng), nn.Linear(16, 40, rng=rng)
    successor = rng.permutation(40)
    params, lengths = [*vectors.parameters(), *out.parameters()], []
    absent, before = slice(20, 40), np.zeros(0)
    for step in range(600):
        if step % 300 == 0:
            optimizer = AdamW(params, lr=1e-2, weight_decay=0.01)
            before = vectors.weight.numpy()[absent].copy()
        words = rng.integers(40 if step < 300 else 20, size=64)
        loss = ops.cross_entropy(out(vectors(words)), successor[words])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lengths.append(float(np.linalg.norm(vectors.weight.numpy()[absent])))
    left = lengths[-1] / float(np.linalg.norm(before))
    right = out(vectors(np.arange(20, 40))).numpy().argmax(axis=1) == successor[20:]
    figures = {
        "length of the absent words' vectors, share left": left,
        "successors of absent words, share right": float(right.mean()),
    }
    return {"figures": figures, "curve": curve(lengths, "length of the vectors")}

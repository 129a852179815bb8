# ruff: noqa: E501 (a case is one line)
"""Cases of activations, normalisation, attention and losses."""

from collections.abc import Callable
from typing import Any

import numpy as np
from optable import Case, distinct, normal, off_zero, rng, unary

from tinygen import ops

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = F = None

# -- activations, norms, attention -----------------------------------------------------------------


def dropped(p: float) -> Callable[..., Any]:
    """With the same draws in every call."""
    return lambda x: ops.dropout(x, p, np.random.default_rng(7))


ACTIVATION = [
    *unary("relu", ops.relu, "relu", off_zero),
    *unary("leaky_relu", ops.leaky_relu, lambda x: F.leaky_relu(x), off_zero),
    Case("leaky_relu-slope", lambda x: ops.leaky_relu(x, 0.3), (off_zero(normal(2, 3)),), lambda x: F.leaky_relu(x, 0.3)),
    *unary("gelu", ops.gelu, lambda x: F.gelu(x)),
    *unary("gelu tanh", lambda x: ops.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh")),
    *unary("silu", ops.silu, lambda x: F.silu(x)),
    *unary("softplus", ops.softplus, lambda x: F.softplus(x), off_zero),
    *unary("log_sigmoid", ops.log_sigmoid, lambda x: F.logsigmoid(x), off_zero),
    *[
        Case(f"{name}-{x.shape} {axis} {what}", lambda x, f=f, axis=axis: f(x, axis=axis), (x,), lambda x, g=g, axis=axis: getattr(torch, g)(x, axis))
        for name, f, g in [("softmax", ops.softmax, "softmax"), ("log_softmax", ops.log_softmax, "log_softmax")]
        for x, axis, what in [
            (normal(3), -1, ""), (normal(2, 3), 0, ""), (normal(2, 2, 3), 1, ""), (normal(2, 1, 3), 1, ""),
            (normal(2, 1, 2, 2), -1, ""), (normal(0, 3), -1, ""), (normal(2, 3).T, -1, "transposed"),
            (np.broadcast_to(normal(3), (2, 3)), 0, "stride 0"), (normal(2, 3) * 50, -1, "large"),
        ]
    ],
    Case("dropout", dropped(0.4), (normal(3, 2, 2),)),
    Case("dropout-0", dropped(0.0), (normal(3, 2),), lambda x: x * 1),
    Case("dropout-strides", dropped(0.4), (normal(4, 3).T[:, ::-2],)),
]  # fmt: skip

NORM = [
    *[
        Case(f"layer_norm-{x.shape} {what}", ops.layer_norm, (x, normal(3), normal(3)), lambda x, w, b: F.layer_norm(x, (3,), w, b))
        for x, what in [(normal(3), ""), (normal(2, 3), ""), (normal(2, 1, 2, 3), ""), (normal(0, 3), ""), (normal(3, 2).T, "transposed"), (normal(2, 6)[::-1, ::2], "cut out")]
    ],
    Case("layer_norm-without bias", lambda x, w: ops.layer_norm(x, w), (normal(2, 3), normal(3)), lambda x, w: F.layer_norm(x, (3,), w)),
    Case("layer_norm-eps", lambda x, w, b: ops.layer_norm(x, w, b, eps=0.3), (normal(2, 3), normal(3), normal(3)), lambda x, w, b: F.layer_norm(x, (3,), w, b, eps=0.3)),
    *[
        Case(f"rms_norm-{x.shape} {what}", ops.rms_norm, (x, normal(3)), lambda x, w: F.rms_norm(x, (3,), w, eps=1e-6))
        for x, what in [(normal(3), ""), (normal(2, 3), ""), (normal(2, 1, 2, 3), ""), (normal(0, 3), ""), (normal(3, 2).T, "transposed")]
    ],
    Case("group_norm", lambda x, w, b: ops.group_norm(x, 2, w, b), (normal(2, 4, 2), normal(4), normal(4)), lambda x, w, b: F.group_norm(x, 2, w, b)),
    Case("group_norm-images", lambda x, w, b: ops.group_norm(x, 1, w, b), (normal(2, 2, 1, 3), normal(2), normal(2)), lambda x, w, b: F.group_norm(x, 1, w, b)),
    Case("group_norm-no positions", lambda x, w, b: ops.group_norm(x, 2, w, b), (normal(2, 6), normal(6), normal(6)), lambda x, w, b: F.group_norm(x, 2, w, b)),
    Case("group_norm-strides", lambda x, w, b: ops.group_norm(x, 2, w, b), (normal(3, 4, 2).T[..., ::-1], normal(4), normal(4)), lambda x, w, b: F.group_norm(x, 2, w, b)),
    Case("group_norm-empty batch", lambda x, w, b: ops.group_norm(x, 2, w, b), (normal(0, 4, 3), normal(4), normal(4))),
    Case("batch_norm", ops.batch_norm, (normal(3, 2), normal(2), normal(2)), lambda x, w, b: F.batch_norm(x, None, None, w, b, True)),
    Case("batch_norm-images", ops.batch_norm, (normal(2, 2, 1, 3), normal(2), normal(2)), lambda x, w, b: F.batch_norm(x, None, None, w, b, True)),
    Case("batch_norm-strides", ops.batch_norm, (normal(3, 2, 3).T, normal(2), normal(2)), lambda x, w, b: F.batch_norm(x, None, None, w, b, True)),
]  # fmt: skip


def heads(t: int, s: int, *batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return normal(*batch, t, 3), normal(*batch, s, 3), normal(*batch, s, 2)


def torch_attention(q: Any, k: Any, v: Any, mask: Any = None) -> Any:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def torch_causal(q: Any, k: Any, v: Any) -> Any:
    t, s = q.shape[-2], k.shape[-2]
    return torch_attention(q, k, v, torch.ones(t, s, dtype=torch.bool).tril(s - t))


mask = np.array([[True, True, False], [False, True, True]])
ATTENTION = [
    Case("attention", ops.attention, heads(3, 3), torch_attention),
    Case("attention-heads", ops.attention, heads(2, 2, 2, 1), torch_attention),
    Case("attention-cross", ops.attention, heads(2, 3, 2), torch_attention),
    Case("attention-causal", lambda q, k, v: ops.attention(q, k, v, causal=True), heads(3, 3, 2), torch_causal),
    Case("attention-causal with a cache", lambda q, k, v: ops.attention(q, k, v, causal=True), heads(2, 3), torch_causal),
    Case("attention-masked", ops.attention, (*heads(2, 3, 2), mask), torch_attention),
    Case("attention-mask by name", lambda q, k, v, m: ops.attention(q, k, v, mask=m), (*heads(2, 3, 2), mask), torch_attention),
    Case("attention-shared keys", ops.attention, (normal(2, 1, 2, 3), normal(1, 2, 3), normal(1, 2, 2)), torch_attention),
    Case("attention-self", lambda x: ops.attention(x, x, x, causal=True), (normal(3, 2),), lambda x: torch_causal(x, x, x)),
    Case("attention-strides", ops.attention, (normal(3, 2).T, normal(3, 3)[::-1], normal(3, 4)[:, ::2]), torch_attention),
    Case("attention-dropout", lambda q, k, v: ops.attention(q, k, v, dropout=0.3, seed=5), heads(3, 3)),
    Case("attention-no queries", ops.attention, heads(0, 3), torch_attention),
]  # fmt: skip

# -- losses ----------------------------------------------------------------------------------------

targets = np.array([[0, 2], [-100, 3], [2, 2]])
labels = np.array([1, 0, 3])


def torch_cross_entropy(logits: Any, targets: Any, **options: Any) -> Any:
    losses = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), **options)
    return losses.reshape(targets.shape) if options.get("reduction") == "none" else losses


def probabilities(*shape: int) -> np.ndarray:
    z = normal(*shape)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def torch_kl(p: Any, q: Any) -> Any:
    return F.kl_div(q, p, log_target=True, reduction="none").sum(-1)


def torch_kl_gaussian(m: Any, s: Any) -> Any:
    prior = torch.distributions.Normal(torch.zeros_like(m), torch.ones_like(m))
    return torch.distributions.kl_divergence(torch.distributions.Normal(m, (s / 2).exp()), prior)


LOSS = [
    Case("cross_entropy", ops.cross_entropy, (normal(3, 4), labels), torch_cross_entropy),
    Case("cross_entropy-ignore", ops.cross_entropy, (normal(3, 2, 4), targets), torch_cross_entropy),
    *[
        Case(f"cross_entropy-{what}", lambda x, t, k=k: ops.cross_entropy(x, t, **k), (normal(3, 2, 4), targets), lambda x, t, k=k: torch_cross_entropy(x, t, **k))
        for what, k in [
            ("sum", {"reduction": "sum"}), ("none", {"reduction": "none"}), ("smooth", {"label_smoothing": 0.2}),
            ("smooth none", {"label_smoothing": 0.2, "reduction": "none"}),
        ]
    ],
    Case("cross_entropy-ignore 2", lambda x, t: ops.cross_entropy(x, t, ignore_index=1), (normal(3, 4), labels), lambda x, t: torch_cross_entropy(x, t, ignore_index=1)),
    Case("cross_entropy-one row", ops.cross_entropy, (normal(4), np.asarray(2)), lambda x, t: torch_cross_entropy(x[None], t[None])),
    Case("cross_entropy-large logits", ops.cross_entropy, (normal(3, 4) * 100, labels), torch_cross_entropy),
    Case("cross_entropy-strides", ops.cross_entropy, (normal(4, 3).T[::-1], labels), torch_cross_entropy),
    *[
        Case(f"{name}-{reduction}", lambda x, y, f=f, r=reduction: f(x, y, reduction=r), inputs, lambda x, y, g=g, r=reduction: g(x, y, reduction=r))
        for reduction in ("mean", "sum", "none")
        for name, f, g, inputs in [
            ("mse", ops.mse, lambda *a, **k: F.mse_loss(*a, **k), (normal(2, 1, 3), normal(2, 1, 3))),
            ("l1", ops.l1, lambda *a, **k: F.l1_loss(*a, **k), (distinct(2, 3), distinct(2, 3) + 0.03)),
            ("huber", ops.huber, lambda *a, **k: F.huber_loss(*a, **k), (normal(2, 3) * 2, normal(2, 3))),
            ("bce_with_logits", ops.bce_with_logits, lambda *a, **k: F.binary_cross_entropy_with_logits(*a, **k), (off_zero(normal(2, 2, 2)), rng.random((2, 2, 2)))),
        ]
    ],
    Case("huber-delta", lambda x, y: ops.huber(x, y, 0.3), (normal(2, 3), normal(2, 3)), lambda x, y: F.huber_loss(x, y, delta=0.3)),
    Case("kl_categorical-none", lambda p, q: ops.kl_categorical(p, q, "none"), (probabilities(2, 1, 3), probabilities(2, 1, 3)), torch_kl),
    Case("entropy-none", lambda p: ops.entropy(p, "none"), (probabilities(2, 1, 3),), lambda p: -(p.exp() * p).sum(-1)),
    Case("entropy-mean", ops.entropy, (probabilities(2, 3),), lambda p: -(p.exp() * p).sum(-1).mean()),
    Case("kl_categorical-mean", ops.kl_categorical, (probabilities(2, 3), probabilities(2, 3)), lambda p, q: torch_kl(p, q).mean()),
    Case("kl_categorical-sum", lambda p, q: ops.kl_categorical(p, q, "sum"), (probabilities(2, 3), probabilities(2, 3)), lambda p, q: torch_kl(p, q).sum()),
    Case("kl_gaussian-none", lambda m, s: ops.kl_gaussian(m, s, "none"), (normal(2, 3), normal(2, 3)), torch_kl_gaussian),
    Case("kl_gaussian-mean", ops.kl_gaussian, (normal(2, 3), normal(2, 3)), lambda m, s: torch_kl_gaussian(m, s).mean()),
    Case("kl_gaussian-sum", lambda m, s: ops.kl_gaussian(m, s, "sum"), (normal(2, 3), normal(2, 3)), lambda m, s: torch_kl_gaussian(m, s).sum()),
]  # fmt: skip

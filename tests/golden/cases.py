"""The golden cases of ops and layers: {name: Case}. Each has a reference of its name in `make.py`."""

import numpy as np
from golden.formula import Case, wave

from tinygen import nn, ops

RNG = np.random.default_rng(0)  # for constructors; all that is drawn is replaced by waves

IDS = np.array([[0, 3, 1, 4], [2, 2, 0, 3]])
REAL = np.arange(4) < np.array([[3], [4]])  # the first text ends with padding
X2, X3, X4 = wave(5, 4, k=20), wave(2, 4, 6, k=21), wave(2, 4, 6, 5, k=22)
STATE = wave(4, 2, 3, k=23), wave(4, 2, 3, k=24)  # of two layers, both ways: each starts elsewhere
FAR = wave(3, 7, k=25, scale=4.0)

ACTIVATIONS = {
    "gelu": lambda x: ops.gelu(x),
    "gelu-tanh": lambda x: ops.gelu(x, "tanh"),
    "silu": lambda x: ops.silu(x),
    "softplus": lambda x: ops.softplus(x),
    "sigmoid": lambda x: ops.sigmoid(x),
    "relu": lambda x: ops.relu(x),
    "leaky_relu": lambda x: ops.leaky_relu(x),
    "erf": lambda x: ops.erf(x),
    "log_softmax": lambda x: ops.log_softmax(x),
}

LOSSES = {
    "bce_with_logits": (lambda x, y: ops.bce_with_logits(x, y), (FAR, (wave(3, 7, k=26) + 1) / 2)),
    "mse": (lambda x, y: ops.mse(x, y), (FAR, wave(3, 7, k=26))),
    "l1": (lambda x, y: ops.l1(x, y), (FAR, wave(3, 7, k=26))),
    "huber": (lambda x, y: ops.huber(x, y), (FAR, wave(3, 7, k=26))),
    "kl_gaussian": (lambda m, v: ops.kl_gaussian(m, v, "sum"), (X2, wave(5, 4, k=27))),
    "cross_entropy": (
        lambda x: ops.cross_entropy(x, np.array([1, 6, -100]), label_smoothing=0.1),
        (FAR,),
    ),
}

LAYERS = {
    "linear": Case(lambda: nn.Linear(4, 3, rng=RNG), (X2,)),
    "embedding": Case(lambda: nn.Embedding(5, 3, rng=RNG), (IDS,)),
    "conv1d": Case(lambda: nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, rng=RNG), (X3,)),
    "conv2d": Case(
        lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2, rng=RNG),
        (X4,),
    ),
    "conv_transpose1d": Case(
        lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2, rng=RNG), (X3,)
    ),
    "conv_transpose2d": Case(
        lambda: nn.ConvTranspose2d(4, 2, (3, 4), stride=(2, 3), padding=(1, 2), groups=2, rng=RNG), (X4,)
    ),
    "layer_norm": Case(lambda: nn.LayerNorm(4, eps=0.1), (X2,)),
    "layer_norm-default": Case(lambda: nn.LayerNorm(4), (X2 / 100,)),
    "rms_norm": Case(lambda: nn.RMSNorm(4, eps=0.1), (X2,)),
    "group_norm": Case(lambda: nn.GroupNorm(2, 4, eps=0.1), (X4,)),
    "group_norm-default": Case(lambda: nn.GroupNorm(2, 4), (X4 / 100,)),
    "batch_norm": Case(
        lambda: nn.BatchNorm(4, eps=0.1, momentum=0.3),
        (X4,),
        lambda m, x: (m(x), m.running_mean, m.running_var),
    ),
    "batch_norm-evaluation": Case(lambda: nn.BatchNorm(4, eps=0.1).eval(), (X4,)),
    "batch_norm-default": Case(
        lambda: nn.BatchNorm(4), (X4 / 100,), lambda m, x: (m(x), m.running_mean, m.running_var)
    ),
    "attention": Case(lambda: nn.MultiHeadAttention(6, 2, rng=RNG), (wave(2, 4, 6, k=28),)),
    "attention-masked": Case(
        lambda: nn.MultiHeadAttention(6, 2, rng=RNG),
        (wave(2, 4, 6, k=28),),
        lambda m, x: m(x, REAL[:, None, None]),
    ),
    "attention-causal": Case(
        lambda: nn.MultiHeadAttention(6, 2, causal=True, rng=RNG), (wave(2, 4, 6, k=28),)
    ),
    "attention-rotary": Case(
        lambda: nn.MultiHeadAttention(8, 2, causal=True, use_rotary=True, rng=RNG), (wave(2, 5, 8, k=29),)
    ),
    "cross_attention": Case(
        lambda: nn.CrossAttention(6, 2, 5, rng=RNG),
        (wave(2, 3, 6, k=30), wave(2, 4, 5, k=31)),
        lambda m, x, context: m(x, context, REAL[:, None, None]),
    ),
    "block": Case(
        lambda: nn.Block(6, 2, causal=True, gelu="none", norm_eps=0.1, rng=RNG), (wave(2, 4, 6, k=28),)
    ),
    "block-everywhere": Case(
        lambda: nn.Block(6, 2, causal=False, gelu="none", rng=RNG), (wave(2, 4, 6, k=28),)
    ),
    "mlp": Case(lambda: nn.MLP(4, rng=RNG), (X2,)),
    "rnn": Case(
        lambda: nn.RNN(4, 3, 2, bidirectional=True, rng=RNG),
        (wave(2, 5, 4, k=32), STATE[0]),
        lambda m, x, h: m(x, h),
    ),
    "lstm": Case(
        lambda: nn.LSTM(4, 3, 2, bidirectional=True, rng=RNG),
        (wave(2, 5, 4, k=32), *STATE),
        lambda m, x, h, c: (lambda y, last: (y, *last))(*m(x, (h, c))),
    ),
    "gru": Case(
        lambda: nn.GRU(4, 3, 2, bidirectional=True, rng=RNG),
        (wave(2, 5, 4, k=32), STATE[0]),
        lambda m, x, h: m(x, h),
    ),
    "lstm-padded": Case(
        lambda: nn.LSTM(4, 3, bidirectional=True, rng=RNG),
        (wave(2, 5, 4, k=32),),
        lambda m, x: (lambda y, last: (y, *last))(*m(x, lengths=np.array([3, 5]))),
    ),
    "res_block": Case(
        lambda: nn.ResBlock(8, 4, 5, groups=2, rng=RNG), (wave(2, 8, 3, 4, k=33), wave(2, 5, k=34))
    ),
    "res_block-scale_shift": Case(
        lambda: nn.ResBlock(8, 8, 5, scale_shift=True, groups=2, rng=RNG),
        (wave(2, 8, 3, 4, k=33), wave(2, 5, k=34)),
    ),
    "downsample": Case(lambda: nn.Downsample(4, rng=RNG), (X4,)),
    "upsample": Case(lambda: nn.Upsample(4, rng=RNG), (X4,)),
    "spatial_attention": Case(
        lambda: nn.SpatialAttention(8, 2, groups=4, rng=RNG), (wave(2, 8, 3, 2, k=35),)
    ),
    "spatial_transformer": Case(
        lambda: nn.SpatialTransformer(8, 2, 5, 2, groups=4, rng=RNG),
        (wave(2, 8, 3, 2, k=35), wave(2, 4, 5, k=31)),
        lambda m, x, context: m(x, context, REAL),
    ),
}

FUNCTIONS = {
    "timestep_embedding": Case(None, (), lambda: nn.timestep_embedding(np.array([0, 1, 7]), 8), 1e-6),
    "max_pool2d": Case(None, (X4,), lambda x: ops.max_pool2d(x, 3, 2, 1)),
    "max_pool1d": Case(None, (X3,), lambda x: ops.max_pool1d(x, 2, 3, 1)),
    "avg_pool2d": Case(None, (X4,), lambda x: ops.avg_pool2d(x, 3, 2, 1)),
    "logsumexp": Case(None, (FAR,), lambda x: ops.logsumexp(x, axis=1)),
}

CASES: dict[str, Case] = {
    **{name: Case(None, (FAR,), f) for name, f in ACTIVATIONS.items()},
    **{name: Case(None, inputs, f) for name, (f, inputs) in LOSSES.items()},
    **FUNCTIONS,
    **LAYERS,
}

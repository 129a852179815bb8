"""Faster ways to compute the ops, each proved equal to the op's definition.

The body of an op in `tinygen/ops/` is its definition: what is read, what higher orders use, and the
oracle that kernels are tested against, in value and gradient. A kernel is a function of the same
arguments and results for NumPy arrays; one that doesn't take what it is given returns NotImplemented,
and the next one is asked, in the end the definition. `kernels("off")` leaves only definitions,
`kernels("numpy")` takes kernels that need no compiler, `kernels("auto")`, the default, the best there is:
those in `compiled/`, where Numba is installed. `kernels.table()` lists them.
"""

from tinygen import ops
from tinygen.kernels import attention, gelu, index, linear, loss, norm, shape  # noqa: F401 (they register their kernels)
from tinygen.kernels.memory import keep_freed_memory
from tinygen.kernels.registry import kernels, many_pairs, many_products, many_steps, many_taps
from tinygen.ops.activation import dropped
from tinygen.ops.conv import convolution, correlation, transposed_convolution
from tinygen.ops.loss import binary_losses, token_losses
from tinygen.ops.pool import max_pool
from tinygen.ops.random import NORMAL, UNIFORM

__all__ = ["kernels"]

kernels.later(ops.attention, "attention")
kernels.later(convolution, "conv", many_taps)
kernels.later(transposed_convolution, "conv", many_taps)
kernels.later(correlation, "conv", many_pairs)
kernels.later(max_pool, "pool")
kernels.later(ops.upsample_nearest, "pool")
kernels.later(ops.gelu, "activation", many_steps)
kernels.later(ops.relu, "entrywise")
kernels.later(ops.sigmoid, "entrywise")
kernels.later(ops.tanh, "entrywise")
kernels.later(ops.softplus, "entrywise")
kernels.later(ops.silu, "entrywise")
kernels.later(ops.softmax, "activation")
kernels.later(ops.log_softmax, "activation")
kernels.later(ops.layer_norm, "norm", many_steps)
kernels.later(ops.rms_norm, "norm")
kernels.later(ops.group_norm, "group_norm")
kernels.later(ops.linear, "linear", many_products)
kernels.later(ops.matmul, "linear", many_products)
kernels.later(ops.rnn, "recurrent")
kernels.later(ops.lstm, "recurrent")
kernels.later(ops.gru, "recurrent")
kernels.later(ops.scatter_add, "index")
kernels.later(token_losses, "loss")
kernels.later(binary_losses, "loss")

kernels.on_gpu(ops.softmax, "softmax")
kernels.on_gpu(ops.layer_norm, "layer_norm")
kernels.on_gpu(ops.group_norm, "group_norm")
kernels.on_gpu(ops.gelu, "gelu")
kernels.on_gpu(ops.relu, "entrywise")
kernels.on_gpu(ops.sigmoid, "entrywise")
kernels.on_gpu(ops.tanh, "entrywise")
kernels.on_gpu(ops.softplus, "entrywise")
kernels.on_gpu(ops.silu, "entrywise")
kernels.on_gpu(token_losses, "cross_entropy")
kernels.on_gpu(ops.scatter_add, "embedding")
kernels.on_gpu(ops.attention, "attention")
kernels.on_gpu(convolution, "im2col")
kernels.on_gpu(transposed_convolution, "im2col")
kernels.on_gpu(correlation, "im2col")
kernels.on_gpu(UNIFORM, "philox")
kernels.on_gpu(NORMAL, "philox")
kernels.on_gpu(dropped, "philox")

keep_freed_memory()

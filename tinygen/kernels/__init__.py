"""Faster ways to compute the ops, each proved equal to the op's definition.

The body of an op in `tinygen/ops/` is its definition: the code to read, the code that higher-order
derivatives use, and the reference for the tests of kernels, in value and gradient. A kernel is a function
with the same arguments and results for arrays. A kernel that does not support its arguments returns
NotImplemented; then the next kernel is tried, and finally the definition. `kernels("off")` runs only
definitions, `kernels("numpy")` also kernels that need no compiler; `kernels("auto")`, the default, also the
compiled kernels in `compiled/`, if Numba is installed. `kernels.table()` lists all kernels.
"""

from tinygen import ops
from tinygen.kernels import attention, gelu, index, linear, loss, norm, shape, winograd  # noqa: F401 (they register their kernels)
from tinygen.kernels.memory import keep_freed_memory
from tinygen.kernels.registry import kernels, many_pairs, many_products, many_steps, many_taps
from tinygen.ops.activation import apply_dropout
from tinygen.ops.conv import convolution, correlation, transposed_convolution
from tinygen.ops.loss import binary_losses, token_losses
from tinygen.ops.pool import max_pool
from tinygen.ops.random import NORMAL, UNIFORM
from tinygen.ops.rotary import rotate_pairs

__all__ = ["kernels"]

kernels.register_compiled(ops.attention, "attention")
kernels.register_compiled(rotate_pairs, "rotary")
kernels.register_compiled(convolution, "conv", many_taps)
kernels.register_compiled(transposed_convolution, "conv", many_taps)
kernels.register_compiled(correlation, "conv", many_pairs)
kernels.register_compiled(max_pool, "pool")
kernels.register_compiled(ops.upsample_nearest, "pool")
kernels.register_compiled(ops.gelu, "activation", many_steps)
kernels.register_compiled(ops.relu, "entrywise")
kernels.register_compiled(ops.leaky_relu, "entrywise")
kernels.register_compiled(ops.sigmoid, "entrywise")
kernels.register_compiled(ops.tanh, "entrywise")
kernels.register_compiled(ops.softplus, "entrywise")
kernels.register_compiled(ops.silu, "entrywise")
kernels.register_compiled(ops.softmax, "activation")
kernels.register_compiled(ops.log_softmax, "activation")
kernels.register_compiled(ops.layer_norm, "norm", many_steps)
kernels.register_compiled(ops.rms_norm, "norm")
kernels.register_compiled(ops.group_norm, "group_norm")
kernels.register_compiled(ops.batch_norm, "batch_norm")
kernels.register_compiled(ops.linear, "linear", many_products)
kernels.register_compiled(ops.matmul, "linear", many_products)
kernels.register_compiled(ops.rnn, "recurrent")
kernels.register_compiled(ops.lstm, "recurrent")
kernels.register_compiled(ops.gru, "recurrent")
kernels.register_compiled(ops.scatter_add, "index")
kernels.register_compiled(token_losses, "loss")
kernels.register_compiled(binary_losses, "loss")

kernels.register_gpu(ops.softmax, "softmax")
kernels.register_gpu(ops.layer_norm, "layer_norm")
kernels.register_gpu(ops.group_norm, "group_norm")
kernels.register_gpu(ops.gelu, "gelu")
kernels.register_gpu(ops.relu, "entrywise")
kernels.register_gpu(ops.sigmoid, "entrywise")
kernels.register_gpu(ops.tanh, "entrywise")
kernels.register_gpu(ops.softplus, "entrywise")
kernels.register_gpu(ops.silu, "entrywise")
kernels.register_gpu(token_losses, "cross_entropy")
kernels.register_gpu(ops.scatter_add, "embedding")
kernels.register_gpu(ops.attention, "attention")
kernels.register_gpu(convolution, "im2col")
kernels.register_gpu(transposed_convolution, "im2col")
kernels.register_gpu(correlation, "im2col")
kernels.register_gpu(UNIFORM, "philox")
kernels.register_gpu(NORMAL, "philox")
kernels.register_gpu(apply_dropout, "philox")

keep_freed_memory()

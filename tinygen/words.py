"""Names that PyTorch and NumPy have and tinygen does not, and what to write instead: for error messages."""

from __future__ import annotations

import re

KEYWORDS = {
    "dim": "the word here is axis=",
    "dims": "the word here is axis=",
    "keepdim": "the word here is keepdims=",
    "dim0": "the words here are axis1 and axis2",
    "correction": "the word here is ddof=",
    "unbiased": "the word here is ddof=1",
    "descending": "sort, and then np.flip",
    "largest": "np.sort, np.partition or np.argsort do this",
    "out": "it would write into an array, and the graph would be lost: use what is returned",
    "where": "entries that it leaves out have no value: compute all and choose, np.where(mask, f(x), other)",
    "dtype": "cast the result, or the argument, with .astype(dtype)",
    "casting": "cast the argument with .astype(dtype)",
    "order": "Tensors have one order in memory, leave it out",
    "subok": "Tensors have no subclasses, leave it out",
    "create_graph": "for gradients of gradients use tinygen.grad of a function, or tinygen.vjp, hvp, hessian",
    "inputs": "every leaf gets its gradient: take those that you need",
    "retain_variables": "the word here is retain_graph=",
}
"""Keyword -> what to do. An error that says "unexpected keyword argument" says this too."""

METHODS = {
    "view": "x.reshape(shape)",
    "view_as": "x.reshape(other.shape)",
    "reshape_as": "x.reshape(other.shape)",
    "permute": "x.transpose(axes)",
    "movedim": "np.moveaxis(x, source, destination)",
    "unsqueeze": "x[:, None] or np.expand_dims(x, axis)",
    "unsqueeze_": "np.expand_dims(x, axis)",
    "expand": "np.broadcast_to(x, shape)",
    "expand_as": "np.broadcast_to(x, other.shape)",
    "contiguous": "nothing: leave it out",
    "is_contiguous": "nothing: Tensors need not be contiguous",
    "cpu": 'x.to("cpu")',
    "cuda": 'x.to("cuda")',
    "requires_grad_": "x.requires_grad = True, or Tensor(data, requires_grad=True)",
    "clone": "x.copy()",
    "detach_": "x.detach()",
    "type": "x.astype(dtype); x.dtype says which it is",
    "type_as": "x.astype(other.dtype)",
    "float": "x.astype(np.float32)",
    "double": "x.astype(np.float64)",
    "half": "x.astype(np.float16)",
    "long": "x.astype(np.int64)",
    "int": "x.astype(np.int32), or int(x)",
    "bool": "x.astype(bool)",
    "new_zeros": "np.zeros_like(x, shape=shape)",
    "new_ones": "np.ones_like(x, shape=shape)",
    "new_full": "np.full_like(x, value, shape=shape)",
    "new_tensor": "Tensor(data)",
    "numel": "x.size",
    "dim": "x.ndim",
    "nelement": "x.size",
    "element_size": "x.itemsize",
    "t": "x.T",
    "mH": "np.conj(x.mT)",
    "mm": "x @ y",
    "bmm": "x @ y",
    "matmul": "x @ y",
    "mv": "x @ v",
    "addmm": "x + a @ b",
    "ger": "np.outer(a, b)",
    "add": "x + y",
    "sub": "x - y",
    "mul": "x * y",
    "div": "x / y",
    "pow": "x ** p",
    "neg": "-x",
    "cat": "np.concatenate(tensors, axis)",
    "chunk": "np.array_split(x, n, axis)",
    "split": "np.split(x, sections, axis)",
    "unbind": "list(x), or np.unstack(x, axis=axis)",
    "select": "x[:, i], or np.take(x, i, axis)",
    "narrow": "a slice, x[:, start:stop]",
    "index_select": "np.take(x, indices, axis)",
    "gather": "np.take_along_axis(x, indices, axis)",
    "scatter": "tinygen.ops.scatter_add(values, index, shape), or np.where",
    "scatter_": "tinygen.ops.scatter_add(values, index, shape), or np.where",
    "scatter_add": "tinygen.ops.scatter_add(values, index, shape)",
    "scatter_add_": "tinygen.ops.scatter_add(values, index, shape)",
    "index_add": "tinygen.ops.scatter_add(values, index, shape)",
    "index_add_": "tinygen.ops.scatter_add(values, index, shape)",
    "masked_fill": "np.where(mask, value, x)",
    "masked_fill_": "np.where(mask, value, x)",
    "masked_select": "x[mask]",
    "repeat_interleave": "x.repeat(n, axis)",
    "tile": "np.tile(x, reps)",
    "roll": "np.roll(x, shift, axis)",
    "flip": "np.flip(x, axis)",
    "fill_": "x.data[...] = value under no gradient, or np.full_like(x, value)",
    "zero_": "np.zeros_like(x); gradients: x.grad = None, optimizer.zero_grad()",
    "copy_": "x.data = array",
    "add_": "x = x + y",
    "sub_": "x = x - y",
    "mul_": "x = x * y",
    "div_": "x = x / y",
    "clamp": "np.clip(x, low, high)",
    "clamp_": "np.clip(x, low, high)",
    "clamp_min": "np.maximum(x, low)",
    "norm": "np.linalg.norm(x, axis=axis)",
    "topk": "np.sort, np.argsort or np.partition",
    "amax": "x.max(axis)",
    "amin": "x.min(axis)",
    "median": "np.median(x, axis)",
    "logsumexp": "tinygen.ops.logsumexp(x, axis)",
    "softmax": "tinygen.ops.softmax(x, axis)",
    "log_softmax": "tinygen.ops.log_softmax(x, axis)",
    "relu": "tinygen.ops.relu(x)",
    "sigmoid": "tinygen.ops.sigmoid(x)",
    "item_": "x.item()",
    "is_leaf": "x.node is None",
    "grad_fn": "x.node",
    "is_cuda": 'x.device == "cuda"',
    "retain_grad": "tinygen.grad or tinygen.vjp of a function of it",
    "register_hook": "an @tinygen.op whose rule does it",
    "triu": "np.triu(x, k)",
    "tril": "np.tril(x, k)",
    "diag": "np.diag(x)",
    "inverse": "np.linalg.inv(x)",
    "det": "np.linalg.det(x)",
    "H": "np.conj(x.T)",
    "base": "x.numpy().base",
    "ctypes": "x.numpy().ctypes",
    "getfield": "x.numpy().getfield(...)",
    "dump": "x.numpy().dump(file)",
    "dumps": "x.numpy().dumps()",
    "flat": "x.ravel()",
    "to_device": "x.to(device)",
}
"""Attributes that PyTorch's tensors, or NumPy's arrays, have and Tensors do not -> the code to write here.
Functions of NumPy, such as x.exp(), are answered without a row: np.exp(x)."""

IN_PLACE = {
    "sort": "np.sort(x)",
    "partition": "np.partition(x, kth)",
    "fill": "np.full_like(x, value)",
    "put": "np.where, or tinygen.ops.scatter_add(values, index, shape)",
    "itemset": "np.where",
    "resize": "np.resize(x, shape)",
    "byteswap": "x.numpy().byteswap()",
    "setfield": "np.where",
    "setflags": "x.numpy().setflags(...)",
}
"""Methods of ndarray that write in place -> what to write instead."""

FUNCTIONS = {
    "cat": "np.concatenate",
    "permute": "np.transpose",
    "unsqueeze": "np.expand_dims",
    "clamp": "np.clip",
    "mm": "np.matmul",
    "bmm": "np.matmul",
    "chunk": "np.array_split",
    "gather": "np.take_along_axis",
    "index_select": "np.take",
    "pow": "np.power",
    "sub": "np.subtract",
    "mul": "np.multiply",
    "div": "np.divide",
    "movedim": "np.moveaxis",
    "masked_fill": "np.where",
    "binary_cross_entropy_with_logits": "ops.bce_with_logits",
    "mse_loss": "ops.mse",
    "l1_loss": "ops.l1",
    "nll_loss": "ops.cross_entropy",
    "scaled_dot_product_attention": "ops.attention",
    "norm": "np.linalg.norm",
    "topk": "np.argsort or np.partition",
}
"""PyTorch's functions -> the names here."""


def attribute_hint(name: str) -> str:
    """The error text for a tensor that has no attribute `name`."""
    if name in METHODS:
        return f"a Tensor has no .{name}: the words here are {METHODS[name]}"
    if name.endswith("_") and not name.startswith("_"):
        return f"a Tensor has no .{name}: nothing is written in place, keep the result, x = np.{name[:-1]}(x)"
    return f"a Tensor has no .{name}"


def keyword_hint(text: str) -> str:
    """ ": what to do" where `text` is Python's error about a keyword that is known here, else nothing."""
    found = re.search(r"unexpected keyword argument '(\w+)'", text)
    if found is None or found[1] not in KEYWORDS or KEYWORDS[found[1]] in text:
        return ""
    return f": {KEYWORDS[found[1]]}"

"""tinygen on the GPU: kernels to learn from, one family a file, written in Python and compiled by Numba.

Read `simt.py` first (what blocks and threads are), then `reduce.py`, `softmax.py`, `layer_norm.py`, and
`flash.py` last. Each file begins with a diagram; the kernels follow, and last comes the function that
launches them. This function takes the same arguments as the op's definition in `tinygen/ops/` and returns the
same value and gradients.

`tinygen.kernels` knows the kernels by name and imports them at the first op on a GPU array: after
`model.to("cuda")` you need to do nothing else. Without Numba, or if a kernel does not support the arguments,
the definition runs on CuPy.
"""

"""tinygen on the GPU: kernels to learn from, one family a file, written in Python and compiled by Numba.

Read `simt.py` first (what blocks and threads are), then `reduce.py`, `softmax.py`, `layer_norm.py`, and
`flash.py` last. In every file the picture comes first, then the kernels, then the function that launches
them: it takes the same arguments as an op's definition in `tinygen/ops/` and gives the same value and
gradients.

`tinygen.kernels` knows them by name and imports them at the first op on an array on the GPU:
`model.to("cuda")` is all that it takes. Without Numba, or where a kernel does not take what it is given, the
definition runs on CuPy.
"""

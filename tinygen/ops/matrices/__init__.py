"""np.linalg on Tensors, each of its functions, called by NumPy's names: `np.linalg.solve(a, b)`.

Matrices are the last two axes; the others are a batch. Formulas are from Giles, *Collected matrix derivative
results for forward and reverse mode algorithmic differentiation* (2008), unless a docstring names another
source. They are written with the conjugate transpose Aᴴ (Aᵀ for real numbers) and for gradients ∂L/∂x + i
∂L/∂y, as in textbooks; `textbook` turns such a formula into a rule, which passes on the conjugate
(`ops/complex_numbers.py`).
"""

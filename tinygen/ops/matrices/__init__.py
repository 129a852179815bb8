"""np.linalg on Tensors, each of its functions, called by NumPy's names: `np.linalg.solve(a, b)`.

Matrices are the last two axes; the others are a batch. Formulas are from Giles, *Collected matrix derivative
results for forward and reverse mode algorithmic differentiation* (2008), where nothing else is said. They are
written with the conjugate transpose Aᴴ, which is Aᵀ for real numbers, and for ∂L/∂x + i ∂L/∂y, as books have
them; `textbook` makes of such a formula a rule, which passes on the conjugate (`ops/complex_numbers.py`).
"""

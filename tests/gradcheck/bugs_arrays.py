"""Bugs in shapes, indexing and products."""

import numpy as np
from planting import normal, wrong_op

from tinygen.gradcheck import Kind

# -- shapes ----------------------------------------------------------------------------------------


@wrong_op("transpose", Kind.PLACE, normal(3, 3, 3))
def transpose_back_by_the_same_order(x):
    return x.transpose(1, 2, 0), lambda g: g.transpose(1, 2, 0)


@wrong_op("transpose", Kind.PLACE, normal(2, 3, 4))
def transpose_back_by_a_reshape(x):
    return x.transpose(0, 2, 1), lambda g: g.reshape(x.shape)


@wrong_op("swapaxes", Kind.PLACE, normal(2, 3, 3))
def swapaxes_not_swapped_back(x):
    return x.swapaxes(1, 2), lambda g: g


@wrong_op("reshape", Kind.PLACE, normal(3, 4))
def reshape_back_in_the_other_order(x):
    return x.reshape(12), lambda g: g.reshape(4, 3).T


@wrong_op("flip", Kind.PLACE, normal(3, 4))
def flip_not_flipped_back(x):
    return np.flip(x, 1), lambda g: g


@wrong_op("roll", Kind.PLACE, normal(2, 5))
def roll_not_rolled_back(x):
    return np.roll(x, 1, axis=1), lambda g: g


@wrong_op("roll", Kind.PLACE, normal(2, 5))
def roll_on_in_the_same_direction(x):
    return np.roll(x, 1, axis=1), lambda g: np.roll(g, 1, axis=1)


@wrong_op("pad", Kind.PLACE, normal(3, 4))
def pad_cut_off_by_one(x):
    return np.pad(x, ((0, 0), (2, 2))), lambda g: g[:, 1:5]


@wrong_op("concatenate", Kind.PLACE, normal(2, 3), normal(2, 3))
def concatenate_with_its_parts_swapped(a, b):
    return np.concatenate([a, b], axis=1), lambda g: g[:, 3:], lambda g: g[:, :3]


@wrong_op("concatenate", Kind.PLACE, normal(2, 3), normal(2, 4))
def concatenate_with_the_cut_off_by_one(a, b):
    return np.concatenate([a, b], axis=1), lambda g: g[:, :3], lambda g: g[:, 2:6]


@wrong_op("stack", Kind.PLACE, normal(2, 3), normal(2, 3))
def stack_with_its_parts_swapped(a, b):
    return np.stack([a, b]), lambda g: g[1], lambda g: g[0]


@wrong_op("split", None, normal(2, 6))
def split_with_its_parts_swapped(x):
    return (x[:, :3] * 1, x[:, 3:] * 1), lambda gs: np.concatenate([gs[1], gs[0]], axis=1)


@wrong_op("repeat", Kind.SUM, normal(3, 2))
def repeat_with_one_of_its_copies(x):
    return np.repeat(x[:, None], 3, axis=1), lambda g: g[:, 0]


@wrong_op("tile", Kind.SUM, normal(3, 2))
def tile_with_its_first_tile_only(x):
    return np.tile(x, (2, 1)), lambda g: g[:3]


@wrong_op("broadcast_to", Kind.CONSTANT, normal(3))
def broadcast_to_averaged(x):
    return np.broadcast_to(x, (4, 3)), lambda g: g.mean(axis=0)


@wrong_op("tril", Kind.MASK, normal(4, 4))
def tril_without_its_mask_in_the_backward(x):
    return np.tril(x), lambda g: g


# -- indexing --------------------------------------------------------------------------------------

IDS = np.array([0, 2, 2, 4, 2])


@wrong_op("getitem", Kind.MASK, normal(5, 3), IDS)
def rows_that_overwrite_repeated_indices(x, ids):
    def dx(g):
        d = np.zeros_like(x)
        d[ids] = g
        return d

    return x[ids], dx


@wrong_op("embedding", Kind.MASK, normal(5, 3), np.array([[0, 1, 3], [3, 1, 4]]))
def embedding_that_adds_repeated_indices_once(table, ids):
    def dtable(g):
        d = np.zeros_like(table)
        d[ids] += g  # buffered: of repeated indices the last one wins
        return d

    return table[ids], dtable


@wrong_op("getitem", Kind.PLACE, normal(6, 2))
def slice_back_off_by_one(x):
    def dx(g):
        d = np.zeros_like(x)
        d[0:4] = g
        return d

    return x[1:5], dx


@wrong_op("scatter_add", None, normal(4, 2), np.array([3, 0, 2, 1]))
def scatter_with_its_indices_inverted(x, ids):
    y = np.zeros_like(x)
    y[ids] = x
    return y, lambda g: g[np.argsort(ids)]


@wrong_op("take_along_axis", Kind.SUM, normal(3, 4), np.array([1, 3, 0]))
def picks_of_the_first_row_only(x, ids):
    def dx(g):
        d = np.zeros_like(x)
        d[0, ids[0]] = g[0]
        return d

    return x[np.arange(3), ids], dx


# -- products --------------------------------------------------------------------------------------


@wrong_op("matmul", Kind.PLACE, normal(3, 3), normal(3, 3))
def matmul_with_b_not_transposed(a, b):
    return a @ b, lambda g: g @ b, lambda g: a.T @ g


@wrong_op("matmul", Kind.PLACE, normal(4, 3), normal(3, 4))
def matmul_with_the_gradient_of_b_transposed(a, b):
    return a @ b, lambda g: g @ b.T, lambda g: (g @ a).T


@wrong_op("matmul", Kind.PLACE, normal(2, 3, 3), normal(2, 3, 3))
def batched_matmul_with_a_not_transposed(a, b):
    return a @ b, lambda g: g @ b.swapaxes(-1, -2), lambda g: a @ g


@wrong_op("matmul", Kind.RAISES, normal(2, 3), normal(3, 4))
def matmul_whose_rule_does_not_fit(a, b):
    return a @ b, lambda g: g @ b, lambda g: a.T @ g


@wrong_op("matmul", Kind.CONSTANT, normal(3, 4), normal(4, 2))
def scaled_product_without_its_scale(a, b):
    return (a @ b) / 2.0, lambda g: g @ b.T / 2.0, lambda g: a.T @ g


@wrong_op("linear", Kind.PLACE, normal(5, 3), normal(3, 3), normal(3))
def linear_with_its_weight_not_transposed(x, w, b):
    return x @ w.T + b, lambda g: g @ w, lambda g: x.T @ g, lambda g: g.sum(axis=0)


@wrong_op("linear", Kind.CONSTANT, normal(5, 3), normal(2, 3), normal(2))
def linear_with_the_mean_over_the_batch(x, w, b):
    return x @ w.T + b, lambda g: g @ w, lambda g: g.T @ x / len(x), lambda g: g.sum(axis=0)


@wrong_op("linear", Kind.SUM, normal(2, 4, 3), normal(2, 3), normal(2))
def linear_with_the_bias_of_the_first_sequence(x, w, b):
    def dw(g):
        return g.reshape(-1, 2).T @ x.reshape(-1, 3)

    return x @ w.T + b, lambda g: g @ w, dw, lambda g: g[0].sum(axis=0)


@wrong_op("outer", Kind.PLACE, normal(4), normal(4))
def outer_with_one_side_for_both(a, b):
    return np.outer(a, b), lambda g: g @ b, lambda g: g @ a


@wrong_op("einsum", Kind.SUM, normal(2, 3, 4), normal(2, 4, 3))
def product_with_its_batch_summed(a, b):
    def db(g):
        return np.broadcast_to(np.einsum("bnk,bnm->km", a, g), b.shape)

    return a @ b, lambda g: g @ b.swapaxes(1, 2), db


@wrong_op("dot", None, normal(4), normal(4, 4))
def quadratic_form_of_a_matrix_taken_as_symmetric(x, a):
    return x @ a @ x, lambda g: g * 2 * (a @ x), lambda g: g * np.outer(x, x)


@wrong_op("inv", Kind.CONSTANT, normal(3, 3) + 3 * np.eye(3))
def inverse_without_its_minus(x):
    y = np.linalg.inv(x)
    return y, lambda g: y.T @ g @ y.T
